"""Measure the default cutoff on many draws of the panel's chosen half, with few and many unsafe rows, and with none.

    python benchmarks/cutoffs.py --data ../shared/data/normalised --work /tmp/panel --trained harmful biased mix toxic

The problems are those of the half `chosen` of `panel.py`, whose runs in the work folder are used again, and further
ones of its sources, most with safe examples of another kind. Of each problem's harmless rows four fifths are drawn, and
as many unsafe ones as make the wanted share. Those that are named with --trained count twice, as the first look leaves
them and trained.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.metrics.detection import detection
from forgetfilter.runs.layout import DATA, KNOWN_UNSAFE
from panel import KNOWN, Cell, Look, measure
from panel_problems import CHOSEN, PROBLEMS, Problem
from results import Table, add_json

FURTHER = (
    Problem("x-harmful-tweetsafe", CHOSEN, ("gptfuzz",), safe="tweets"),
    Problem("x-toxic-builtin", CHOSEN, ("tweets",), safe="builtin"),
    Problem("x-toxic-other", CHOSEN, ("tweets",), safe="refused"),
    Problem("x-biased-builtin", CHOSEN, ("bbq-a",), safe="builtin"),
    Problem("x-biased-other", CHOSEN, ("bbq-a",), safe="gptfuzz"),
    Problem("x-mix-builtin", CHOSEN, ("gptfuzz", "tweets", "bbq-a"), rows=300, safe="builtin"),
    Problem("x-dialogues-builtin", CHOSEN, ("dialogues",), safe="builtin"),
    Problem("x-refused-other", CHOSEN, ("refused",), safe="dialogues"),
    Problem("x-two", CHOSEN, ("refused", "bbq-a")),
    Problem("x-harmful-look", CHOSEN, ("refused",), rows=400, unsafe=0.1, look_alikes=True),
)
SHARES, SEEDS = (0.5, 0.25, 0.1, 0.03, 0.0), (0, 1)
COLUMNS = (
    "known",
    "unsafe",
    "draws",
    "F1 at `auto` / best",
    "within a tenth",
    "nothing removed",
    "harmless lost",
    "most",
)


@dataclass(frozen=True)
class Outcome:
    """What `auto` does with one draw.

    Attributes:
        f1: F1 at `auto`, as a share of the best at any cutoff; NaN where nothing is unsafe.
        removed: How many rows it removes.
        lost: The share of the harmless rows that it removes.
    """

    f1: float
    removed: int
    lost: float


def drawn_problems() -> list[Problem]:
    """List the problems that are drawn from."""
    return [problem for problem in (*PROBLEMS, *FURTHER) if problem.half == CHOSEN and problem.unsafe]


def draw(cell: Cell, share: float, seed: int, known: int) -> NDArray[np.intp] | None:
    """Choose the places of the rows of one draw, None where there are too few unsafe ones."""
    rng = np.random.default_rng(crc32(f"{share}{seed}".encode()))
    data = cell.witnesses.of(DATA)
    unsafe, harmless = data[cell.unsafe], data[~cell.unsafe]
    harmless = rng.permutation(harmless)[: max(20, int(0.8 * len(harmless)))]
    wanted = round(share / (1 - share) * len(harmless))
    if wanted > len(unsafe):
        if share < max(SHARES):
            return None
        wanted = int(0.9 * len(unsafe))
    drawn = [harmless, rng.permutation(unsafe)[:wanted]]
    return np.sort(np.concatenate([np.setdiff1d(cell.with_known(known), data), *drawn]))


def outcomes(cell: Cell, chosen: NDArray[np.intp]) -> Iterator[Outcome]:
    """Decide about the rows of a draw before training, and where the cell was trained also after it."""
    look, unsafe = Look.at(cell, chosen), cell.unsafe_of(chosen)
    for others in cell.steps(chosen):
        fused = look.fuse(others)
        suspicion = fused.suspicion[look.untrusted]
        auto = AutoOfSuspicion(fused.suspicion[look.part == KNOWN_UNSAFE], fused.to_prototypes[look.untrusted])
        removed = auto.cut(suspicion, fused.suspicion[look.harmless]).removes(suspicion)
        f1 = np.nan
        if unsafe.any():
            best = max(detection(suspicion >= value, unsafe).f1 for value in np.unique(suspicion))
            f1 = detection(removed, unsafe).f1 / best
        yield Outcome(float(f1), int(removed.sum()), float(removed[~unsafe].mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs, such as that of panel.py")
    parser.add_argument("--trained", nargs="*", default=[], help="names of the problems to filter as usual, too")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    found: dict[tuple[int, float], list[Outcome]] = defaultdict(list)
    for problem in drawn_problems():
        cell = measure(problem, options.data, options.work, options.model, trained=problem.name in options.trained)
        for known, share, seed in ((k, s, seed) for k in KNOWN for s in SHARES for seed in SEEDS):
            chosen = draw(cell, share, seed, known)
            if chosen is not None:
                found[known, share] += outcomes(cell, chosen)
    table = Table(*COLUMNS)
    for known in KNOWN:
        for share in SHARES:
            table.add(*row(known, share, found[known, share]))
    table.keep(options.json, "The default cutoff on draws of the chosen half")


def row(known: int, share: float, of_draws: list[Outcome]) -> tuple[str, ...]:
    """Format a row of the table."""
    f1, lost = np.array([one.f1 for one in of_draws]), np.array([one.lost for one in of_draws])
    nothing = f"{np.mean([one.removed == 0 for one in of_draws]):.0%}"
    with_unsafe = (f"{f1.mean():.2f}", f"{(f1 >= 0.9).mean():.0%}") if share else ("–", "–")
    return (
        str(known),
        f"{share:.0%}",
        str(len(of_draws)),
        *with_unsafe,
        nothing,
        f"{lost.mean():.1%}",
        f"{lost.max():.0%}",
    )


if __name__ == "__main__":
    main()
