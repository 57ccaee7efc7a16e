"""Count how often the errors that a run estimates are true, and whether `fdr:` keeps its promise, on the panel.

    python benchmarks/estimates.py --data ../shared/data/normalised --work /tmp/panel --half reported \
        --trained harmful biased mix toxic
    python benchmarks/estimates.py --data ../shared/data/normalised --work /tmp/panel --draws \
        --trained harmful biased mix toxic

The problems, their runs and the work folder are those of `panel.py`, with --draws those of `cutoffs.py`. Every problem
is decided with each of some thresholds and 0, 10 and 30 known unsafe rows of each kind, as a run decides and judges
itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutoffs import SEEDS, SHARES, draw, drawn_problems
from forgetfilter.decision.suspicion import UNLIKE
from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.forgetting.cuts import Cut, FalseDiscoveryRate, Threshold, Top
from forgetfilter.forgetting.estimates import Estimate, Planted, doubt_about, estimate_errors
from forgetfilter.forgetting.signals import SIGNALS
from forgetfilter.suspicion.nearest import Overlap
from panel import KNOWN, OF_KNOWN, Cell, Evidence, Look, measure
from panel_problems import CHOSEN, PROBLEMS, REPORTED
from results import Table, add_json

RATES = (0.05, 0.1, 0.2)
TOPS = (0.05, 0.25, 0.5)
COLUMNS = ("known", "estimate", "told", "truth below", "truth above", "within the interval")


@dataclass(frozen=True)
class Decision:
    """What a threshold does to the rows of a problem, and what the run would say of it.

    Attributes:
        problem: The problem's name, with the share of unsafe rows where it is a draw.
        known: How many unsafe rows of each kind are known.
        overlap: How far rows known to be harmless lie among the data; None where that was not measured.
        threshold: Its name.
        removed: How many rows it removes.
        told: Estimated precision, recall and share of harmless rows removed, by name; None where none is told.
        true: What they are; NaN where there are no such rows.
    """

    problem: str
    known: int
    overlap: Overlap | None
    threshold: str
    removed: int
    told: dict[str, Estimate | None]
    true: dict[str, float]

    @property
    def unlike(self) -> bool:
        """Tell whether the safe examples are of another kind than the data."""
        return self.overlap is not None and self.overlap.is_of_another_kind


def decisions(name: str, cell: Cell, known: int, others: Sequence[Evidence], look: Look) -> Iterator[Decision]:
    """Decide about the rows of a look with each threshold, once with each of these sets of further evidence."""
    unsafe, untold = cell.unsafe_of(look.places), UNLIKE if look.is_of_another_kind else ""
    for evidence in others:
        fused = look.fuse(evidence)
        planted = Planted(*(fused.suspicion[look.part == part] for part in OF_KNOWN.values()))
        suspicion, to_prototypes = fused.suspicion[look.untrusted], fused.to_prototypes[look.untrusted]
        for threshold, rule in _rules(planted, to_prototypes, untold).items():
            cut = rule.cut(suspicion, planted.trusted)
            removed, told = cut.removes(suspicion), _told(suspicion, planted, cut, untold)
            true = _true(removed, unsafe)
            yield Decision(name, known, look.overlap, threshold, int(removed.sum()), told, true)


def _rules(planted: Planted, to_prototypes: NDArray[np.floating], untold: str) -> dict[str, Threshold]:
    """Return the thresholds by name, as `decision.decide` makes them."""
    kinds = tuple(planted.trusted_kinds)
    rules: dict[str, Threshold] = {"auto": AutoOfSuspicion(planted.known_unsafe, to_prototypes, untold)}
    rules |= {f"fdr:{rate:.0%}": FalseDiscoveryRate(rate, kinds, untold) for rate in RATES}
    return rules | {f"top:{share:.0%}": Top(share) for share in TOPS}


def _told(suspicion: NDArray[np.floating], planted: Planted, cut: Cut, untold: str) -> dict[str, Estimate | None]:
    """Estimate the errors of a cut as `decision.decide` does."""
    errors = estimate_errors(int(cut.removes(suspicion).sum()), len(suspicion), planted, cut.value)
    doubt = untold or doubt_about(suspicion, planted.trusted, cut.value, SIGNALS["suspicion"].more)
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--half", choices=(CHOSEN, REPORTED), default=CHOSEN)
    which.add_argument("--draws", action="store_true", help="decide the draws of cutoffs.py instead")
    parser.add_argument("--trained", nargs="*", default=[], help="names of the problems to filter as usual, too")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    found: list[Decision] = []
    for problem in drawn_problems() if options.draws else [p for p in PROBLEMS if p.half == options.half]:
        trained = problem.name in options.trained
        cell = measure(problem, options.data, options.work, options.model, trained=trained)
        decide = _decide_draws if options.draws else _decide_whole
        found += [decision for known in KNOWN for decision in decide(problem.name, cell, known)]
    table = Table(*COLUMNS)
    for known in KNOWN:
        for name in ("precision", "recall", "harmless removed"):
            table.add(str(known), name, *_counted([d for d in found if d.known == known], name))
    table.keep(options.json, f"Estimated errors on {'draws of ' if options.draws else ''}the half {options.half!r}")
    _show_promises(found)
    _show_overlaps(found)


def _decide_whole(name: str, cell: Cell, known: int) -> Iterator[Decision]:
    """Decide about all rows of a problem, trained where it was."""
    look = Look.at(cell, cell.with_known(known))
    yield from decisions(name, cell, known, [cell.evidence(look.places)], look)


def _decide_draws(name: str, cell: Cell, known: int) -> Iterator[Decision]:
    """Decide about draws of a problem's rows, as the first look leaves them and trained where it was."""
    for share, seed in product(SHARES, SEEDS):
        chosen = draw(cell, share, seed, known)
        if chosen is not None:
            yield from decisions(f"{name} {share:.0%}", cell, known, cell.steps(chosen), Look.at(cell, chosen))


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
        promising, removing = [d for d in of_rate if not d.unlike], [d for d in of_rate if d.removed]
        harmless = [1 - d.true["precision"] for d in removing]
        worst = sorted(zip(harmless, removing, strict=True), key=lambda pair: -pair[0])[:5]
        print(
            f"fdr:{rate:.0%} promises something in {len(promising)} of {len(of_rate)} decisions, where the false "
            f"discovery rate is {sum(harmless) / max(1, len(promising)):.1%}. It removes rows in {len(removing)}, of "
            f"which {sum(harmless) / max(1, len(removing)):.1%} are harmless on average; more than promised in "
            f"{sum(share > rate for share in harmless)}; the worst: "
            + ", ".join(f"{d.problem} with {d.known} known {share:.0%} of {d.removed}" for share, d in worst)
        )


def _show_overlaps(found: list[Decision]) -> None:
    """Show how far known harmless rows lie among those of each problem."""
    overlaps = {d.problem: d.overlap for d in found if d.overlap is not None}
    for problem, overlap in overlaps.items():
        told = "of another kind" if overlap.is_of_another_kind else "of its kind"
        print(f"{problem}: safe examples {told}; nearest {overlap.nearest:.2f}, uncovered {overlap.uncovered:.2f}")


if __name__ == "__main__":
    main()
