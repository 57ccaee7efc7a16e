"""Break suspicion or forgetting down by the columns of the data: by source, user, file, label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.columns import text_columns
from ..data.rows import Rows
from ..decision.reasons import GUARD_FIELDS, found_by_guard

TAG_LENGTH, IN_FILE = 60, "in file"
# Stands among the columns for what a guard model found.
_GUARD_SAYS, _SAFE = "guard model", "safe"
# Columns, values of a column that are shown, values that a column may have, and rows that are looked at.
_COLUMNS, _SHOWN, _DISTINCT, _ROWS = 40, 12, 1000, 20_000
# Numbers for each column, from which the page counts the rows above any threshold; exact up to this number of rows.
_NUMBERS = 2000


def short_fields(columns: Mapping[str, Any], text_fields: set[str]) -> dict[str, str]:
    """Return a row's short fields other than its texts: labels, sources, scores."""
    return {
        str(name)[:TAG_LENGTH]: str(value)
        for name, value in columns.items()
        if isinstance(value, (str, int, float)) and name not in text_fields and 0 < len(str(value)) <= TAG_LENGTH
    }


def quantiles(values: NDArray[np.floating], most: int) -> NDArray[np.floating]:
    """Sort values in ascending order, and thin them out evenly where there are too many."""
    ordered = np.sort(values[~np.isnan(values)])
    if len(ordered) <= most:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, most).round().astype(np.intp)]


def break_down(rows: Rows, scores: pa.Table, cut: float | None, seed: int) -> list[dict[str, Any]]:
    """Group forgetting or suspicion by each column whose values recur, over all rows or a sample of them.

    Of a column with more than a dozen values those with most rows above the cut are told apart; the others are one.

    Args:
        rows: The data.
        scores: The score table, with the columns `row` and `suspicion` and, where a guard model was asked, its two.
        cut: Rows above it are removed.
        seed: Seed of the sample.

    Returns:
        For every column its name, whether its rows are a `sample`, and its values. Each of these has its `count`, how
        many rows are `above` the cut, `quartiles`, and `suspicion` in ascending order, all of it or quantiles. `value`
        is None for the values that are not told apart, `others` their number.
    """
    suspicion = scores.column("suspicion").to_numpy()
    scored = np.flatnonzero(~np.isnan(suspicion))
    sampled = len(scored) > _ROWS
    if sampled:
        scored = np.sort(np.random.default_rng(seed).choice(scored, _ROWS, replace=False))
    places_of = _places_by_value(_fields(rows, scores.take(pa.array(scored))))
    by_column = [(name, _told_apart(values, suspicion[scored], cut)) for name, values in places_of.items()]
    return [
        {
            "column": column,
            "sampled": sampled,
            "values": sorted(values, key=lambda value: -value["quartiles"][2]),
        }
        for column, values in by_column
        if len(values) > 1
    ]


def _fields(rows: Rows, scores: pa.Table) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the places in a score table of its rows, in the order of the input, with their short fields."""
    positions = scores.column("row").to_numpy()
    order = np.argsort(positions, kind="stable")
    text_fields = text_columns(rows.layout, rows.columns)
    files = rows.files(positions).to_pylist() if len(rows.sources) > 1 else None
    guard = [scores.column(name).to_pylist() for name, _ in GUARD_FIELDS if name in scores.column_names]
    for place, columns in zip(order.tolist(), rows.fields(positions[order].tolist()), strict=True):
        fields = {IN_FILE: str(files[place])} if files else {}
        if guard and guard[0][place] is not None and guard[0][place] == guard[0][place]:
            unsafe, categories = (column[place] for column in guard)
            fields[_GUARD_SAYS] = found_by_guard(unsafe, categories)[:TAG_LENGTH] or _SAFE
        yield place, fields | short_fields(columns, text_fields)


def _places_by_value(fields: Iterator[tuple[int, dict[str, str]]]) -> dict[str, dict[str, list[int]]]:
    """Collect places by column and value, without columns of too many values."""
    places_of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    excluded: set[str] = set()
    for place, values in fields:
        for name, value in values.items():
            if name in excluded:
                continue
            if name not in places_of and len(places_of) == _COLUMNS:
                # Were it let in once another column goes, it would be counted in part.
                excluded.add(name)
                continue
            places_of[name][value].append(place)
            if len(places_of[name]) > _DISTINCT:
                excluded.add(name)
                del places_of[name]
    return places_of


def _told_apart(
    places_of: Mapping[str, list[int]], suspicion: NDArray[np.floating], cut: float | None
) -> list[dict[str, Any]]:
    """Describe the values of a column; none where hardly any value recurs."""
    rows = sum(len(places) for places in places_of.values())
    if len(places_of) > _SHOWN and 2 * len(places_of) > rows:
        return []
    limit = np.inf if cut is None else cut
    above = {value: int((suspicion[places] > limit).sum()) for value, places in places_of.items()}
    values = sorted(places_of, key=lambda value: (-above[value], -len(places_of[value]), value))
    apart = values if len(values) <= _SHOWN else values[: _SHOWN - 1]
    groups: list[tuple[str | None, int, list[int]]] = [(value, 0, places_of[value]) for value in apart]
    if rest := values[len(apart) :]:
        groups.append((None, len(rest), [place for value in rest for place in places_of[value]]))
    return [
        {
            "value": value,
            "others": others,
            "count": len(places),
            "above": int((suspicion[places] > limit).sum()),
            "quartiles": [float(f"{q:.5g}") for q in np.quantile(suspicion[places], (0, 0.25, 0.5, 0.75, 1))],
            "suspicion": quantiles(suspicion[places], max(2, _NUMBERS * len(places) // rows)).tolist(),
        }
        for value, others, places in groups
    ]
