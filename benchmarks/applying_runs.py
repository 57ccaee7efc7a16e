"""What is lost by filtering a part of the rows and applying that run to all others, instead of filtering them all.

    python benchmarks/applying_runs.py --data ../shared/data/normalised --work /tmp/applying

Unlike in `applying.py`, every part has a run of its own, which learns and reviews nothing but its rows. Finished runs
are read again from the work folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

import forgetfilter
from forgetfilter import ForgetFilter
from forgetfilter.data.draw import in_random_order
from forgetfilter.metrics.detection import auroc, ranks
from panel_problems import CHOSEN, Problem, draw
from problems import Row
from results import Table, add_json

PROBLEM = Problem("toxic tweets", CHOSEN, ("tweets",), rows=1000)
SHARES = (0.01, 0.05, 0.2)
COLUMNS = ("rows", "trained on", "AUROC", "unsafe removed", "harmless lost", "rank correlation", "same decision")


def write(rows: list[Row], path: Path) -> str:
    """Write rows as the tool reads them, without their labels."""
    lines = [json.dumps({"id": row["id"], "prompt": row["prompt"], "completion": row["completion"]}) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@dataclass(frozen=True)
class Said:
    """What a run, or what it was applied to, says of n rows.

    Attributes:
        suspicion: Shape (n,).
        removed: Whether each row is removed, shape (n,).
    """

    suspicion: NDArray[np.floating]
    removed: NDArray[np.bool_]

    @classmethod
    def by(cls, scores: datasets.Dataset) -> Said:
        return cls(np.array(scores["suspicion"], dtype=float), np.array(scores["decision"]) == "removed")

    def of(self, rows: NDArray[np.intp]) -> Said:
        return Said(self.suspicion[rows], self.removed[rows])

    def compared(self, other: Said, unsafe: NDArray[np.bool_]) -> tuple[str, ...]:
        """Compare with the labels, and with what another run says of the rows."""
        return (
            f"{auroc(self.suspicion, unsafe):.3f}",
            f"{self.removed[unsafe].mean():.0%}",
            f"{self.removed[~unsafe].mean():.0%}",
            f"{np.corrcoef(ranks(self.suspicion), ranks(other.suspicion))[0, 1]:.2f}",
            f"{(self.removed == other.removed).mean():.0%}",
        )


def measure(problem: Problem, data: Path, work: Path, model: str) -> list[tuple[str, ...]]:
    """Measure the rows of the table for a problem."""
    drawn, folder = draw(problem, data, 0), work / problem.name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    noisy = [row | {"id": f"row-{place}"} for place, row in enumerate(drawn.noisy)]
    unsafe = np.array([row["label"] == "unsafe" for row in noisy])
    everything, safe = write(noisy, folder / "noisy.jsonl"), write(drawn.safe, folder / "safe.jsonl")
    whole = Said.by(ForgetFilter(model=model).run(everything, safe, output=folder / "whole").scores)
    measured = [(f"{problem.name}: {len(noisy)}", "all", *whole.compared(whole, unsafe))]
    order = in_random_order([row["id"] for row in noisy], 0)
    for share in SHARES:
        size = round(share * len(noisy))
        rest, part = np.sort(order[size:]), folder / f"part-{share:g}.jsonl"
        write([noisy[place] for place in np.sort(order[:size])], part)
        run = ForgetFilter(model=model).run(str(part), safe, output=folder / f"run-{share:g}")
        for evidence in ("words", "states"):
            output = folder / f"applied-{share:g}-{evidence}"
            applied = forgetfilter.apply(run.path, everything, output=output, evidence=evidence)
            said = Said.by(applied.scores).of(rest)
            how = f"{share:.0%} ({size} rows), applied by {evidence}"
            measured.append(("", how, *said.compared(whole.of(rest), unsafe[rest])))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    table = Table(*COLUMNS)
    for row in measure(PROBLEM, options.data, options.work, options.model):
        table.add(*row)
    table.keep(options.json, "Applied to more rows, by runs of their own")


if __name__ == "__main__":
    main()
