"""Run by accelerate in two processes: trains a model that is spread over them, stops half way, and goes on.

Arguments: the model, a table of tokens, and a folder. The first process prints what it held and how the losses went.
"""

import json
import os
import sys
from pathlib import Path

from forgetfilter.data.tokens import TokenTable
from forgetfilter.models import training
from forgetfilter.models.processes import Processes
from forgetfilter.models.sharding import own_part
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings, TrainingSettings

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=4)
STEPS = 6


def train(session, table, folder, *, killed=False):
    def on_step(step):
        if killed and step.step == STEPS // 2:
            raise InterruptedError

    folder.mkdir(exist_ok=True)
    return training.finetune(session, table, table.scorable, STEPS, SETTINGS, folder, on_step, tokens_per_batch=100)


def main(model, tokens, folder):
    training._SECONDS_BETWEEN_CHECKPOINTS = 0
    processes = Processes("cpu")
    settings = ModelSettings(device="cpu", dtype="float32")
    session = TrainableModel(find_model(model), settings, AdapterSettings(lora_rank=4), seed=0)
    table = TokenTable(Path(tokens))
    losses = [step.loss for step in train(session, table, Path(folder) / "whole")]
    session.reset()
    try:
        train(session, table, Path(folder) / "killed", killed=True)
    except InterruptedError:
        session.reset()
    resumed = [step.loss for step in train(session, table, Path(folder) / "killed")]
    if processes.main:
        held = sum(own_part(parameter).numel() for parameter in session.model.parameters())
        told = {"held": held, "of": sum(p.numel() for p in session.model.parameters())}
        print(json.dumps({**told, "losses": losses, "resumed": resumed}), flush=True)
    # The first process may still be gathering the last checkpoint.
    processes.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # As the tool does: threads of the process group that outlive the interpreter now and then make it abort.
    os._exit(0)
