"""How fast prompts are answered, beside vLLM.

    python benchmarks/decoding.py --data ../shared/data/normalised --work /tmp/decoding --rows 480 --device cuda

The same prompts (of BBQ, Alpaca and SQuAD), weights, number format and most new tokens, greedy, all prompts handed over
at once, answers as text. Ours has a fresh adapter on the model, which changes nothing but costs what an adapter costs.
Each answers once to warm up. vLLM follows in a process of its own, as both want the GPU's memory for themselves; the
interpreter that has it is named with --vllm, and where it has none ours is timed alone. In bfloat16 answers part where
two tokens are about as likely.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contest import Workload, prepared, timed
from forgetfilter.models.generation import greedy
from results import Table, add_json
from scoring import prompts

# Characters by which two answers are said to begin alike.
BEGINNING = 40


Prompts = list[NDArray[np.int32]]


def ours(workload: Workload, prompts_to_answer: Prompts, most: int, rounds: int) -> dict[str, Any]:
    """Time our decoding in every round, and return seconds and answers."""
    workload.model.model.eval()
    answer = timed(
        partial(greedy, workload.model, workload.tokenizer, prompts_to_answer, [most] * len(prompts_to_answer))
    )
    answer()
    turns = [answer() for _ in range(rounds)]
    return {"seconds": [seconds for seconds, _ in turns], "answers": turns[0][1]}


def hand_over(workload: Workload, prompts_to_answer: Prompts, most: int, work: Path) -> None:
    """Write the model and the prompts for `vllm_answers.py`."""
    workload.stock_model(lora=False).save_pretrained(work / "model")
    workload.tokenizer.save_pretrained(work / "model")
    request = {"prompts": [prompt.tolist() for prompt in prompts_to_answer], "most": most}
    (work / "prompts.json").write_text(json.dumps(request), encoding="utf-8")


def has_vllm(interpreter: str) -> bool:
    """Tell whether a Python interpreter has vLLM."""
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        return subprocess.run([interpreter, "-c", look], capture_output=True, check=False).returncode == 0
    except OSError as error:
        raise SystemExit(f"--vllm {interpreter}: no interpreter that can be run: {error.strerror}") from error


def vllm(interpreter: str, work: Path, rounds: int) -> dict[str, Any]:
    """Time vLLM likewise, in its own process."""
    command = [interpreter, str(Path(__file__).with_name("vllm_answers.py")), str(work), str(rounds)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit("vLLM did not answer; what it said stands above")
    results: dict[str, Any] = json.loads((work / "vllm.json").read_text(encoding="utf-8"))
    return results


def show(contestants: dict[str, dict[str, Any]], workload: Workload) -> Table:
    """Print the table of all contestants."""
    first = contestants["ours"]
    columns = (
        "contestant",
        "s (median)",
        "shortest–longest",
        "tokens/s",
        "against ours",
        "same answers",
        "begin alike",
    )
    table = Table(*columns)
    for name, results in contestants.items():
        seconds, answers = sorted(results["seconds"]), results["answers"]
        tokens = sum(len(ids) for ids in workload.tokenizer(answers, add_special_tokens=False)["input_ids"])
        same, begun = (
            sum(one[:most] == other[:most] for one, other in zip(answers, first["answers"], strict=True))
            for most in (None, BEGINNING)
        )
        span, rate = f"{seconds[0]:.2f}–{seconds[-1]:.2f}", f"{tokens / median(seconds):,.0f}"
        ratio = f"{median(seconds) / median(first['seconds']):.2f}"
        alike = (f"{same}/{len(answers)}", f"{begun}/{len(answers)}")
        table.add(name, f"{median(seconds):.2f}", span, rate, ratio, *alike)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the model and the prompts")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=100)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--vllm", default=sys.executable, metavar="PYTHON", help="the interpreter that has vLLM")
    add_json(parser)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    beside = has_vllm(options.vllm)
    if not beside:
        print(f"{options.vllm} has no vLLM: ours is timed alone")
    with prepared(options.data, options.rows, options.dtype, device=options.device, model=options.model) as workload:
        prompts_to_answer = prompts(workload)
        contestants = {"ours": ours(workload, prompts_to_answer, options.new_tokens, options.rounds)}
        if beside:
            hand_over(workload, prompts_to_answer, options.new_tokens, options.work)
            theirs = vllm(options.vllm, options.work, options.rounds)
            contestants[theirs["name"]] = theirs
        show(contestants, workload).keep(options.json, f"Greedy answers in {options.dtype}, beside vLLM")


if __name__ == "__main__":
    main()
