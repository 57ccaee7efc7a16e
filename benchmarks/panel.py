"""Measure how well suspicion finds unsafe rows of many kinds of data, with 0, 10 or 30 known unsafe rows of each kind.

    python benchmarks/panel.py --data ../shared/data/normalised --work /tmp/panel --half chosen
    python benchmarks/panel.py --data ../shared/data/normalised --work /tmp/panel --half reported --trained harmful mix

Every problem (`panel_problems.py`) is measured once, in a run without training that has 30 known unsafe rows of each
kind; those that are named with --trained are also filtered as usual, without known rows, which takes minutes each.
Everything is computed from what these runs keep, so that a new idea costs seconds. Finished runs are read again from
the work folder. Constants are chosen on the half `chosen`; the other is run to report.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from forgetfilter import ForgetFilter
from forgetfilter.data.draw import ranks_of_copies
from forgetfilter.data.tokens import TokenTable
from forgetfilter.decision.suspicion import KIND_OF_PART, overlap_of, read_checkpoint_scores
from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval, detection
from forgetfilter.rivals.texts import known_by_words
from forgetfilter.runs.layout import ASIDE, DATA, FORGETTING, KNOWN_UNSAFE, SAFE, TOKENS, TRUSTED
from forgetfilter.runs.run import Run
from forgetfilter.stages.witnesses import Witnesses, read_witnesses
from forgetfilter.suspicion.fusing import FEWEST, Fused, fuse, trust_in
from forgetfilter.suspicion.likeness import Likeness, measure_likeness
from forgetfilter.suspicion.nearest import Overlap
from panel_problems import CHOSEN, KNOWN_ROWS, PROBLEMS, REPORTED, Drawn, Problem, draw
from problems import Row
from results import Table, add_json

KNOWN = (0, 10, 30)
# Rows of known kind, by what they are called in `results`.
OF_KNOWN = {"ordinary": TRUSTED, "set aside": ASIDE, "unsafe": KNOWN_UNSAFE}


# Values of further witnesses by name, each of shape (n,).
Evidence = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Cell:
    """The measurements of one problem.

    Attributes:
        drawn: Its rows.
        witnesses: Their features, measured without training.
        unsafe: Whether each untrusted row is unsafe, in the order of `witnesses`.
        forgetting: The forgetting of every row of `witnesses`, NaN where nothing was trained.
    """

    drawn: Drawn
    witnesses: Witnesses
    unsafe: NDArray[np.bool_]
    forgetting: NDArray[np.floating]

    @property
    def trained(self) -> bool:
        """Tell whether it was also filtered as usual."""
        return not np.isnan(self.forgetting).all()

    def unsafe_of(self, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which of the untrusted rows at these places are unsafe."""
        unsafe = np.zeros(len(self.witnesses.part), dtype=bool)
        unsafe[self.witnesses.of(DATA)] = self.unsafe
        return np.asarray(unsafe[chosen[self.witnesses.part[chosen] == DATA]])

    def evidence(self, chosen: NDArray[np.intp]) -> Evidence:
        """Return what training tells about the rows at these places; nothing where nothing was trained."""
        return {FORGETTING: self.forgetting[chosen]} if self.trained else {}

    def steps(self, chosen: NDArray[np.intp]) -> list[Evidence]:
        """Return the evidence about these rows before training and, where it was trained, after it."""
        return [{}, self.evidence(chosen)] if self.trained else [{}]

    def with_known(self, known: int) -> NDArray[np.intp]:
        """Return the places of all rows but the known unsafe ones beyond so many of each kind."""
        used = np.ones(len(self.witnesses.part), dtype=bool)
        used[self.witnesses.of(KNOWN_UNSAFE)[known * len(self.drawn.known_unsafe) // KNOWN_ROWS :]] = False
        return np.flatnonzero(used)


def measure(problem: Problem, data: Path, work: Path, model: str, *, trained: bool) -> Cell:
    """Measure a problem without training, and filter it where `trained`; finished runs are read again."""
    drawn, folder = draw(problem, data, 0), work / problem.half / problem.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {"noisy": drawn.noisy, "safe": drawn.safe, "known": drawn.known_unsafe}
    for name, rows in files.items():
        _write(rows, folder / f"{name}.jsonl")
    noisy, safe = str(folder / "noisy.jsonl"), str(folder / "safe.jsonl") if drawn.safe else "builtin"
    look = ForgetFilter(model=model, training=False)
    run = Run.open(look.run(noisy, safe, known_unsafe=str(folder / "known.jsonl"), output=folder / "look").path)
    witnesses = read_witnesses(run)
    table = TokenTable(run.folder(TOKENS) / f"{DATA}.arrow")
    unsafe = np.array([drawn.noisy[row]["label"] == "unsafe" for row in table.rows[table.scorable]])
    forgetting = np.full(len(witnesses.part), np.nan)
    if trained:
        full = Run.open(ForgetFilter(model=model).run(noisy, safe, output=folder / "run").path)
        for part in (DATA, TRUSTED, ASIDE):
            if (full.folder(FORGETTING) / f"{part}.parquet").exists():
                _join(forgetting, witnesses, part, full)
    return Cell(drawn, witnesses, unsafe, forgetting)


def _write(rows: list[Row], path: Path) -> None:
    text = "".join(json.dumps({name: values[name] for name in ("prompt", "completion")}) + "\n" for values in rows)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _join(forgetting: NDArray[np.floating], witnesses: Witnesses, part: str, full: Run) -> None:
    """Copy the forgetting of a part's rows from a run in which they were learned, by id."""
    learned, reviewed = read_checkpoint_scores(full, [part])[part]
    ids = TokenTable(full.folder(TOKENS) / f"{part}.arrow").ids.combine_chunks()
    places = witnesses.of(part)
    indices = pc.index_in(witnesses.ids.take(pa.array(places)), value_set=ids)
    forgetting[places[indices.is_valid().to_numpy()]] = (learned - reviewed)[indices.drop_null().to_numpy()]


@dataclass(frozen=True)
class Look:
    """The likeness of some of the witnesses, as a run that had these alone would measure it.

    Attributes:
        places: Their places among all witnesses of the cell.
        witnesses: These alone.
        likeness: What the rules say about each.
    """

    places: NDArray[np.intp]
    witnesses: Witnesses
    likeness: Likeness

    @classmethod
    def at(cls, cell: Cell, chosen: NDArray[np.intp]) -> Look:
        """Measure it for the rows at these places."""
        return cls.of(cell, chosen, cell.witnesses.part[chosen])

    @classmethod
    def of(cls, cell: Cell, chosen: NDArray[np.intp], part: NDArray[np.str_]) -> Look:
        """Measure it for the rows at these places, as if they were of these parts."""
        ids = cell.witnesses.ids.take(pa.array(chosen))
        witnesses = Witnesses(part, ids, cell.witnesses.features.take(chosen))
        kinds = np.array([KIND_OF_PART[name] for name in part])
        return cls(chosen, witnesses, measure_likeness(witnesses.features, kinds, ranks_of_copies(ids)))

    @property
    def part(self) -> NDArray[np.str_]:
        return self.witnesses.part

    @property
    def untrusted(self) -> NDArray[np.bool_]:
        return np.asarray(self.part == DATA)

    @property
    def harmless(self) -> NDArray[np.bool_]:
        harmless = np.isin(self.part, [TRUSTED, ASIDE])
        return harmless if harmless.sum() >= FEWEST else np.asarray(self.part == SAFE)

    @cached_property
    def overlap(self) -> Overlap | None:
        """How far rows known to be harmless lie among the data; None where there are too few to tell."""
        return overlap_of(self.witnesses, [[SAFE, ASIDE]])

    @property
    def is_of_another_kind(self) -> bool:
        """Tell whether the safe examples are of another kind than the data."""
        return self.overlap is not None and self.overlap.is_of_another_kind

    def fuse(self, others: Evidence) -> Fused:
        """Fuse likeness with other evidence, by name."""
        trust = trust_in(self.overlap, [FORGETTING], int((self.part == KNOWN_UNSAFE).sum()))
        return fuse(self.likeness, others, self.untrusted, self.harmless, trust)


def results(cell: Cell, known: int) -> dict[str, NDArray[np.floating]]:
    """Score the untrusted rows in each way, by name, with so many known unsafe rows of each kind; larger = unsafe.

    The names in OF_KNOWN stand for suspicion of the rows of known kind, for the cutoff, `like prototypes` for the
    likeness of the untrusted rows to prototypes.
    """
    chosen = cell.with_known(known)
    look = Look.at(cell, chosen)
    likeness, untrusted = look.likeness, look.untrusted
    fused = look.fuse(cell.evidence(chosen))
    scores = {
        "suspicion": fused.suspicion,
        "without training": look.fuse({}).suspicion,
        "own rows": likeness.by_words + likeness.by_states,
        "prototypes": likeness.to_prototypes,
    }
    scores |= {"forgetting": cell.forgetting[chosen]} if cell.trained else {}
    by_way = {name: values[untrusted] for name, values in scores.items()}
    if known:
        by_way["bag of words"] = _by_bag_of_words(cell.drawn, known)
    of_known = {name: fused.suspicion[look.part == part] for name, part in OF_KNOWN.items()}
    return by_way | of_known | {"like prototypes": fused.to_prototypes[untrusted]}


def _by_bag_of_words(drawn: Drawn, known: int) -> NDArray[np.floating]:
    """Score the untrusted rows with a classifier of words that has as many labels: known unsafe rows, and safe ones."""
    unsafe = drawn.known_unsafe[: known * len(drawn.known_unsafe) // KNOWN_ROWS]
    rows = [*drawn.noisy, *unsafe, *drawn.safe]
    kinds = np.repeat([0, 1, -1], [len(drawn.noisy), len(unsafe), len(drawn.safe)])
    texts = [f"{row['prompt']}\n{row['completion']}" for row in rows]
    return known_by_words(texts, kinds, [str(i) for i in range(len(rows))])[: len(drawn.noisy)]


COLUMNS = (
    "rows",
    "known",
    "AUROC (95%)",
    "average precision",
    "F1 at `auto` / best",
    "harmless lost",
    "first look: AUROC",
    "prototypes alone",
    "bag of words",
    "forgetting alone",
)


def row(problem: Problem, cell: Cell, known: int) -> tuple[str, ...]:
    """Format a row of the table."""
    by_way = results(cell, known)
    ordinary, set_aside, unsafe = (by_way.pop(name) for name in OF_KNOWN)
    suspicion, trusted = by_way["suspicion"], np.concatenate([ordinary, set_aside])
    cut = AutoOfSuspicion(unsafe, by_way.pop("like prototypes")).cut(suspicion, trusted)
    removed = cut.removes(suspicion)
    lost = f"{removed[~cell.unsafe].mean():.0%}"
    if not cell.unsafe.any():
        return (problem.name, str(known), "–", "–", "–", lost, *["–"] * 4)
    low, high = bootstrap_interval(suspicion, cell.unsafe)
    best = max(detection(suspicion > value, cell.unsafe).f1 for value in np.unique(suspicion))
    ways = ("without training", "prototypes", "bag of words", "forgetting")
    return (
        problem.name,
        str(known),
        f"{auroc(suspicion, cell.unsafe):.3f} ({low:.3f} to {high:.3f})",
        f"{average_precision(suspicion, cell.unsafe):.2f}",
        f"{detection(removed, cell.unsafe).f1:.2f} / {best:.2f}",
        lost,
        *(f"{auroc(by_way[way], cell.unsafe):.3f}" if way in by_way else "–" for way in ways),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--half", choices=(CHOSEN, REPORTED), default=CHOSEN)
    parser.add_argument("--problems", nargs="+", help="names of problems; all if left out")
    parser.add_argument("--trained", nargs="*", default=[], help="names of the problems to filter as usual, too")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    table = Table(*COLUMNS)
    for problem in PROBLEMS:
        if problem.half != options.half or (options.problems and problem.name not in options.problems):
            continue
        trained = problem.name in options.trained
        cell = measure(problem, options.data, options.work, options.model, trained=trained)
        for known in KNOWN:
            table.add(*row(problem, cell, known))
    table.keep(options.json, f"Suspicion on the sources of the half {options.half!r}")


if __name__ == "__main__":
    main()
