"""Count how often the errors that a run estimates are true, and whether `fdr:` keeps its promise, on the panel.

    python benchmarks/estimates.py --data ../shared/data/normalised --work /tmp/panel --half reported \
        --trained harmful biased mix toxic

The problems, their runs and the work folder are those of `panel.py`. Every problem is decided with each of some
thresholds and 0, 10 and 30 known unsafe rows of each kind, as a run decides and judges itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.forgetting.cuts import Cut, FalseDiscoveryRate, Top
from forgetfilter.forgetting.estimates import Estimate, Planted, doubt_about, estimate_errors
from forgetfilter.forgetting.signals import SIGNALS
from panel import KNOWN, OF_KNOWN, Cell, measure, results
from panel_problems import CHOSEN, PROBLEMS, REPORTED
from results import Table, add_json

RATES = (0.05, 0.1, 0.2)
SHARES = (0.05, 0.25, 0.5)
COLUMNS = ("known", "estimate", "told", "truth below", "truth above", "within the interval")


@dataclass(frozen=True)
class Decision:
    """What a threshold does to the rows of a problem, and what the run would say of it.

    Attributes:
        problem: The problem's name.
        known: How many unsafe rows of each kind are known.
        threshold: Its name.
        removed: How many rows it removes.
        told: Estimated precision, recall and share of harmless rows removed, by name; None where none is told.
        true: What they are; NaN where there are no such rows.
    """

    problem: str
    known: int
    threshold: str
    removed: int
    told: dict[str, Estimate | None]
    true: dict[str, float]


def decisions(name: str, cell: Cell, known: int) -> Iterator[Decision]:
    """Decide a problem with each threshold."""
    by_way = results(cell, known)
    planted, suspicion = Planted(*(by_way[kind] for kind in OF_KNOWN)), by_way["suspicion"]
    trusted, kinds = planted.trusted, tuple(planted.trusted_kinds)
    cuts = {"auto": AutoOfSuspicion(planted.known_unsafe, by_way["like prototypes"]).cut(suspicion, trusted)}
    cuts |= {f"fdr:{rate:.0%}": FalseDiscoveryRate(rate, kinds).cut(suspicion, trusted) for rate in RATES}
    cuts |= {f"top:{share:.0%}": Top(share).cut(suspicion) for share in SHARES}
    for threshold, cut in cuts.items():
        removed = cut.removes(suspicion)
        told, true = _told(suspicion, planted, cut), _true(removed, cell.unsafe)
        yield Decision(name, known, threshold, int(removed.sum()), told, true)


def _told(suspicion: NDArray[np.floating], planted: Planted, cut: Cut) -> dict[str, Estimate | None]:
    """Estimate the errors of a cut as `decision.decide` does."""
    errors = estimate_errors(int(cut.removes(suspicion).sum()), len(suspicion), planted, cut.value)
    doubt = doubt_about(suspicion, planted.trusted, cut.value, SIGNALS["suspicion"].more)
    return {
        "precision": None if doubt else errors.precision,
        "recall": errors.recall,
        "harmless removed": None if doubt else errors.harmless_removed,
    }


def _true(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> dict[str, float]:
    return {
        "precision": _share(unsafe[removed]),
        "recall": _share(removed[unsafe]),
        "harmless removed": _share(removed[~unsafe]),
    }


def _share(marks: NDArray[np.bool_]) -> float:
    return float(marks.mean()) if len(marks) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs, such as that of panel.py")
    parser.add_argument("--half", choices=(CHOSEN, REPORTED), default=CHOSEN)
    parser.add_argument("--trained", nargs="*", default=[], help="names of the problems to filter as usual, too")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    found: list[Decision] = []
    for problem in PROBLEMS:
        if problem.half == options.half:
            trained = problem.name in options.trained
            cell = measure(problem, options.data, options.work, options.model, trained=trained)
            found += [decision for known in KNOWN for decision in decisions(problem.name, cell, known)]
    table = Table(*COLUMNS)
    for known in KNOWN:
        for name in ("precision", "recall", "harmless removed"):
            table.add(str(known), name, *_counted([d for d in found if d.known == known], name))
    table.keep(options.json, f"Estimated errors on the half {options.half!r}")
    _show_promises(found)


def _counted(decided: list[Decision], name: str) -> tuple[str, ...]:
    """Count how often an estimate is told, and how often the truth lies outside its interval."""
    possible = [d for d in decided if not np.isnan(d.true[name])]
    told = [(estimate, d.true[name]) for d in possible if (estimate := d.told[name]) is not None]
    below = sum(true < estimate.low for estimate, true in told)
    above = sum(true > estimate.high for estimate, true in told)
    within = f"{1 - (below + above) / len(told):.0%}" if told else "–"
    return f"{len(told)} of {len(possible)}", str(below), str(above), within


def _show_promises(found: list[Decision]) -> None:
    """Show where more of the removed rows are harmless than an `fdr:` threshold promises, and by how much."""
    for rate in RATES:
        of_rate = [d for d in found if d.threshold == f"fdr:{rate:.0%}"]
        removing = [d for d in of_rate if d.removed]
        harmless = [1 - d.true["precision"] for d in removing]
        worst = sorted(zip(harmless, removing, strict=True), key=lambda pair: -pair[0])[:5]
        print(
            f"fdr:{rate:.0%} removes rows in {len(removing)} of {len(of_rate)} decisions, of which "
            f"{np.mean(harmless):.1%} are harmless on average; more than promised in "
            f"{sum(share > rate for share in harmless)}; the worst: "
            + ", ".join(f"{d.problem} with {d.known} known {share:.0%} of {d.removed}" for share, d in worst)
        )


if __name__ == "__main__":
    main()
