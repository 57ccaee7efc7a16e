"""Measures, under varying conditions, how far unsafe rows stand out from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...forgetting.auto import Auto
from ...forgetting.cuts import Threshold
from ...forgetting.estimates import UNKNOWN, Estimate
from ...metrics.detection import detection, row_interval
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..experiment import Experiment
from ..mixing import Mix
from ..strategies.strategy import SAFE
from .averaging import mean_over_draws
from .context import SAFE_LABEL, UNSAFE, StudyContext, align, groups_by_id
from .curves import Curve, forgetting_curve, group_mean, mean_difference, separation
from .study import Finding, as_columns

_AUTO = Auto()


@dataclass(frozen=True)
class Outcome:
    """What a review did to the groups of one noisy set.

    Attributes:
        unsafe, safe, task: Mean forgetting of the group, in nats per token; NaN if it has no rows.
        gap: Mean forgetting of the unsafe rows minus that of all others.
        auroc: AUROC of forgetting, for the unsafe rows among the others.
        f1: F1 of what a threshold removes, by default `auto`.
    """

    unsafe: Estimate
    safe: Estimate
    task: Estimate
    gap: Estimate
    auroc: Estimate
    f1: Estimate

    @classmethod
    def of(cls, curve: Curve, group: NDArray[np.str_], point: int = -1, threshold: Threshold = _AUTO) -> Outcome:
        """Compute the outcome at a point of a curve, by default its end."""
        forgetting, unsafe = curve.forgetting[point], group == UNSAFE
        task = ~unsafe & (group != SAFE_LABEL)
        by_group = [_mean(forgetting[chosen]) for chosen in (unsafe, group == SAFE_LABEL, task)]
        gap = mean_difference(forgetting, unsafe)
        f1 = _f1(threshold.cut(forgetting).removes(forgetting), unsafe)
        return cls(by_group[0], by_group[1], by_group[2], gap, separation(forgetting, unsafe), f1)

    def numbers(self) -> dict[str, float]:
        """List every number by name, for a study's data."""
        return as_columns(vars(self))


def _mean(values: NDArray[np.floating]) -> Estimate:
    return group_mean(values) if len(values) else UNKNOWN


def _f1(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Estimate:
    def f1(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> float:
        return detection(removed, unsafe).f1

    return Estimate(f1(removed, unsafe), *row_interval(f1, removed, unsafe))


def mean_outcome(context: StudyContext, draws: Sequence[Mix], **changes: Any) -> Outcome:
    """Compute the outcome on a noisy set with some settings changed, averaged over its draws."""
    return mean_over_draws(draws, lambda mix: review_outcome(context, mix, context.experiment(mix, **changes)))


def review_outcome(context: StudyContext, mix: Mix, experiment: Experiment, review: str = SAFE) -> Outcome:
    """Compute the outcome on one draw of a review with some rows of an experiment."""
    curve = forgetting_curve(experiment, [context.review_steps], epochs=context.epochs, review=review)
    return Outcome.of(curve, align(groups_by_id(mix), curve.ids))


def outcomes_finding(outcomes: Mapping[tuple[str, ...], Outcome], columns: Sequence[str], summary: str) -> Finding:
    """Make the finding of a study that compares conditions: a table of all, with gap, AUROC and F1 in the figure.

    Args:
        outcomes: The outcomes, by condition; a condition has one value for each column.
        columns: The names of the columns that describe the conditions.
        summary: The result in words.
    """
    data: list[dict[str, Any]] = [
        dict(zip(columns, condition, strict=True)) | outcome.numbers() for condition, outcome in outcomes.items()
    ]
    table = markdown_table(
        (*columns, "unsafe", "safe", "task", "gap", "AUROC", "F1"),
        [(*condition, o.unsafe, o.safe, o.task, o.gap, o.auroc, o.f1) for condition, o in outcomes.items()],
    )
    names = {" ".join(condition): outcome for condition, outcome in outcomes.items()}

    panels = [
        Panel("gap (nats/token)", {name: o.gap for name, o in names.items()}, chance=0),
        Panel("AUROC", {name: o.auroc for name, o in names.items()}, chance=0.5),
        Panel("F1", {name: o.f1 for name, o in names.items()}),
    ]
    return Finding(data, table, summary, partial(draw_panels, panels), (7.2, 0.8 + 0.2 * len(outcomes)))


def describe_extremes(outcomes: Mapping[tuple[str, ...], Outcome]) -> str:
    """Name the conditions under which unsafe rows stand out most and least."""
    known = {condition: o.auroc for condition, o in outcomes.items() if np.isfinite(o.auroc.value)}
    if not known:
        return "Nothing can be told: there are no unsafe rows, or no others."
    best, worst = max(known, key=lambda c: known[c].value), min(known, key=lambda c: known[c].value)
    described = [
        f"{' '.join(c)} (AUROC {known[c].value:.2f}, {known[c].low:.2f} to {known[c].high:.2f})" for c in (best, worst)
    ]
    return f"Unsafe rows stand out most with {described[0]} and least with {described[1]}."
