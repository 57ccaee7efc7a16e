"""The figure of a comparison: how well filters find the unsafe rows, and what strategies leave of safety and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...forgetting.estimates import UNKNOWN
from ...plotting.charts import Panel, draw_panels
from ...plotting.style import save_figure
from ..asking import OVER_REFUSAL, SAFETY, TASK
from .records import FILTERS, Cell

_OF_FILTERS = ("AUROC", "F1", "task lost")
_WIDTH, _ROW = 2.4, 0.18


def draw_figures(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw a figure for each table, as SVG and PDF; returns the files.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    written = []
    for group in dict.fromkeys(cell.group for cell in cells):
        here = [cell for cell in cells if cell.group == group]
        table, notion, share, recipe = group
        measures = (
            _OF_FILTERS if table == FILTERS else (*(SAFETY[part] for part in notion.split("+")), TASK, OVER_REFUSAL)
        )
        known = [name for name in measures if any(_known(cell, name) for cell in here)]
        if known:
            panels = [_panel(here, name) for name in known]
            size = (_WIDTH * len(known) + 1.2, 0.8 + _ROW * len(here))
            written += save_figure(partial(draw_panels, panels), folder, f"{table}-{notion}-{share:g}-{recipe}", size)
    return written


def _panel(cells: Sequence[Cell], name: str) -> Panel:
    # Every panel has a row for each cell, as the names stand beside the first alone.
    there = {cell.name: cell.measures.get(name, UNKNOWN) for cell in cells}
    return Panel(name, there, chance=0.5 if name == "AUROC" else None)


def _known(cell: Cell, name: str) -> bool:
    return name in cell.measures and bool(np.isfinite(cell.measures[name].value))
