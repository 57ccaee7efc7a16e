"""What is lost by applying a run to further rows instead of filtering them all, and how fast that goes.

    python benchmarks/applying.py --data ../shared/data/normalised --work /tmp/panel --half reported
    python benchmarks/applying.py --data ../shared/data/normalised --work /tmp/panel --half reported --trained mix
    python benchmarks/applying.py --data ../shared/data/normalised --speed RUN

The problems are those of `panel.py`, whose runs in the work folder are used again. A part of the rows, from 1 to
60%, stands for the run: its suspicion and its cut are computed from these rows alone, with as many trusted rows as a
run on so few has. What a rule distilled from that says of all other rows is compared with what the run on all rows says
of them, and with the labels. Figures are means over three draws of the part; `told before` is the agreement that the
rows held out in it promise. The vocabulary's weights and the basis of the states are those of all rows, which need no
label. Problems that are named with --trained are compared with the run that trained on all rows; of a part of the rows,
forgetting is then what that run measured. --speed scores the answers of some data sets in one process.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forgetfilter import RowScorer
from forgetfilter.data.draw import in_random_order, random_ranks
from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.metrics.detection import auroc, ranks
from forgetfilter.runs.layout import ASIDE, DATA, KNOWN_UNSAFE, SAFE, TRUSTED
from forgetfilter.suspicion.distilled import as_strict, compare_with_run, distil
from panel import Cell, Look, measure
from panel_problems import CHOSEN, PROBLEMS, REPORTED
from problems import load
from results import Table, add_json

FloatArray = NDArray[np.floating]
SHARES, DRAWS = (0.01, 0.05, 0.2, 0.6), 3
SPEED_ROWS = ("gptfuzz_train", "safety_tuned_llamas", "refusal_direction", "task_alpaca_demo", "davidson")


@dataclass(frozen=True)
class Decided:
    """What a run on some rows says of them.

    Attributes:
        places: The rows among the witnesses, of the data and of known kind, shape (n,).
        suspicion: Their suspicion, shape (n,).
        data: Which of them are of the data, shape (n,).
        removed: Whether each row of the data is removed.
    """

    places: NDArray[np.intp]
    suspicion: FloatArray
    data: NDArray[np.bool_]
    removed: NDArray[np.bool_]


def decided(cell: Cell, chosen: NDArray[np.intp]) -> Decided:
    """Decide about some rows of the data, at these places among the witnesses, as a run on them alone would."""
    witnesses, most = cell.witnesses, len(chosen) // 4
    part = witnesses.part.copy()
    # Of few rows fewer safe ones are set aside; the others are reviewed.
    part[witnesses.of(ASIDE)[most:]] = SAFE
    known = [place for name in np.unique(part) if name not in (DATA, KNOWN_UNSAFE) for place in _of(part, name, most)]
    places = np.sort(np.concatenate([chosen, np.array(known, dtype=np.intp)]))
    look = Look.of(cell, places, part[places])
    fused, data = look.fuse(cell.evidence(places)), look.untrusted
    suspicion, trusted = fused.suspicion, np.isin(look.part, [TRUSTED, ASIDE])
    cut = AutoOfSuspicion(np.empty(0), fused.to_prototypes[data]).cut(suspicion[data], suspicion[trusted])
    return Decided(places, suspicion, data, cut.removes(suspicion[data]))


def _of(part: NDArray[np.str_], name: str, most: int) -> NDArray[np.intp]:
    places = np.flatnonzero(part == name)
    return places[:most] if name == TRUSTED else places


def applied(
    cell: Cell, run: Decided, rest: NDArray[np.intp], evidence: str
) -> tuple[FloatArray, NDArray[np.bool_], float]:
    """Apply a run to other rows: their suspicion, which are removed, and the share of equal decisions told before."""
    features = cell.witnesses.features
    features = features if evidence == "states" else features.without_states()
    order = random_ranks(cell.witnesses.ids.take(pa.array(run.places)))
    rule, predicted = distil(run.suspicion, features.take(run.places), order)
    cut = as_strict(predicted[run.data], int(run.removed.sum()))
    told = compare_with_run(predicted[run.data], run.suspicion[run.data], run.removed, cut)
    suspicion = np.sum(rule.parts(features.take(rest)), axis=0)
    return suspicion, suspicion > (np.inf if cut is None else cut), told.same.value if told.same else float("nan")


def rows(name: str, cell: Cell) -> list[tuple[str, ...]]:
    """Measure the rows of the table for a problem."""
    data = cell.witnesses.of(DATA)
    whole = decided(cell, data)
    found, lost = whole.removed[cell.unsafe].mean(), whole.removed[~cell.unsafe].mean()
    own = auroc(whole.suspicion[whole.data], cell.unsafe)
    all_rows = (f"{name}, all {len(data)} rows", f"{own:.3f}", f"{found:.0%}", f"{lost:.0%}", "", "", "")
    measured: list[tuple[str, ...]] = [all_rows]
    for share in SHARES:
        size = max(2, round(share * len(data)))
        values: dict[str, list[list[float]]] = {"words": [], "states": []}
        for draw in range(DRAWS):
            order = in_random_order(cell.witnesses.ids.take(pa.array(data)), draw)
            chosen, rest = np.sort(order[:size]), np.sort(order[size:])
            run, unsafe, full = decided(cell, data[chosen]), cell.unsafe[rest], whole.suspicion[whole.data][rest]
            for evidence, of_draws in values.items():
                suspicion, removed, told = applied(cell, run, data[rest], evidence)
                of_draws.append([
                    auroc(suspicion, unsafe),
                    removed[unsafe].mean(),
                    removed[~unsafe].mean(),
                    np.corrcoef(ranks(suspicion), ranks(full))[0, 1],
                    (removed == whole.removed[rest]).mean(),
                    told,
                ])  # fmt: skip
        for evidence, of_draws in values.items():
            ranked, found, lost, correlation, same, told = np.mean(of_draws, axis=0)
            shares = (f"{found:.0%}", f"{lost:.0%}", f"{correlation:.2f}", f"{same:.0%}", f"{told:.0%}")
            measured.append((f"{share:.0%} of them ({size} rows), by {evidence}", f"{ranked:.3f}", *shares))
    return measured


def speed(run: Path, data: Path) -> None:
    """Print how many documents a minute of one core's time scores, and how the memory grows with their number."""
    texts = [row["completion"] for name in SPEED_ROWS for row in load(data, name)]
    words = np.mean([len(text.split()) for text in texts])
    print(f"{len(texts):,} answers of {words:.0f} words on average")
    scorer = RowScorer.load(run)
    for rounds in (1, 10):
        began, seen = time.process_time(), 0
        for _ in range(rounds):
            for start in range(0, len(texts), 1000):
                seen += len(scorer.score_texts(texts[start : start + 1000]).words)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{seen:,} documents: {60 * seen / seconds:,.0f} a minute and core, {peak:,.0f} MB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, help="folder for the runs, such as that of panel.py")
    parser.add_argument("--half", choices=(CHOSEN, REPORTED), default=CHOSEN)
    parser.add_argument("--problems", nargs="+", default=["mix", "mix-10%", "toxic", "rare"], help="names of problems")
    parser.add_argument("--trained", nargs="*", default=[], help="names of the problems to filter as usual")
    parser.add_argument("--speed", type=Path, metavar="RUN", help="a run whose scorer is timed")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    if options.speed:
        speed(options.speed, options.data)
        return
    if options.work is None:
        parser.error("--work is needed")
    heads = ("AUROC", "unsafe removed", "harmless lost", "rank correlation", "same decision", "told before")
    table = Table("filtered", *heads)
    for problem in PROBLEMS:
        if problem.half == options.half and problem.name in options.problems and problem.unsafe:
            trained = problem.name in options.trained
            cell = measure(problem, options.data, options.work, options.model, trained=trained)
            for row in rows(f"{problem.name}{', trained' * trained}", cell):
                table.add(*row)
    table.keep(options.json, f"Applied to more rows, half {options.half!r} of the panel")


if __name__ == "__main__":
    main()
