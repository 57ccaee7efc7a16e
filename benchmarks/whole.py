"""The whole filter beside the same steps from stock parts, and beside the fine-tuning that it is to protect.

    python benchmarks/whole.py --data ../shared/data/normalised --work /tmp/whole

Stock parts: SFTTrainer on the untrusted rows for three passes, SFTTrainer on safe rows, and every row answered under
both models with `generate`, one at a time and with up to 500 new tokens, as the paper's authors do; in float32. Ours:
the filter with the same number of passes, steps and rows a step, as it comes (the number format that suits the
processor, the first 32 tokens of each answer, LoRA on the upper half of the blocks), in float32, with LoRA on all
blocks as stock parts have it, with whole answers, and by ROUGE. Both load the model and read the rows themselves. The
first of the stock parts alone is a plain fine-tuning of the same rows: what a user pays anyway.

Needs TRL: pip install 'forgetfilter[bench]'.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from contest import BATCH, MAX_LENGTH, RATE, Workload, prepared
from forgetfilter import ForgetFilter
from problems import load
from results import Table, add_json
from scoring import generated, prompts
from training import sft_trainer, stock_arguments

PASSES = 3


def stock(workload: Workload, safe: list[dict[str, str]], review_steps: int) -> dict[str, float]:
    """Seconds of each stock part."""
    seconds = {}

    def note(name: str, began: float) -> float:
        seconds[name] = time.perf_counter() - began
        print(f"  {name}: {seconds[name]:.0f} s", flush=True)
        return time.perf_counter()

    # What suits stock parts best: large passes on a GPU, small ones on a CPU.
    on_gpu, rows_per_pass, at_once = (True, BATCH, 64) if workload.on_gpu else (False, 2, 1)
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        model = workload.stock_model(lora=False)
        arguments = stock_arguments(rows_per_pass, on_gpu=on_gpu, num_train_epochs=PASSES, use_liger_kernel=on_gpu)
        trainer = sft_trainer(model, workload.tokenizer, workload.rows, folder, workload.stock_lora(), **arguments)
        trainer.train()
        began = note("fine-tuning on the untrusted rows", began)
        generated(workload, trainer.model.eval(), prompts(workload), at_once)
        began = note("answers of the learned model", began)
        arguments = stock_arguments(rows_per_pass, on_gpu=on_gpu, max_steps=review_steps, use_liger_kernel=on_gpu)
        reviewed = sft_trainer(trainer.model, workload.tokenizer, safe, folder, None, **arguments)
        reviewed.train()
        began = note("fine-tuning on safe rows", began)
        generated(workload, reviewed.model.eval(), prompts(workload), at_once)
        note("answers of the reviewed model", began)
    return seconds


OURS: dict[str, dict[str, Any]] = {"as it comes": {}}
# On a CPU, where stock parts run in float32.
OURS_IN_FLOAT32: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "float32, all blocks": {"dtype": "float32", "top_blocks": 1.0},
    "float32, all blocks, whole answers": {"dtype": "float32", "top_blocks": 1.0, "max_completion": MAX_LENGTH},
    "float32, all blocks, ROUGE": {"dtype": "float32", "signal": "rouge"},
}


def ours(
    workload: Workload, safe: list[dict[str, str]], review_steps: int, chosen: dict[str, Any], folder: Path
) -> float:
    """Seconds of the whole filter."""
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    ForgetFilter(
        model=workload.settings.model.model,
        epochs=PASSES,
        review_steps=review_steps,
        learning_rate=RATE,
        batch_size=BATCH,
        trusted="none",
        set_aside=0,
        max_length=MAX_LENGTH,
        device=workload.model.hardware.device.type,
        threshold="top:10%",
        **chosen,
    ).run(workload.rows, safe, output=folder)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; deleted afterwards")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 3")
    parser.add_argument("--review-steps", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    safe = load(options.data, "safety_tuned_llamas")[:100]
    dtype = "float32" if options.device == "cpu" else "bfloat16"
    with prepared(options.data, options.rows, dtype, device=options.device, model=options.model) as workload:
        parts = stock(workload, safe, options.review_steps)
        whole, plain = sum(parts.values()), parts["fine-tuning on the untrusted rows"]
        results = {}
        for name, chosen in (OURS if workload.on_gpu else OURS | OURS_IN_FLOAT32).items():
            results[name] = ours(workload, safe, options.review_steps, chosen, options.work)
            print(f"  ours, {name}: {results[name]:.0f} s", flush=True)
    shutil.rmtree(options.work, ignore_errors=True)
    table = Table("what", "seconds", "against stock parts", "against plain fine-tuning")
    table.add("stock parts", f"{whole:.0f}", "1.0", f"{whole / plain:.2f}")
    table.add("of these, plain fine-tuning", f"{plain:.0f}", "", "1.00")
    for name, seconds in results.items():
        table.add(f"ours, {name}", f"{seconds:.0f}", f"{whole / seconds:.1f} times faster", f"{seconds / plain:.2f}")
    table.keep(options.json, "The whole filter, beside stock parts and plain fine-tuning")


if __name__ == "__main__":
    main()
