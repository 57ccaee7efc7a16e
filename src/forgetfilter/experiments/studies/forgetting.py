"""Forgetting along the review, by source (paper, Figure 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...forgetting.estimates import Estimate
from ...plotting.charts import lines, side_by_side
from ...plotting.markdown import markdown_table
from ..mixing import Mix
from .curves import forgetting_curve, group_mean, mean_difference, review_points, separation, told
from .draws import over_draws
from .study import Finding, Study, flat
from .workspace import SAFE_LABEL, UNSAFE, Room, group_of, in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Found:
    """What was found on a noisy set, by review step, and by group of rows.

    Attributes:
        rates: Mean forgetting of each group, in nats a token.
        lost: Mean share of each group's tokens that were recalled after learning and are no more.
        apart: AUROC of forgetting for the unsafe rows.
        unsafe_task, task_safe: At the end, how much more the rows of the one kind are forgotten than the other's.
    """

    rates: dict[int, dict[str, Estimate]]
    lost: dict[int, dict[str, Estimate]]
    apart: dict[int, Estimate]
    unsafe_task: Estimate
    task_safe: Estimate

    @classmethod
    def of(cls, room: Room, mix: Mix) -> _Found:
        curve = forgetting_curve(room.lab(mix), review_points(room.review_steps), epochs=room.epochs)
        group = in_order(group_of(mix), curve.ids)
        last, unsafe, safe = curve.forgetting[-1], group == UNSAFE, group == SAFE_LABEL
        return cls(
            {step: _by_group(row, group) for step, row in zip(curve.steps, curve.forgetting, strict=True)},
            {step: _by_group(row, group) for step, row in zip(curve.steps, curve.lost, strict=True)},
            {step: separation(row, unsafe) for step, row in zip(curve.steps, curve.forgetting, strict=True)},
            mean_difference(last[~safe], unsafe[~safe]),
            mean_difference(last[~unsafe], ~safe[~unsafe]),
        )


def _run(room: Room) -> Finding:
    found = {room.title(draws): over_draws(draws, lambda mix: _Found.of(room, mix)) for draws in room.sets}
    rows = {room.title(draws): _rows(draws) for draws in room.sets}
    data = [row for name, one in found.items() for row in _numbers(name, one, rows[name])]

    def draw(figure: Figure) -> None:
        for axes, (name, one) in zip(side_by_side(figure, len(found)), found.items(), strict=True):
            groups = list(one.rates[0])
            series = {group: [(float(step), rates[group]) for step, rates in one.rates.items()] for group in groups}
            lines(axes, series, ("review steps", "forgetting (nats/token)"))
            axes.set_title(name, fontsize=8, pad=24)

    return Finding(data, _table(data), _seen(found), draw, (3.5 * len(found), 2.6))


def _by_group(values: NDArray[np.floating], group: NDArray[np.str_]) -> dict[str, Estimate]:
    return {name: group_mean(values[group == name]) for name in sorted(set(group))}


def _rows(draws: Sequence[Mix]) -> Counter[str]:
    """How many rows of each group all draws have together."""
    return sum((Counter(group_of(mix).values()) for mix in draws), Counter())


def _numbers(title: str, found: _Found, rows: Counter[str]) -> list[dict[str, Any]]:
    return [
        {
            "mix": title,
            "step": step,
            "group": name,
            "rows": rows[name],
            "forgetting": rate.value,
            "low": rate.low,
            "high": rate.high,
            "tokens_lost": found.lost[step][name].value,
            **flat({"auroc": found.apart[step]}),
        }
        for step, rates in found.rates.items()
        for name, rate in rates.items()
    ]


def _table(data: list[dict[str, Any]]) -> str:
    last = {(row["mix"], row["group"]): row for row in data}
    return markdown_table(
        ("noisy set", "group", "rows", "review steps", "forgetting (nats/token)", "tokens lost"),
        [
            (
                mix,
                group,
                row["rows"],
                row["step"],
                Estimate(row["forgetting"], row["low"], row["high"]),
                row["tokens_lost"],
            )
            for (mix, group), row in last.items()
        ],
    )


def _seen(found: dict[str, _Found]) -> str:
    said = []
    for name, one in found.items():
        step, apart = list(one.apart.items())[-1]
        pairs = [told("unsafe", "task", one.unsafe_task), told("task", "safe", one.task_safe)]
        said.append(
            f"{name}, after {step} review steps: {'; '.join(pairs)}. Unsafe rows stand out from all "
            f"others with an AUROC of {apart.value:.2f} ({apart.low:.2f} to {apart.high:.2f})."
        )
    said.append("In the paper unsafe rows are forgotten more than tasks, and these more than safe rows.")
    return " ".join(said)


STUDY = Study(
    "forgetting",
    "Forgetting along the review, by source (Figure 3)",
    "Are unsafe rows forgotten more than task rows, and these more than safe rows?",
    _run,
)
