"""Draw the kinds of plots that several figures share: lines with bands, dots with intervals, and matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..forgetting.estimates import Estimate
from .style import LINES, MARKERS, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.8"


def side_by_side(figure: Figure, count: int) -> list[Axes]:
    """Make this many plots in a row."""
    return list(np.atleast_1d(figure.subplots(1, count, squeeze=True)))


def lines(axes: Axes, series: Mapping[str, Sequence[tuple[float, Estimate]]], labels: tuple[str, str]) -> None:
    """Draw a line with a 95% band for each name, through (x, estimate) points; lines differ by dashes and markers."""
    for i, (name, points) in enumerate(series.items()):
        x, estimates = [place for place, _ in points], [estimate for _, estimate in points]
        style: dict[str, Any] = {"linestyle": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)]}
        axes.plot(x, [e.value for e in estimates], markersize=3, linewidth=1, label=shown(name), **style)
        axes.fill_between(x, [e.low for e in estimates], [e.high for e in estimates], alpha=0.15, linewidth=0)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if series:
        axes.legend(frameon=False, fontsize=6, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def dots(axes: Axes, estimates: Mapping[str, Estimate], label: str, chance: float | None = None) -> None:
    """Draw a dot with its 95% interval for each name, one below the other."""
    heights = np.arange(len(estimates))
    values = np.array([e.value for e in estimates.values()])
    distances = np.array([[e.value - e.low, e.high - e.value] for e in estimates.values()]).T
    axes.errorbar(values, heights, xerr=np.maximum(np.nan_to_num(distances), 0), fmt="o", color="black", markersize=3)
    axes.set_yticks(heights, [shown(name) for name in estimates])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if chance is not None:
        axes.axvline(chance, color=_GREY, zorder=0)


@dataclass(frozen=True)
class Panel:
    """One plot of dots.

    Attributes:
        label: Label of the x axis.
        estimates: Estimates by name.
        chance: The value that chance would give, marked by a line; None for no line.
    """

    label: str
    estimates: Mapping[str, Estimate]
    chance: float | None = None


def draw_panels(panels: Sequence[Panel], figure: Figure) -> None:
    """Draw plots of dots side by side; all share the row names of the first."""
    for i, (axes, panel) in enumerate(zip(side_by_side(figure, len(panels)), panels, strict=True)):
        dots(axes, panel.estimates, panel.label, panel.chance)
        if i:
            axes.set_yticklabels([])


def matrix(
    axes: Axes,
    values: NDArray[np.floating],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    title: str,
) -> None:
    """Draw numbers in cells shaded by value; `rows` and `columns` hold an axis label and the names along the axis."""
    axes.imshow(values, cmap="Greys", aspect="auto", alpha=0.6)
    axes.set_xticks(range(len(columns[1])), [shown(name) for name in columns[1]], rotation=30, ha="right")
    axes.set_yticks(range(len(rows[1])), [shown(name) for name in rows[1]])
    axes.set_xlabel(columns[0])
    axes.set_ylabel(rows[0])
    axes.set_title(title, fontsize=8)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            axes.text(j, i, "–" if np.isnan(value) else f"{value:z.2f}", ha="center", va="center", fontsize=7)
