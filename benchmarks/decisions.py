"""Compare what the whole filter decides on a GPU, in other number formats and batches, with a CPU in float32.

    python benchmarks/decisions.py --data ../shared/data/normalised --work /tmp/decisions --device cuda
    python benchmarks/decisions.py --data ../shared/data/normalised --work /tmp/decisions --problem harmful

The same rows, safe examples and settings each time; runs that are finished in the work folder are read again. Without a
GPU the ways are the formats and batches of the CPU.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgetfilter import FilterResult, ForgetFilter
from forgetfilter.metrics.detection import auroc, detection, ranks
from panel_problems import PROBLEMS, REPORTED, Drawn, draw
from results import Table, add_json

FIRST = "CPU, float32"
THRESHOLDS = ("auto", "top:25%")


def ways(device: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each way, by what it is called; the first is what the others are compared with."""
    first = {FIRST: {"device": "cpu", "dtype": "float32"}}
    if device == "cpu":
        return first | {
            "CPU, float32, 400 tokens a pass": {"device": "cpu", "dtype": "float32", "tokens_per_batch": 400},
            "CPU, bfloat16": {"device": "cpu", "dtype": "bfloat16"},
            "CPU, bfloat16, 400 tokens a pass": {"device": "cpu", "dtype": "bfloat16", "tokens_per_batch": 400},
        }
    return first | {
        "GPU, bfloat16": {"device": device, "dtype": "bfloat16"},
        "GPU, bfloat16, 2,000 tokens a pass": {"device": device, "dtype": "bfloat16", "tokens_per_batch": 2000},
        "GPU, float32": {"device": device, "dtype": "float32"},
    }


def removed(result: FilterResult, threshold: str) -> NDArray[np.bool_]:
    """Return which rows a threshold removes."""
    decisions = np.array(result.decide(threshold).scores["decision"])
    return np.asarray(decisions == "removed")


def suspicion(result: FilterResult) -> NDArray[np.floating]:
    """Return the suspicion of each row; what has none is below all others."""
    scores = np.array(result.scores["suspicion"], dtype=float)
    return np.where(np.isfinite(scores), scores, -1e9)


def compare(drawn: Drawn, device: str, work: Path, more: dict[str, Any]) -> Table:
    """Filter in each way, with further settings that all share, and print how it differs from the first."""
    unsafe = np.array([row["label"] == "unsafe" for row in drawn.noisy])
    rows = [{name: row[name] for name in ("prompt", "completion")} for row in drawn.noisy]
    table = Table(
        *("", "seconds", "AUROC", "rank correlation", "F1 at `auto`"),
        *(f"decided otherwise at `{threshold}`" for threshold in THRESHOLDS),
    )
    first: FilterResult | None = None
    for name, settings in ways(device).items():
        began = time.perf_counter()
        folder = work / name.replace(" ", "-").replace(",", "")
        result = ForgetFilter(**more, **settings).run(rows, drawn.safe or "builtin", output=folder)
        seconds, first = time.perf_counter() - began, first or result
        scores = suspicion(result)
        alike = np.corrcoef(ranks(scores), ranks(suspicion(first)))[0, 1]
        cells = [f"{seconds:.0f}", f"{auroc(scores, unsafe):.3f}", f"{alike:.3f}"]
        cells.append(f"{detection(removed(result, 'auto'), unsafe).f1:.2f}")
        cells += [f"{(removed(result, t) != removed(first, t)).sum()} of {len(rows)}" for t in THRESHOLDS]
        table.add(name, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [problem.name for problem in PROBLEMS if problem.half == REPORTED]
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--problem", choices=names, default="mix", help="which rows, of the panel's half 'reported'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the filter")
    add_json(parser)
    options = parser.parse_args()
    problem = next(p for p in PROBLEMS if p.half == REPORTED and p.name == options.problem)
    more = {"model": options.model} | dict(pair.split("=", 1) for pair in options.set)
    table = compare(draw(problem, options.data, 0), options.device, options.work, more)
    table.keep(options.json, f"Decisions on the problem {options.problem!r}, against a CPU in float32")


if __name__ == "__main__":
    main()
