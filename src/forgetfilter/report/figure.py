"""Draw figures of a run for papers, as vector graphics that also print in black and white."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..console import printable
from ..data.rows import Rows
from ..decision.decide import Summary, read_summary
from ..decision.overrides import REMOVED
from ..errors import InputError, RunError, SettingsError
from ..forgetting.signals import LIKELIHOOD_MEAN, SIGNALS
from ..plotting.charts import side_by_side
from ..plotting.style import HEIGHT, LINES, MARKERS, WIDTH, check_matplotlib, save_figure, shown
from ..runs.damage import damage_named
from ..runs.layout import DATA, LEARNED, REVIEWED, ROWS, SCORES, numbered
from ..runs.run import Run
from .review_curve import ReviewCurve, read_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS, _MOST_GROUPS, _NAME_WIDTH = 40, 6, 20


def write_figures(output: Path, folder: Path, column: str | None = None) -> list[Path]:
    """Draw a run's distribution of forgetting or suspicion, forgetting along the review, and the sessions' loss.

    Each is written as an SVG and a PDF. A run that trained nothing has the distribution alone.

    Args:
        output: The run folder.
        folder: The folder for the figures.
        column: A column of the data by whose values rows are grouped, such as a source or a label.

    Returns:
        The files, in order.

    Raises:
        SettingsError: matplotlib is not installed.
        RunError: The run is not decided.
        InputError: The column does not exist or has too many values.
    """
    with damage_named(output):
        return _write_figures(Run.open(output), folder, column)


def _write_figures(run: Run, folder: Path, column: str | None) -> list[Path]:
    summary = read_summary(run)
    check_matplotlib()
    signal = SIGNALS[summary.signal]
    groups, curve = _by_group(run, column), read_curve(run)
    sessions, safe = {"learning": LEARNED}, run.settings.safe.safe
    sessions |= zip(numbered("safety review", safe), numbered(REVIEWED, safe), strict=True)
    losses = {
        name: [step["loss"] for step in run.history(stage)] for name, stage in sessions.items() if run.history(stage)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SettingsError(f"{folder}: there is a file of this name; name a folder for the figures") from None
    by_column = column is not None
    figures: dict[str, Callable[[Figure], None]] = {
        signal.quantity: lambda figure: _draw_rows(figure.subplots(), groups, summary, by_column=by_column)
    }
    if curve is not None:
        curve_groups = _groups_of_curve(run, curve, column)
        figures["review"] = lambda figure: _draw_curve(figure.subplots(), curve, curve_groups)
    if losses:
        figures["sessions"] = lambda figure: _draw_sessions(figure, losses)
    return [path for name, draw in figures.items() for path in save_figure(draw, folder, name, (WIDTH, HEIGHT))]


def _by_group(run: Run, column: str | None) -> dict[str, NDArray[np.floating]]:
    """Group forgetting or suspicion of the scored rows by decision or by a column's values."""
    scores = pq.read_table(run.file(SCORES), columns=["row", "suspicion", "decision"])
    suspicion, positions = (scores.column(name).to_numpy() for name in ("suspicion", "row"))
    scored = ~np.isnan(suspicion)
    suspicion, positions = suspicion[scored], positions[scored]
    if not len(suspicion):
        raise RunError(f"{run.path}: none of its rows has a score; there is nothing to draw")
    if column is None:
        gone = pc.equal(scores.column("decision"), REMOVED).to_numpy()[scored]
        return {"kept": suspicion[~gone], "removed": suspicion[gone]}
    rows = Rows.open(run.folder(ROWS) / DATA)
    order = np.argsort(positions, kind="stable")
    values_of: dict[str, list[float]] = defaultdict(list)
    for i, fields in zip(order, rows.fields(positions[order].tolist()), strict=True):
        if column not in fields:
            raise InputError(f"{rows.name}: row {positions[i]}: there is no column '{printable(column, _NAME_WIDTH)}'")
        values_of[str(fields[column])].append(float(suspicion[i]))
        if len(values_of) > _MOST_GROUPS:
            raise InputError(f"{rows.name}: column '{column}' has more than {_MOST_GROUPS} values; name one with fewer")
    return {name: np.array(values) for name, values in sorted(values_of.items(), key=lambda item: -np.median(item[1]))}


def _groups_of_curve(run: Run, curve: ReviewCurve, column: str | None) -> list[str]:
    """Return the group of each row of the review curve."""
    if column is not None:
        rows = Rows.open(run.folder(ROWS) / DATA)
        return [str(fields[column]) for fields in rows.fields(curve.rows.tolist())]
    scores = pq.read_table(run.file(SCORES), columns=["row", "decision"])
    at = np.searchsorted(scores.column("row").to_numpy(), curve.rows)
    return [str(decision) for decision in scores.column("decision").take(at).to_pylist()]


def _draw_rows(axes: Axes, groups: dict[str, NDArray[np.floating]], summary: Summary, *, by_column: bool) -> None:
    """Draw a histogram; groups differ by line or hatching as well as by shade."""
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins=_BINS)
    for i, (name, values) in enumerate(groups.items()):
        label = f"{shown(name)} ({len(values):,})"
        if by_column:
            axes.hist(values, edges.tolist(), histtype="step", linestyle=LINES[i], label=label)
        else:
            style: dict[str, Any] = {"color": "#c8c8c8"} if i == 0 else {"facecolor": "white", "hatch": "//////"}
            axes.hist(values, edges.tolist(), edgecolor="black", linewidth=0.4, label=label, **style)
    if summary.cut is not None:
        axes.axvline(summary.cut, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel(f"{SIGNALS[summary.signal].quantity} ({summary.unit})")
    axes.set_ylabel("rows")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_curve(axes: Axes, curve: ReviewCurve, groups: list[str]) -> None:
    """Draw means of groups with 95% intervals; groups differ by line and marker, and are slightly offset."""
    means = curve.means(groups)
    offset = 0.012 * curve.steps[-1]
    for i, (name, (count, mean, half)) in enumerate(means.items()):
        axes.errorbar(
            curve.steps + offset * (i - (len(means) - 1) / 2),
            mean,
            yerr=np.nan_to_num(half),
            label=f"{shown(name)} ({count:,})",
            color="black",
            linewidth=1,
            linestyle=LINES[i],
            marker=MARKERS[i],
            markersize=3.5,
            markerfacecolor="white",
            capsize=2,
        )
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("step of the review")
    axes.set_ylabel(f"forgetting ({LIKELIHOOD_MEAN.unit})")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_sessions(figure: Figure, losses: Mapping[str, list[float]]) -> None:
    for axes, (title, losses_of_steps) in zip(side_by_side(figure, len(losses)), losses.items(), strict=True):
        _draw_losses(axes, title, losses_of_steps)


def _draw_losses(axes: Axes, title: str, losses: list[float]) -> None:
    axes.plot(range(1, len(losses) + 1), losses, color="black", linewidth=1)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(f"step of {title}")
    axes.set_ylabel("loss (nats)")
