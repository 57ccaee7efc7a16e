"""Draws a comparison: how well filters find unsafe rows, and how safe and capable each strategy leaves the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...forgetting.estimates import UNKNOWN
from ...plotting.charts import Panel, draw_panels
from ...plotting.style import save_figure
from ..evaluating import OVER_REFUSAL, SAFETY, TASK
from .records import FILTERS, Cell

_FILTER_MEASURES = ("AUROC", "F1", "task lost")
_WIDTH, _ROW = 2.4, 0.18


def draw_figures(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw a figure for each table, as SVG and PDF, and return the files.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    written = []
    for group in dict.fromkeys(cell.group for cell in cells):
        in_table = [cell for cell in cells if cell.group == group]
        table, notion, share, recipe = group
        measures = (
            _FILTER_MEASURES
            if table == FILTERS
            else (*(SAFETY[part] for part in notion.split("+")), TASK, OVER_REFUSAL)
        )
        known = [name for name in measures if any(_known(cell, name) for cell in in_table)]
        if known:
            panels = [_panel(in_table, name) for name in known]
            size = (_WIDTH * len(known) + 1.2, 0.8 + _ROW * len(in_table))
            written += save_figure(partial(draw_panels, panels), folder, f"{table}-{notion}-{share:g}-{recipe}", size)
    return written


def _panel(cells: Sequence[Cell], name: str) -> Panel:
    # Every panel has a row for each cell, as only the first panel shows their names.
    estimates = {cell.name: cell.measures.get(name, UNKNOWN) for cell in cells}
    return Panel(name, estimates, chance=0.5 if name == "AUROC" else None)


def _known(cell: Cell, name: str) -> bool:
    return name in cell.measures and bool(np.isfinite(cell.measures[name].value))
