"""Write tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from ..console import printable
from ..forgetting.estimates import Estimate

Cell: TypeAlias = str | int | float | Estimate | None
_MARKUP = "\\`*_{}[]#|~!>"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Write a table, ending with an empty line; numbers get two decimals, estimates a 95% interval, unknowns "–"."""
    lines = [
        _line([_cell(name) for name in header]),
        "|---" * len(header) + "|",
        *(_line([_cell(cell) for cell in row]) for row in rows),
    ]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return printable(cell).replace("|", "\\|").replace("<", "&lt;")
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return _number(cell)
    if not np.isfinite(cell.low):
        return _number(cell.value)
    return f"{_number(cell.value)} ({_number(cell.low)} to {_number(cell.high)})"


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    # What rounds to zero has no sign.
    return f"{value:z.2f}" if abs(value) < 10 else f"{value:,.1f}"


def plain(text: str) -> str:
    """Write text of others so that it is shown as it stands: on one line, and no part of it taken for Markdown."""
    escaped = "".join(f"\\{c}" if c in _MARKUP else c for c in printable(text))
    return escaped.replace("<", "&lt;")


def code(text: str) -> str:
    """Write text of others as a span of code, in which a backtick becomes a quote."""
    shown = printable(text).replace("`", "'").replace("|", "\\|")
    return f"`{shown or ' '}`"
