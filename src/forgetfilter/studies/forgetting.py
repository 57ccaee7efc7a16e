"""Forgetting along the review, by source (paper, Figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..filtering.estimates import Estimate
from ..markdown import markdown_table
from ..plots import lines, side_by_side
from .curves import Curve, forgetting_curve, group_mean, mean_difference, review_points, separation, told
from .room import SAFE_LABEL, UNSAFE, Room, group_of, in_order
from .study import Finding, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _run(room: Room) -> Finding:
    points = review_points(room.review_steps)
    curves = {}
    for mix in room.mixes:
        curve = forgetting_curve(room.lab(mix), points, epochs=room.epochs)
        curves[room.title(mix)] = curve, in_order(group_of(mix), curve.ids)
    data = [row for name, (curve, group) in curves.items() for row in _numbers(name, curve, group)]

    def draw(figure: Figure) -> None:
        for axes, (name, (curve, group)) in zip(side_by_side(figure, len(curves)), curves.items(), strict=True):
            lines(axes, _by_group(curve, group), ("review steps", "forgetting (nats/token)"))
            axes.set_title(name, fontsize=8, pad=24)

    return Finding(data, _table(data), _seen(curves), draw, (3.5 * len(curves), 2.6))


def _by_group(curve: Curve, group: NDArray[np.str_]) -> dict[str, list[tuple[float, Estimate]]]:
    return {
        name: [(step, group_mean(row[group == name])) for step, row in zip(curve.steps, curve.forgetting, strict=True)]
        for name in sorted(set(group))
    }


def _numbers(title: str, curve: Curve, group: NDArray[np.str_]) -> list[dict[str, Any]]:
    found = []
    for i, step in enumerate(curve.steps):
        apart = separation(curve.forgetting[i], group == UNSAFE)
        for name in sorted(set(group)):
            here = group == name
            rate, lost = group_mean(curve.forgetting[i][here]), group_mean(curve.lost[i][here])
            found.append(
                {
                    "mix": title,
                    "step": step,
                    "group": name,
                    "rows": int(here.sum()),
                    "forgetting": rate.value,
                    "low": rate.low,
                    "high": rate.high,
                    "tokens_lost": lost.value,
                    "auroc": apart.value,
                    "auroc_low": apart.low,
                    "auroc_high": apart.high,
                }
            )
    return found


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


def _seen(curves: dict[str, tuple[Curve, NDArray[np.str_]]]) -> str:
    said = []
    for name, (curve, group) in curves.items():
        last, unsafe, safe = curve.forgetting[-1], group == UNSAFE, group == SAFE_LABEL
        pairs = [
            told("unsafe", "task", mean_difference(last[~safe], unsafe[~safe])),
            told("task", "safe", mean_difference(last[~unsafe], ~safe[~unsafe])),
        ]
        apart = separation(last, unsafe)
        said.append(
            f"{name}, after {curve.steps[-1]} review steps: {'; '.join(pairs)}. Unsafe rows stand out from all "
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
