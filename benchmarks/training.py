"""How fast a training session is, beside TRL's SFTTrainer and transformers' Trainer, in one run.

    python benchmarks/training.py --data ../shared/data/normalised

    python benchmarks/training.py --data ../shared/data/normalised --top-blocks 0.5 --passes 3

The same rows (BBQ, Alpaca and SQuAD in equal parts), model, number format, LoRA, optimizer steps of 16 rows and number
of steps: one pass over the rows, or some. With adapters on the top blocks alone ours reads the rows through the others
first, which counts. The stock trainers get their rows grouped by length, and one or two rows in a forward
pass with gradient accumulation, since on a CPU padding costs more than small passes (16 rows in a pass take four
times as long), and no packing; on a GPU (--device cuda) a step in one pass, Liger's kernels, and packing. The
contestants take turns; what is timed is the training alone. Where all blocks are trained, the rate of our
floating-point operations is set against that of a large matrix product. Needs TRL: pip install 'forgetfilter[bench]',
and on a GPU liger-kernel.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from contest import BATCH, MAX_LENGTH, RATE, Workload, compete, finish, matrix_rate, prepared, show_speeds
from forgetfilter.models.collating import shared_prefix
from forgetfilter.models.cpu.threads import Lanes
from forgetfilter.models.micro_batches import optimizer_batches
from forgetfilter.models.training import finetune
from problems import Row
from results import add_json

LossRun = Callable[[], tuple[float, float]]


def ours(workload: Workload, lanes: Lanes, passes: int) -> LossRun:
    """So many passes of `finetune`, with so many forward passes side by side."""

    def run() -> tuple[float, float]:
        workload.model.reset()
        workload.model.lanes = lanes
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            steps = passes * len(workload.table) // BATCH
            with workload.read() as table:
                training = workload.settings.training
                history = finetune(workload.model, table, table.scorable, steps, training, Path(folder))
            finish()
            return time.perf_counter() - began, float(np.mean([step.loss for step in history]))

    return run


def stock_arguments(rows_per_pass: int, *, on_gpu: bool = False, **more: Any) -> dict[str, Any]:
    """Arguments of a stock trainer that suit it best on a CPU, or on a GPU."""
    return {
        "per_device_train_batch_size": rows_per_pass,
        "gradient_accumulation_steps": BATCH // rows_per_pass,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "use_cpu": not on_gpu,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        # On a GPU this is TRL's default.
        "bf16": on_gpu,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": on_gpu,
        "warmup_steps": 1,
        "train_sampling_strategy": "group_by_length",
    } | more


def sft_trainer(model: Any, tokenizer: Any, rows: list[Row], folder: str, adapter: Any, **arguments: Any) -> Any:
    """TRL's trainer, with the loss on completions alone; puts the adapter on the model first, if there is one."""
    from datasets import Dataset

    # Not among the packages that the checks install, so that its types are not known.
    trl: Any = importlib.import_module("trl")
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in rows
    ]
    return trl.SFTTrainer(
        model,
        args=trl.SFTConfig(folder, max_length=MAX_LENGTH, completion_only_loss=True, **arguments),
        train_dataset=Dataset.from_list(chats),
        peft_config=adapter,
        processing_class=tokenizer,
    )


def plain_trainer(workload: Workload, folder: str, **arguments: Any) -> Any:
    """transformers' trainer, on our tokens."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    tokens = [workload.table[i] for i in range(len(workload.table))]
    ready = [
        {"input_ids": row.input_ids.tolist(), "labels": np.where(row.mask, row.input_ids, -100).tolist()}
        for row in tokens
    ]
    return Trainer(
        workload.stock_model(lora=True),
        args=TrainingArguments(folder, **arguments),
        train_dataset=Dataset.from_list(ready),
        data_collator=DataCollatorForSeq2Seq(workload.tokenizer),
    )


def theirs(workload: Workload, kind: str, rows_per_pass: int, passes: int, **more: Any) -> LossRun:
    """So many passes of a stock trainer."""

    def run() -> tuple[float, float]:
        arguments = stock_arguments(rows_per_pass, on_gpu=workload.on_gpu, num_train_epochs=passes, **more)
        with TemporaryDirectory() as folder:
            if kind == "SFTTrainer":
                model = workload.stock_model(lora=False)
                trainer = sft_trainer(
                    model, workload.tokenizer, workload.rows, folder, workload.stock_lora(), **arguments
                )
            else:
                trainer = plain_trainer(workload, folder, **arguments)
            began = time.perf_counter()
            loss = trainer.train().training_loss
            finish()
            return time.perf_counter() - began, loss

    return run


def packed(workload: Workload, passes: int) -> LossRun:
    """SFTTrainer with rows packed into sequences, as many a step as have the tokens of our rows."""
    sequences = max(1, round(BATCH * int(workload.table.lengths.sum()) / len(workload.table) / MAX_LENGTH))
    more = {"gradient_accumulation_steps": 1, "packing": True, "use_liger_kernel": True}
    return theirs(workload, "SFTTrainer", sequences, passes, **more)


def contestants(workload: Workload, passes: int) -> dict[str, LossRun]:
    """Who takes part: on a CPU stock trainers with small passes, on a GPU with a step in one pass."""
    if workload.on_gpu:
        return {
            "ours": ours(workload, workload.model.lanes, passes),
            "SFTTrainer": theirs(workload, "SFTTrainer", BATCH, passes),
            "SFTTrainer, Liger": theirs(workload, "SFTTrainer", BATCH, passes, use_liger_kernel=True),
            "SFTTrainer, Liger, packed": packed(workload, passes),
            "Trainer": theirs(workload, "Trainer", BATCH, passes),
        }
    return {
        "ours": ours(workload, workload.model.lanes, passes),
        "ours, passes in turn": ours(workload, Lanes(workload.model.hardware.device, most=1), passes),
        "SFTTrainer, 1 row a pass": theirs(workload, "SFTTrainer", 1, passes),
        "SFTTrainer, 2 rows a pass": theirs(workload, "SFTTrainer", 2, passes),
        "Trainer, 2 rows a pass": theirs(workload, "Trainer", 2, passes),
    }


def operations(workload: Workload) -> float:
    """Floating-point operations that one of our passes over the rows takes, padding not counted.

    A product of n tokens with an (a, b) matrix is 2nab operations. Forward each frozen matrix makes one product,
    backward one (the slope of its input; it has none of its own); the LoRA matrices make one and two. The head
    makes one each way, for completion tokens, and for these alone the last block does what follows its attention.
    Attention is two products of the lengths each way, half of which causality spares, and five instead of four
    backward. What the rows of a pass begin with alike counts once.
    """
    config = workload.model.model.config
    of_token, of_completion = 0, 0
    last = f".layers.{config.num_hidden_layers - 1}."
    for name, parameter in workload.model.model.named_parameters():
        if parameter.dim() == 2 and "embed" not in name and "lm_head" not in name:
            needed = (6 if parameter.requires_grad else 4) * parameter.numel()
            if last in name and ("o_proj" in name or "mlp" in name):
                of_completion += needed
            else:
                of_token += needed
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    lengths, tokens, squares = workload.table.lengths, 0, 0.0
    for batch in optimizer_batches(len(lengths), BATCH, len(lengths) // BATCH, workload.settings.training.seed):
        for chosen in workload.model.deal(batch, lengths, workload.model.token_budget(None), "train").rows:
            alike = len(chosen) > 1 and workload.model.scorer is workload.model.scorer.plain
            shared = shared_prefix([workload.table[int(i)] for i in chosen]) if alike else 0
            own = lengths[chosen] - shared
            tokens += int(own.sum()) + shared
            squares += float((own * (own + 2 * shared)).sum()) + shared**2
    of_completion += 4 * config.vocab_size * config.hidden_size
    attention = squares / 2 * width * config.num_hidden_layers * (4 + 10)
    return float(tokens * of_token + int(workload.table.counts.sum()) * of_completion + attention)


def show_ceiling(workload: Workload, needed: float, seconds: float) -> None:
    """How near so many operations in so many seconds come to what the machine can do."""
    rate, most = needed / seconds, matrix_rate(workload.model.hardware)
    print(f"\n{needed / 1e12:.2f}e12 operations, {rate / 1e9:.0f}e9 a second; a matrix product: {most / 1e9:.0f}e9")
    print(f"that is {rate / most:.2f} of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 48")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--top-blocks", type=float, default=1.0, help="share of the blocks that have an adapter")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    passes = options.passes
    where = {"device": options.device, "model": options.model}
    with prepared(options.data, options.rows, options.dtype, options.top_blocks, **where) as workload:
        measured = compete(contestants(workload, passes), options.rounds)
        losses = {name: f"{np.mean([loss for _, loss in turns]):.3f}" for name, turns in measured.items()}
        table = show_speeds(measured, passes * int(workload.table.lengths.sum()), "tokens", "mean loss", losses)
        table.keep(options.json, f"Training in {options.dtype}")
        if not workload.model.scorer.skips:
            show_ceiling(workload, passes * operations(workload), median(seconds for seconds, _ in measured["ours"]))


if __name__ == "__main__":
    main()
