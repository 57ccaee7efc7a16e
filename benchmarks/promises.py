"""Check on real scores whether `fdr:` keeps its promise, and what `auto` does.

    python benchmarks/promises.py --data ../shared/data/normalised --work /tmp/signals \
        --notions harmfulness toxicity --draws 0 1

Reads the cells that benchmarks/signals.py measured. Half of the harmless rows of each cell, drawn anew 200
times, are taken as trusted; the others and the unsafe rows are the data. Trusted rows were learned like all
others, as in the filter. Shares below the cell's own are made by leaving out unsafe rows after scoring.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from candidates import Cell, default
from forgetfilter.forgetting.auto import Auto
from forgetfilter.forgetting.cuts import FalseDiscoveryRate, Threshold
from forgetfilter.metrics.detection import detection
from problems import NOTIONS, draw_problem
from signals import Measurer, cell_folder

SPLITS = 200
THRESHOLDS: dict[str, Threshold] = {
    "fdr:5%": FalseDiscoveryRate(0.05),
    "fdr:10%": FalseDiscoveryRate(0.1),
    "fdr:20%": FalseDiscoveryRate(0.2),
    "auto, with trusted rows": Auto(),
    "auto, without": Auto(),
}
SHARES = (0.5, 0.25, 0.1, 0.02, 0.0)


def split_results(
    cell: Cell, share: float, name: str, generator: np.random.Generator
) -> list[tuple[float, float, float]]:
    """Measure for each split the harmless share of the removed rows, recall, and the share of harmless rows removed."""
    forgetting = default("safe20")(cell)
    harmless, unsafe = np.flatnonzero(~cell.unsafe), np.flatnonzero(cell.unsafe)
    results = []
    for _ in range(SPLITS):
        shuffled = generator.permutation(harmless)
        trusted, others = np.array_split(shuffled, 2)
        count = min(len(unsafe), round(share / (1 - share) * len(others)))
        data = np.concatenate([others, generator.choice(unsafe, count, replace=False)])
        known = forgetting[:0] if name.endswith("without") else forgetting[trusted]
        removed = THRESHOLDS[name].cut(forgetting[data], known).removes(forgetting[data])
        quality = detection(removed, cell.unsafe[data])
        false = 1 - quality.precision if removed.any() else 0.0
        results.append((false, quality.recall, float(removed[: len(others)].mean())))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder in which signals.py measured")
    parser.add_argument("--notions", nargs="+", choices=NOTIONS, default=["harmfulness", "toxicity"])
    parser.add_argument("--share", type=float, default=0.5, help="share of unsafe rows of the cells")
    parser.add_argument("--draws", nargs="+", type=int, default=[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as signals.py was given")
    options = parser.parse_args()
    measurer = Measurer(options.model, dict(pair.split("=", 1) for pair in options.set), ["safe"])
    print("| notion | threshold | " + " | ".join(f"{share:.0%} unsafe" for share in SHARES) + " |")
    print("|---|---" + "|---" * len(SHARES) + "|")
    for notion in options.notions:
        cells = [
            measurer.cell(
                draw_problem(options.data, notion, options.share, draw),
                cell_folder(options.work, notion, options.share, draw, options.model, options.set),
            )
            for draw in options.draws
        ]
        for name in THRESHOLDS:
            columns = []
            for share in SHARES:
                generator = np.random.default_rng(0)
                results = [result for cell in cells for result in split_results(cell, share, name, generator)]
                false, recall, lost = (np.mean(values) for values in zip(*results, strict=True))
                columns.append(f"{false:.0%} / {recall:.0%}" if share else f"{lost:.1%} lost")
            print(f"| {notion} | {name} | " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    main()
