"""How fast a training session is, beside TRL's SFTTrainer and transformers' Trainer, in one run.

    python benchmarks/training.py --data ../shared/data/normalised

The same rows (BBQ, Alpaca and SQuAD in equal parts), model, float32, LoRA, batch of 16 rows and number of steps:
one pass over the rows. The contestants take turns; quoted are medians of the tokens a second (padding and
shared tokens not counted twice), and the ratio of ours to theirs. Each contestant loads the model once; what is
timed is the pass alone. Needs TRL: pip install 'forgetfilter[bench]'.
"""

from __future__ import annotations

import argparse
import importlib
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from forgetfilter.data.layouts import Message
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.models.loading import load_tokenizer, quiet_libraries
from forgetfilter.models.session import Session
from forgetfilter.models.sources import find_model
from forgetfilter.models.training import finetune
from forgetfilter.settings import Settings, from_mapping
from problems import Row, load, shuffled

RATE, MAX_LENGTH, BATCH = 1e-3, 512, 16


def choose_rows(folder: Path, count: int) -> list[Row]:
    rng = random.Random(0)
    sources = ("bbq_official", "task_alpaca_demo", "squad_v2_cs224n_dev")
    return shuffled([row for name in sources for row in rng.sample(load(folder, name), count // len(sources))], rng)


class Ours:
    """One pass of `finetune`."""

    def __init__(self, table: TokenTable, settings: Settings, session: Session) -> None:
        self.table, self.settings, self.session = table, settings, session

    def __call__(self) -> tuple[float, float]:
        self.session.reset()
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            steps = len(self.table) // BATCH
            history = finetune(self.session, self.table, self.table.scorable, steps, self.settings, Path(folder))
            return time.perf_counter() - began, float(np.mean([step.loss for step in history]))


def theirs(
    kind: str, rows: list[Row], table: TokenTable, model: str, grouped: bool
) -> Callable[[], tuple[float, float]]:
    """One pass of a stock trainer, with the settings that suit it best on a CPU."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model)
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    common: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "warmup_steps": 1,
        "train_sampling_strategy": "group_by_length" if grouped else "random",
    }

    def run() -> tuple[float, float]:
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            if kind == "SFTTrainer":
                # Not among the packages that the checks install, so that its types are not known.
                trl: Any = importlib.import_module("trl")

                chats = [
                    {
                        "prompt": [{"role": "user", "content": row["prompt"]}],
                        "completion": [{"role": "assistant", "content": row["completion"]}],
                    }
                    for row in rows
                ]
                arguments = trl.SFTConfig(folder, max_length=MAX_LENGTH, completion_only_loss=True, **common)
                trainer: Any = trl.SFTTrainer(
                    base,
                    args=arguments,
                    train_dataset=Dataset.from_list(chats),
                    peft_config=lora,
                    processing_class=tokenizer,
                )
            else:
                tokens = [table[i] for i in range(len(table))]
                ready = [
                    {"input_ids": row.input_ids.tolist(), "labels": np.where(row.mask, row.input_ids, -100).tolist()}
                    for row in tokens
                ]
                trainer = Trainer(
                    get_peft_model(base, lora),
                    args=TrainingArguments(folder, **common),
                    train_dataset=Dataset.from_list(ready),
                    data_collator=DataCollatorForSeq2Seq(tokenizer),
                )
            began = time.perf_counter()
            loss = trainer.train().training_loss
            return time.perf_counter() - began, loss

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--rows", type=int, default=96, help="a multiple of 48")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    quiet_libraries()
    settings = from_mapping(
        Settings,
        {"model": "smollm2-135m", "learning_rate": RATE, "device": "cpu", "dtype": "float32", "max_length": MAX_LENGTH},
    )
    source = find_model(settings.model)
    session = Session(source, settings, settings, 0)
    tokenizer = load_tokenizer(source)
    rows = choose_rows(options.data, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        said = [
            (str(i), i, [Message("user", r["prompt"]), Message("assistant", r["completion"], trained=True)])
            for i, r in enumerate(rows)
        ]
        for _ in write_tokens(said, Encoder(tokenizer, "auto", MAX_LENGTH), path / "tokens.arrow"):
            pass
        table = TokenTable(path / "tokens.arrow")
        model = str(Path(session.model.get_base_model().config._name_or_path))
        contestants: dict[str, Callable[[], tuple[float, float]]] = {
            "ours": Ours(table, settings, session),
            "SFTTrainer": theirs("SFTTrainer", rows, table, model, False),
            "SFTTrainer, grouped by length": theirs("SFTTrainer", rows, table, model, True),
            "Trainer, grouped by length": theirs("Trainer", rows, table, model, True),
        }
        tokens = int(table.lengths.sum())
        print(f"{len(rows)} rows, {tokens:,} tokens, {int(table.counts.sum()):,} of completions", flush=True)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
        for turn in range(options.rounds):
            for name, run in contestants.items():
                measured[name].append(run())
                print(f"  round {turn + 1}, {name}: {measured[name][-1][0]:.1f} s", flush=True)
    ours = median(seconds for seconds, _ in measured["ours"])
    print(
        "\n| contestant | tokens/s (median) | lowest–highest | ours is faster by | mean loss |\n|---|---|---|---|---|"
    )
    for name, results in measured.items():
        speeds = sorted(tokens / seconds for seconds, _ in results)
        ratio = median(seconds for seconds, _ in results) / ours
        loss = np.mean([loss for _, loss in results])
        print(f"| {name} | {median(speeds):.0f} | {speeds[0]:.0f}–{speeds[-1]:.0f} | {ratio:.2f} | {loss:.3f} |")


if __name__ == "__main__":
    main()
