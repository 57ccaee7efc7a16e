"""Train a model: the one loop, in which learning, review and the final fine-tuning all run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.tokens import TokenTable
from ..errors import TrainingError
from ..runs.files import written_whole
from ..runs.layout import CHECKPOINT
from ..settings.groups import TrainingSettings
from .gpu import graph_steps  # noqa: F401 - registers how a GPU takes its steps
from .micro_batches import optimizer_batches
from .optimizer_steps import DealtRows, steps_along
from .sharding import gathered, spread_as
from .trainable_model import TrainableModel

_SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True)
class Step:
    """Records what one optimizer step did.

    Attributes:
        step: Counted from 1.
        loss: Mean negative log-likelihood of the step's completion tokens, before the update, in nats.
        learning_rate: The rate of the update.
        tokens: Tokens that went through the model, padding not counted.
        seconds: Wall time.
    """

    step: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


class Callback(Protocol):
    """Looks at a training session after each step, and may end it.

    What it keeps goes into the session's folder, by step, for a session that is killed and goes on.
    """

    def __call__(self, history: list[Step], /) -> bool:
        """Return whether the session should end after these steps.

        It is called on every process, and must answer alike there and in a session that goes on.
        """


def steps_for(rows: int, epochs: float | None, batch_size: int) -> int:
    """Compute the optimizer steps of this many epochs over the rows, at least one.

    None stands for what was found to suit the method: at least 3 epochs, and at least 75 steps.
    """
    per_pass = math.ceil(rows / batch_size)
    if epochs is None:
        epochs = max(3, math.ceil(75 / per_pass))
    return max(1, math.ceil(epochs * per_pass))


def finetune(
    model: TrainableModel,
    table: TokenTable,
    rows: NDArray[np.intp],
    steps: int,
    settings: TrainingSettings,
    folder: Path,
    on_step: Callable[[Step], None] = lambda _: None,
    on_resume: Callable[[int], None] = lambda _: None,
    callbacks: Sequence[Callback] = (),
    tokens_per_batch: int | None = None,
) -> list[Step]:
    """Train the model from its present state on some rows, for a number of optimizer steps.

    A session that was killed goes on from the last checkpoint in `folder`, to the same weights; on a GPU up to
    rounding.

    Args:
        model: The trainable model; what is trained of it is changed in place.
        table: The tokens of a data set.
        rows: Which of its rows to train on; each needs a completion token.
        steps: Optimizer steps.
        settings: Learning rate, batch size and the like.
        folder: Where checkpoints go; the last one stays, for whoever saves the result to delete.
        on_step: Called after every step.
        on_resume: Called with the number of steps that a killed session had done.
        callbacks: Called after every step, and before the first of a session that goes on; each may end the session.
        tokens_per_batch: The most tokens in one forward pass; None is what suits the device.

    Returns:
        All steps, from the first.

    Raises:
        TrainingError: The loss is not finite; names the step and the rows. The trained weights are useless then.
    """
    peak = model.peak_learning_rate(settings.learning_rate)
    accelerator = model.accelerator
    taker = steps_along(model.scorer, model, settings.weight_decay, settings.max_grad_norm)
    checkpoint = _Checkpoint(folder / CHECKPOINT, model, taker.optimizer)
    history = checkpoint.load()
    on_resume(len(history))
    # The order of the file must not matter, so rows are shuffled from the order of their ids.
    rows = table.by_id(rows)
    lengths, counts = table.lengths[rows], table.counts[rows]
    batches = optimizer_batches(len(rows), settings.batch_size, steps, settings.seed, start=len(history))
    budget = model.token_budget(tokens_per_batch)
    saved = time.monotonic()
    if history and _to_end(callbacks, history):
        batches = iter(())
    for number, batch in enumerate(batches, len(history) + 1):
        began = time.monotonic()
        # Seeded step by step, a session that goes on draws the same dropout as one that was never killed.
        torch.manual_seed(hash((settings.seed, number)))
        rate = learning_rate(number, steps, peak, settings.warmup)
        tokens = {int(j): table[int(rows[j])] for j in batch}
        passes = model.deal(batch, lengths, budget, "train")
        dealt = DealtRows([[tokens[int(j)] for j in chosen] for chosen in passes.rows], passes.side_by_side)
        loss, norm = taker.take(dealt, int(counts[batch].sum()), rate)
        due = accelerator.is_main_process and time.monotonic() - saved >= _SECONDS_BETWEEN_CHECKPOINTS
        # All processes hear from the first whether to save, as they may have to do it together.
        mean_loss, save = accelerator.reduce(torch.stack([loss, torch.full_like(loss, due)]), "sum").tolist()
        if not math.isfinite(mean_loss) or (norm is not None and not math.isfinite(float(norm))):
            raise _not_finite(number, mean_loss, [row.id for row in tokens.values()], rate)
        step = Step(number, mean_loss, rate, int(lengths[batch].sum()), time.monotonic() - began)
        history.append(step)
        on_step(step)
        if _to_end(callbacks, history):
            break
        if save:
            checkpoint.save(history)
            saved = time.monotonic()
    accelerator.wait_for_everyone()
    taker.close()
    if (folder / CHECKPOINT).exists():
        checkpoint.save(history)
    return history


def _to_end(callbacks: Sequence[Callback], history: list[Step]) -> bool:
    # Each is called, whatever the one before it says.
    answers = [callback(history) for callback in callbacks]
    return any(answers)


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Compute the rate of a step, counted from 1: a linear rise over the warm-up, then a linear fall towards 0."""
    rising = math.ceil(warmup * steps)
    share = step / rising if step <= rising else (steps - step + 1) / (steps - rising + 1)
    return peak * share


def _not_finite(step: int, loss: float, ids: list[str], rate: float) -> TrainingError:
    shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return TrainingError(
        f"training stopped at step {step}: its loss is {loss:.3g} and its gradient not finite. "
        f"Rows of this step: {shown}. Try a lower --learning-rate (it was {rate:.2g} here), --dtype float32, "
        "or look at these rows"
    )


class _Checkpoint:
    """Saves and restores weights, optimizer state and history of a session, in one file that is replaced whole.

    It is a safetensors file: nothing is ever unpickled.
    """

    def __init__(self, path: Path, model: TrainableModel, optimizer: torch.optim.AdamW) -> None:
        self._path, self._model, self._optimizer = path, model, optimizer
        self._parameters = model.trained()

    def save(self, history: list[Step]) -> None:
        """Write all of it in the first process; every process must call."""
        weights = ((f"weight/{name}", parameter) for name, parameter in self._parameters.items())
        moments = (
            (f"{key}/{name}", value)
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state[parameter].items()
        )
        main = self._model.accelerator.is_main_process
        tensors = gathered(chain(weights, moments), keep=main)
        if not main:
            return
        with written_whole(self._path) as beside:
            save_file(tensors, beside, metadata={"history": json.dumps([asdict(step) for step in history])})

    def load(self) -> list[Step]:
        """Restore weights and optimizer; returns the steps that were done, none where there is no checkpoint."""
        if not self._path.exists():
            return []
        try:
            with safe_open(self._path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                history = [Step(**step) for step in json.loads(file.metadata()["history"])]
            weights = {n: tensors[f"weight/{n}"] for n in self._parameters}
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self._path}: this checkpoint is damaged; delete it to start the session again"
            ) from error
        self._model.set_trainable(weights)
        for name, parameter in self._parameters.items():
            keys = [key.removesuffix(f"/{name}") for key in tensors if key.endswith(f"/{name}")]
            self._optimizer.state[parameter] = {
                key: self._count(tensors[f"{key}/{name}"], parameter)
                if key == "step"
                else spread_as(parameter, tensors[f"{key}/{name}"])
                for key in keys
                if key != "weight"
            }
        return history

    def _count(self, steps: Tensor, parameter: Tensor) -> Tensor:
        """Put the step count where the optimizer wants it."""
        return steps.to(parameter.device) if self._optimizer.defaults["capturable"] else steps
