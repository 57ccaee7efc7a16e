"""Formats the tables of a comparison in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ...plotting.markdown import markdown_table
from .records import FILTERS, STRATEGIES, Cell

_TITLES = {FILTERS: ("Filters", "filter"), STRATEGIES: ("Strategies", "strategy")}


def markdown(cells: Sequence[Cell]) -> str:
    """Format one table for each noisy set and kind of record, with a row for each filter or strategy."""
    groups = dict.fromkeys(cell.group for cell in cells)
    return "\n".join(_table([cell for cell in cells if cell.group == group]) for group in groups)


def _table(cells: list[Cell]) -> str:
    first = cells[0]
    measures = list(dict.fromkeys(name for cell in cells for name in cell.measures))
    draws = f", mean of {first.draws} draws" if first.draws > 1 else ""
    title, kind = _TITLES[first.table]
    rows = [(cell.name, *(cell.measures.get(name) for name in measures)) for cell in cells]
    table = markdown_table((kind, *measures), rows)
    return f"### {title}: {first.notion}, {first.unsafe_share:.0%} unsafe{draws}\n\n{table}"
