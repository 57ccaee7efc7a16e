"""Compare how M1 was trained elsewhere with the run that is to tell what it forgets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..console import printable, told_apart
from ..data.tokens import TokenTable
from ..models.checkpoint import Checkpoint, Record, beginning
from ..runs.layout import DATA
from .filter_run import FilterRun

_SHOWN = 120
# The least share of the rows that the training began with which the data should have as well.
_LEAST_FOUND = 0.5


def doubts_about(learned: Checkpoint, work: FilterRun) -> Iterator[str]:
    """Yield a line for each thing by which the training seems to have been of another model or of other rows."""
    named = work.run.settings.model.model
    if learned.base and not _same(learned.base, named):
        base, other = (printable(name, _SHOWN) for name in told_apart([learned.base, named]))
        yield (
            f"the learned model was trained from {base}, by its own account, and not from {other}; the shapes fit, so "
            "this may be the same model by another name"
        )
    if learned.record is not None:
        yield from _about_rows(learned.record, work)


def _same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(other).exists() and Path(one).samefile(other))


def _about_rows(record: Record, work: FilterRun) -> Iterator[str]:
    table = TokenTable(*work.material.files(DATA).values())
    longer = int((table.lengths > record.max_length).sum()) if record.max_length is not None else 0
    if longer:
        yield (
            f"the learned model was trained on the first {record.max_length:,} tokens of each row, and "
            f"{longer:,} are longer here: answers that begin later were not learned"
        )
    rows = work.material.rows(DATA)
    # A sample lacks most of the rows that were learned.
    if not record.beginnings or len(table) < rows.count - len(rows.bad):
        return
    there = {beginning(table[i].input_ids) for i in range(len(table))}
    found = sum(hashed in there for hashed in record.beginnings) / len(record.beginnings)
    if found < _LEAST_FOUND:
        yield (
            f"of the rows that the learned model was trained on, {found:.0%} begin like a row of the data: these are "
            "other rows, or they were put into another chat template or none; forgetting says little then "
            "(docs/how-to/trainers.md)"
        )
