"""Suspicion of every row: all evidence that a run has, fused into one number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.draw import random_ranks
from ..data.tokens import TokenTable
from ..errors import RunError
from ..forgetting.measuring import columns_of, rival_stage, suspicion_column
from ..forgetting.signals import LIKELIHOOD, SIGNALS, Suspicion
from ..runs.inputs import ASIDE, DATA, KNOWN_UNSAFE, SAFE, TOKENS, TRUSTED, planted_parts
from ..runs.run import REVIEWED, Run, numbered
from ..settings.groups import Settings
from ..settings.option import split_names
from ..stages.known_later import KNOWN_LATER, with_known_later
from ..stages.witnesses import (
    ORDINARY_PROTOTYPES,
    SAFE_PROTOTYPES,
    UNSAFE_PROTOTYPES,
    WITNESSES,
    Witnesses,
    no_witnesses,
    read_witnesses,
)
from ..suspicion import likeness as of_kind
from ..suspicion.fusing import Fused, fuse
from ..suspicion.likeness import measure_likeness
from .verdicts import ByHand

FORGETTING = "forgetting"
FloatArray = NDArray[np.floating]
# What the rows of each part are to `measure_likeness`; of several safe sets, those of each are what the first ones are.
KIND_OF_PART = {
    DATA: of_kind.UNTRUSTED,
    SAFE: of_kind.SAFE,
    ASIDE: of_kind.SAFE,
    TRUSTED: of_kind.TRUSTED,
    KNOWN_UNSAFE: of_kind.UNSAFE,
    UNSAFE_PROTOTYPES: of_kind.PROTOTYPE_UNSAFE,
    SAFE_PROTOTYPES: of_kind.PROTOTYPE_SAFE,
    ORDINARY_PROTOTYPES: of_kind.PROTOTYPE_ORDINARY,
    KNOWN_LATER: of_kind.UNSAFE,
}
# Suspicion is told in standard deviations of trusted rows, or of safe ones where there are fewer of these.
_FEWEST_HARMLESS = 10


def by_review(settings: Settings) -> dict[str, str]:
    """Of several reviews, the stage that has forgetting by each, by the name of what it says; of a single one none."""
    stages = [f"{reviewed}-{FORGETTING}" for reviewed in numbered(REVIEWED, settings.safe)]
    return dict(zip(numbered(FORGETTING, settings.safe), stages, strict=True)) if len(stages) > 1 else {}


def suspect(run: Run, by_hand: ByHand) -> dict[str, Suspicion]:
    """Fuse what a run knows of its rows, and what a person said of some of them.

    Rows that became known to be unsafe after the run count in likeness as others that are known. What that costs:
    forgetting is silent about them, as of a middling row of the data. Where unsafe rows are forgotten most, they look
    less suspicious than their like in the data, so that the recall that they tell is rather too low, and a cut that
    they tell, too. No row takes part in what is said of itself, but rows that say alike do: where the known ones are
    much alike, that recall is of rows like them alone.

    Args:
        run: The run, with what `witnesses` keeps.
        by_hand: Places of the rows of the data that a person decided about, and whether each is to be removed.

    Returns:
        Of the data, and of the rows of known kind that there are, by part, in the order of their tokens; NaN where a
        row has no completion. Known unsafe rows are followed by those that became known after the run.

    Raises:
        RunError: The run lacks what `witnesses` keeps, or that is of other rows.
    """
    if not run.has(WITNESSES):
        raise no_witnesses(run)
    witnesses = with_known_later(run, read_witnesses(run))
    tables = _tables(run, witnesses)
    safe, aside = (numbered(name, run.settings.safe) for name in (SAFE, ASIDE))
    kind_of = KIND_OF_PART | dict.fromkeys([*safe, *aside], of_kind.SAFE)
    kinds = np.array([kind_of[part] for part in witnesses.part])
    _label(kinds, witnesses.of(DATA), tables[DATA], by_hand)
    found = measure_likeness(witnesses.marks, kinds, random_ranks(witnesses.ids))
    others = {
        name: _spread({part: values[tables[part].scorable] for part, values in of.items()}, witnesses.part)
        for name, of in _others(run, list(tables)).items()
    }
    harmless = np.isin(witnesses.part, [TRUSTED, *aside])
    if harmless.sum() < _FEWEST_HARMLESS:
        harmless = np.isin(witnesses.part, safe)
    fused = fuse(found, others, witnesses.part == DATA, harmless)
    scores = sessions(run, list(tables))
    suspected = {part: _suspicion(fused, witnesses.of(part), scores[part], table) for part, table in tables.items()}
    later = witnesses.of(KNOWN_LATER)
    if len(later):
        never = np.full(len(later), np.nan)
        known = Suspicion(never, never, fused.suspicion[later], {k: part[later] for k, part in fused.parts.items()})
        suspected[KNOWN_UNSAFE] = suspected[KNOWN_UNSAFE].followed_by(known) if KNOWN_UNSAFE in suspected else known
    return suspected


def _tables(run: Run, witnesses: Witnesses) -> dict[str, TokenTable]:
    """The tokens of the data and of the rows of known kind, by part.

    Raises:
        RunError: The witnesses are of other rows.
    """
    files = {part: run.folder(TOKENS) / f"{part}.arrow" for part in (DATA, *planted_parts(run.settings))}
    tables = {part: TokenTable(file) for part, file in files.items() if file.exists()}
    for part, table in tables.items():
        own = witnesses.ids.take(pa.array(witnesses.of(part)))
        if not own.equals(table.ids.take(pa.array(table.scorable))):
            raise RunError(
                f"{run.folder(WITNESSES)}: not of the rows that were tokenised; pass --overwrite to start again"
            )
    return tables


def _suspicion(
    fused: Fused, places: NDArray[np.intp], scores: tuple[FloatArray, FloatArray], table: TokenTable
) -> Suspicion:
    """What all evidence says of the rows of a table, of which those that have a completion are in these places."""
    parts = {name: _at(values[places], table) for name, values in fused.parts.items()}
    return Suspicion(*scores, _at(fused.suspicion[places], table), parts)


def _label(kinds: NDArray[np.integer], data: NDArray[np.intp], table: TokenTable, by_hand: ByHand) -> None:
    """What a person said of some rows of the data makes them of known kind."""
    positions, removed = by_hand
    among = np.full(len(table), -1)
    among[table.scorable] = data
    places = among[positions]
    there = places >= 0
    kinds[places[there]] = np.where(removed[there], of_kind.UNSAFE, of_kind.HARMLESS)


def _others(run: Run, parts: list[str]) -> dict[str, dict[str, FloatArray]]:
    """What witnesses besides likeness say, by name and part: forgetting by each review, and rivals that were asked."""
    found: dict[str, dict[str, FloatArray]] = {}
    if run.has(FORGETTING):
        for name, stage in (by_review(run.settings) or {FORGETTING: FORGETTING}).items():
            found[name] = {part: before - after for part, (before, after) in sessions(run, parts, stage).items()}
    for name in split_names(run.settings.rivals):
        folder, column = run.folder(rival_stage(name)), suspicion_column(SIGNALS[name])
        if all((folder / f"{part}.parquet").exists() for part in parts):
            read = {part: pq.read_table(folder / f"{part}.parquet", columns=[column]) for part in parts}
            # The stage's name, as a rival may have the name of another kind of evidence.
            found[rival_stage(name)] = {part: table.column(0).to_numpy() for part, table in read.items()}
    return found


def sessions(run: Run, parts: list[str], stage: str = FORGETTING) -> dict[str, tuple[FloatArray, FloatArray]]:
    """s(M1) and s(M2) of the rows of some parts, as a stage has them; NaN where nothing was trained or scored."""
    found = {}
    columns = list(columns_of(LIKELIHOOD)[:2])
    for part in parts:
        path = run.folder(stage) / f"{part}.parquet"
        if path.exists() and columns[0] in pq.read_schema(path).names:
            learned, reviewed = pq.read_table(path, columns=columns).columns
            found[part] = learned.to_numpy().astype(float), reviewed.to_numpy().astype(float)
        else:
            count = len(TokenTable(run.folder(TOKENS) / f"{part}.arrow"))
            found[part] = np.full(count, np.nan), np.full(count, np.nan)
    return found


def _spread(of_parts: dict[str, FloatArray], part: NDArray[np.str_]) -> FloatArray:
    """Values of some parts' rows among all rows, NaN elsewhere."""
    values = np.full(len(part), np.nan)
    for name, own in of_parts.items():
        values[part == name] = own
    return values


def _at(values: FloatArray, table: TokenTable) -> FloatArray:
    """Values of the rows that have a completion among all rows of a table, NaN elsewhere."""
    whole = np.full(len(table), np.nan)
    whole[table.scorable] = values
    return whole
