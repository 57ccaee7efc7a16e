"""Compute the suspicion of every row by fusing all evidence of a run into one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.draw import random_ranks, ranks_of_copies
from ..data.tokens import TokenTable
from ..errors import RunError
from ..forgetting.estimates import Doubt, Planted
from ..forgetting.measuring import columns_of, suspicion_column
from ..forgetting.signals import GUARD, LIKELIHOOD, SIGNALS, Suspicion
from ..runs.inputs import BUILTIN, NONE, SELF, planted_parts
from ..runs.layout import (
    ASIDE,
    DATA,
    EARLIER_PROTOTYPES,
    FORGETTING,
    KNOWN_LATER,
    KNOWN_UNSAFE,
    ORDINARY_PROTOTYPES,
    REVIEWED,
    SAFE,
    SAFE_PROTOTYPES,
    TOKENS,
    TRUSTED,
    UNSAFE_PROTOTYPES,
    WITNESSES,
    numbered,
    rival_stage,
    table_of,
    tokens_of,
)
from ..runs.run import Run
from ..settings.groups import SafeSettings
from ..settings.option import split_names
from ..stages.known_later import with_known_later
from ..stages.witnesses import Witnesses, no_witnesses, read_witnesses
from ..suspicion import kinds as of_kind
from ..suspicion.fusing import FEWEST, Fused, fuse, trust_in
from ..suspicion.likeness import measure_likeness
from ..suspicion.nearest import MOST_COMPARED, Overlap, measure_overlap
from .verdicts import ByHand

FloatArray = NDArray[np.floating]
# The kind of each part's rows for `measure_likeness`; the rows of further safe sets are of the kind of the first's.
KIND_OF_PART = {
    DATA: of_kind.UNTRUSTED,
    SAFE: of_kind.SAFE,
    ASIDE: of_kind.SAFE,
    TRUSTED: of_kind.TRUSTED,
    KNOWN_UNSAFE: of_kind.UNSAFE,
    **dict(zip(UNSAFE_PROTOTYPES, of_kind.FAMILIES, strict=True)),
    EARLIER_PROTOTYPES: of_kind.PROTOTYPE_HARMFUL,
    SAFE_PROTOTYPES: of_kind.PROTOTYPE_SAFE,
    ORDINARY_PROTOTYPES: of_kind.PROTOTYPE_ORDINARY,
    KNOWN_LATER: of_kind.UNSAFE,
}
UNLIKE = "the safe examples are hardly like the data"


def by_review(safe: SafeSettings) -> dict[str, str]:
    """Map the evidence of each of several reviews to the stage that holds its forgetting; empty for a single review."""
    stages = [f"{reviewed}-{FORGETTING}" for reviewed in numbered(REVIEWED, safe.safe)]
    return dict(zip(numbered(FORGETTING, safe.safe), stages, strict=True)) if len(stages) > 1 else {}


def _reviews(run: Run) -> dict[str, str]:
    """Map the evidence of each review, one or several, to the stage that holds its forgetting."""
    return by_review(run.settings.safe) or {FORGETTING: FORGETTING}


def suspect(run: Run, by_hand: ByHand) -> dict[str, Suspicion]:
    """Fuse the evidence of a run about its rows, with a person's decisions about some of them.

    Rows that became known to be unsafe after the run count in likeness like other known unsafe rows. Nothing is known
    about their forgetting, so it counts as that of the rows of the data that are as much like unsafe ones. Of these,
    unsafe rows may be forgotten more than harmless ones, so a recall estimated from known rows is rather too low. No
    row takes part in its own prediction, but similar rows do: where the known rows are much alike, the recall holds
    only for rows like them.

    Args:
        run: The run, with the stage `witnesses`.
        by_hand: Positions of the rows of the data that a person decided about, and whether each is to be removed.

    Returns:
        Suspicion of the data and of the rows of known kind, by part, in the order of their tokens; NaN where a row has
        no completion. Known unsafe rows are followed by those that became known after the run.

    Raises:
        RunError: The run lacks the stage `witnesses`, or that stage holds other rows.
    """
    witnesses, fused, tables = fuse_all(run, by_hand)
    scores = read_checkpoint_scores(run, list(tables))
    suspected = {part: _suspicion(fused, witnesses.of(part), scores[part], table) for part, table in tables.items()}
    later = witnesses.of(KNOWN_LATER)
    if len(later):
        unknown = np.full(len(later), np.nan)
        known = Suspicion(unknown, unknown, fused.suspicion[later], {k: part[later] for k, part in fused.parts.items()})
        suspected[KNOWN_UNSAFE] = suspected[KNOWN_UNSAFE].followed_by(known) if KNOWN_UNSAFE in suspected else known
    return suspected


def fuse_all(run: Run, by_hand: ByHand) -> tuple[Witnesses, Fused, dict[str, TokenTable]]:
    """Fuse the evidence about all rows of a run's witnesses, the package's own rows among them; see `suspect`.

    Returns:
        The rows with their features, their suspicion in the same order, and the tokens of those that are the run's own.

    Raises:
        RunError: The same as `suspect`.
    """
    if not run.has(WITNESSES):
        raise no_witnesses(run)
    witnesses = with_known_later(run, read_witnesses(run))
    tables = _tables(run, witnesses)
    safe, aside = (numbered(name, run.settings.safe.safe) for name in (SAFE, ASIDE))
    kind_of = KIND_OF_PART | dict.fromkeys([*safe, *aside], of_kind.SAFE)
    kinds = np.array([kind_of[part] for part in witnesses.part])
    _label(kinds, witnesses.of(DATA), tables[DATA], by_hand)
    likeness = measure_likeness(witnesses.features, kinds, ranks_of_copies(witnesses.ids))
    others = {
        name: _scatter({part: values[tables[part].scorable] for part, values in by_part.items()}, witnesses.part)
        for name, by_part in _others(run, list(tables)).items()
    }
    harmless = np.isin(witnesses.part, [TRUSTED, *aside])
    # Suspicion is expressed in standard deviations of trusted rows, or of safe ones where the trusted are too few.
    if harmless.sum() < FEWEST:
        harmless = np.isin(witnesses.part, safe)
    trust = trust_in(_overlap(run, witnesses), _reviews(run), int((kinds == of_kind.UNSAFE).sum()))
    return witnesses, fuse(likeness, others, witnesses.part == DATA, harmless, trust), tables


def safe_examples_look_unlike(run: Run) -> Doubt | None:
    """Return what is wrong where the safe examples of a run are of other kinds than the rows of its data."""
    overlap = _overlap(run, read_witnesses(run))
    if overlap is None or not overlap.is_of_another_kind:
        return None
    return Doubt(
        UNLIKE,
        f"{UNLIKE}: {overlap}. Harmless rows of kinds that no safe example has may be removed with the unsafe ones. "
        "Give safe examples like the harmless rows of the data, --safe self, or, as --trusted, harmless rows of the "
        "data that a person has read",
    )


def rests_on_safe_examples(run: Run, planted: Planted) -> bool:
    """Tell whether what trusted rows tell of errors rests on safe examples that are like the data.

    It does not where a person gave trusted rows, and so answers for their being like the harmless rows of the data.
    """
    given = run.settings.planted.trusted not in ("", BUILTIN, NONE) and planted.has_ordinary
    return len(planted.trusted) > 0 and not given


def _overlap(run: Run, witnesses: Witnesses) -> Overlap | None:
    """Measure how far the rows of a run that are known to be harmless lie among its data.

    None where the model gave answers itself: these are to prompts of the data, and the set most like the data counts.
    """
    given = run.settings.safe.safe
    if SELF in given:
        return None
    return overlap_of(witnesses, list(zip(numbered(SAFE, given), numbered(ASIDE, given), strict=True)))


def overlap_of(witnesses: Witnesses, safe: Sequence[Sequence[str]]) -> Overlap | None:
    """Measure how far rows known to be harmless lie among the data; `safe` names the parts of each safe set."""
    by_set = [_states(witnesses, parts) for parts in safe]
    return measure_overlap(_states(witnesses, [DATA]), by_set, _states(witnesses, [TRUSTED]))


def _states(witnesses: Witnesses, parts: Sequence[str]) -> NDArray[np.floating]:
    """Read the states of the first rows of some parts in random order, which is that of no file."""
    places = np.flatnonzero(np.isin(witnesses.part, parts))
    chosen = places[np.argsort(random_ranks(witnesses.ids.take(pa.array(places))))[:MOST_COMPARED]]
    return witnesses.features.states[chosen]


def _tables(run: Run, witnesses: Witnesses) -> dict[str, TokenTable]:
    """Open the tokens of the data and of the rows of known kind, by part.

    Raises:
        RunError: The witnesses hold other rows.
    """
    files = {part: run.folder(TOKENS) / tokens_of(part) for part in (DATA, *planted_parts(run.settings.safe))}
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
    """Select the suspicion of a table's rows; those that have a completion are at these places of `fused`."""
    parts = {name: _at(values[places], table) for name, values in fused.parts.items()}
    to_prototypes = _at(fused.to_prototypes[places], table)
    return Suspicion(*scores, _at(fused.suspicion[places], table), parts, to_prototypes)


def _label(kinds: NDArray[np.integer], data: NDArray[np.intp], table: TokenTable, by_hand: ByHand) -> None:
    """Set the kinds of the rows of the data that a person decided about."""
    places, removed = places_by_hand(data, table, by_hand)
    kinds[places] = np.where(removed, of_kind.UNSAFE, of_kind.HARMLESS)


def places_by_hand(
    data: NDArray[np.intp], table: TokenTable, by_hand: ByHand
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Find the rows that a person decided about among all witnesses, and whether each is to be removed.

    Args:
        data: The places of the data's rows that have a completion.
        table: The tokens of the data.
        by_hand: Positions of rows of the data, and whether each is to be removed; those without a completion are left
            out.
    """
    positions, removed = by_hand
    place_of = np.full(len(table), -1)
    place_of[table.scorable] = data
    places = place_of[positions]
    return places[places >= 0], removed[places >= 0]


def _others(run: Run, parts: list[str]) -> dict[str, dict[str, FloatArray]]:
    """Read the values of witnesses other than likeness, by name and part: forgetting by each review, and rivals."""
    values_of: dict[str, dict[str, FloatArray]] = {}
    if run.has(FORGETTING):
        for name, stage in _reviews(run).items():
            values_of[name] = {
                part: before - after for part, (before, after) in read_checkpoint_scores(run, parts, stage).items()
            }
    # A guard model is a second opinion wherever it was asked, be it as the signal of the run.
    for name in dict.fromkeys([*split_names(run.settings.rivals.rivals), GUARD]):
        folder, column = run.folder(rival_stage(name)), suspicion_column(SIGNALS[name])
        if all((folder / table_of(part)).exists() for part in parts):
            read = {part: pq.read_table(folder / table_of(part), columns=[column]) for part in parts}
            # The stage's name, as a rival may have the name of another kind of evidence.
            values_of[rival_stage(name)] = {part: table.column(0).to_numpy() for part, table in read.items()}
    return values_of


def read_checkpoint_scores(
    run: Run, parts: list[str], stage: str = FORGETTING
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Read s(M1) and s(M2) of the rows of some parts from a stage; NaN where nothing was trained or scored."""
    scores = {}
    columns = list(columns_of(LIKELIHOOD)[:2])
    for part in parts:
        path = run.folder(stage) / table_of(part)
        if path.exists() and columns[0] in pq.read_schema(path).names:
            learned, reviewed = pq.read_table(path, columns=columns).columns
            scores[part] = learned.to_numpy().astype(float), reviewed.to_numpy().astype(float)
        else:
            count = len(TokenTable(run.folder(TOKENS) / tokens_of(part)))
            scores[part] = np.full(count, np.nan), np.full(count, np.nan)
    return scores


def _scatter(of_parts: dict[str, FloatArray], part: NDArray[np.str_]) -> FloatArray:
    """Scatter the values of some parts' rows over all rows, NaN elsewhere."""
    values = np.full(len(part), np.nan)
    for name, own in of_parts.items():
        values[part == name] = own
    return values


def _at(values: FloatArray, table: TokenTable) -> FloatArray:
    """Scatter the values of rows that have a completion over all rows of a table, NaN elsewhere."""
    whole = np.full(len(table), np.nan)
    whole[table.scorable] = values
    return whole
