"""The same measurement under several conditions: how far unsafe rows are apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...forgetting.estimates import UNKNOWN, Estimate
from ...forgetting.thresholds import Auto, Threshold
from ...metrics.detection import detection, row_interval
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..lab import Lab
from ..mixing import Mix
from ..strategies.strategy import SAFE
from .curves import Curve, forgetting_curve, group_mean, mean_difference, separation
from .draws import over_draws
from .study import Finding, flat
from .workspace import SAFE_LABEL, UNSAFE, Room, group_of, in_order

_AUTO = Auto()


@dataclass(frozen=True)
class Outcome:
    """What a review did to the groups of one data set.

    Attributes:
        unsafe, safe, task: Mean forgetting of the group, in nats a token; NaN where there are no such rows.
        gap: Mean forgetting of the unsafe rows less that of all others.
        auroc: Of forgetting, for the unsafe rows among the others.
        f1: Of what a threshold removes, `auto` where no other is named.
    """

    unsafe: Estimate
    safe: Estimate
    task: Estimate
    gap: Estimate
    auroc: Estimate
    f1: Estimate

    @classmethod
    def of(cls, curve: Curve, group: NDArray[np.str_], point: int = -1, threshold: Threshold = _AUTO) -> Outcome:
        """At a point of a curve, by default its end."""
        forgetting, unsafe = curve.forgetting[point], group == UNSAFE
        task = ~unsafe & (group != SAFE_LABEL)
        by_group = [_mean(forgetting[chosen]) for chosen in (unsafe, group == SAFE_LABEL, task)]
        gap = mean_difference(forgetting, unsafe)
        f1 = _f1(threshold.cut(forgetting).removes(forgetting), unsafe)
        return cls(by_group[0], by_group[1], by_group[2], gap, separation(forgetting, unsafe), f1)

    def numbers(self) -> dict[str, float]:
        """Every number by name, for a study's data."""
        return flat(vars(self))


def _mean(values: NDArray[np.floating]) -> Estimate:
    return group_mean(values) if len(values) else UNKNOWN


def _f1(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Estimate:
    def f1(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> float:
        return detection(removed, unsafe).f1

    return Estimate(f1(removed, unsafe), *row_interval(f1, removed, unsafe))


def outcome(room: Room, draws: Sequence[Mix], **changes: Any) -> Outcome:
    """What a review does to a noisy set, with some settings changed."""

    return over_draws(draws, lambda mix: outcome_of(room, mix, room.lab(mix, **changes)))


def outcome_of(room: Room, mix: Mix, lab: Lab, review: str = SAFE) -> Outcome:
    """What a review with some rows of a lab does to one draw."""
    curve = forgetting_curve(lab, [room.review_steps], epochs=room.epochs, review=review)
    return Outcome.of(curve, in_order(group_of(mix), curve.ids))


def finding(outcomes: Mapping[tuple[str, ...], Outcome], columns: Sequence[str], seen: str) -> Finding:
    """A study whose conditions stand in a table, with gap, AUROC and F1 drawn beside each other.

    Args:
        outcomes: By condition: one value for each column.
        columns: What the conditions are.
        seen: What was seen.
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
    return Finding(data, table, seen, partial(draw_panels, panels), (7.2, 0.8 + 0.2 * len(outcomes)))


def widest(outcomes: Mapping[tuple[str, ...], Outcome]) -> str:
    """The condition under which unsafe rows stand out most and least, in words."""
    known = {condition: o.auroc for condition, o in outcomes.items() if np.isfinite(o.auroc.value)}
    if not known:
        return "Nothing can be told: there are no unsafe rows, or no others."
    best, worst = max(known, key=lambda c: known[c].value), min(known, key=lambda c: known[c].value)
    said = [
        f"{' '.join(c)} (AUROC {known[c].value:.2f}, {known[c].low:.2f} to {known[c].high:.2f})" for c in (best, worst)
    ]
    return f"Unsafe rows stand out most with {said[0]} and least with {said[1]}."
