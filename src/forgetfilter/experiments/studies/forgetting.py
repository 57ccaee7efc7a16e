"""Measures forgetting along the review, by source (paper, Figure 3)."""

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
from .averaging import mean_over_draws
from .context import SAFE_LABEL, UNSAFE, StudyContext, align, groups_by_id
from .curves import describe_difference, forgetting_curve, group_mean, mean_difference, review_points, separation
from .study import Finding, Study, as_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _SetResult:
    """The results on a noisy set, by review step and group of rows.

    Attributes:
        rates: Mean forgetting of each group, in nats per token.
        lost: Mean share of each group's tokens that were recalled after learning and no longer are.
        auroc: AUROC of forgetting for the unsafe rows.
        unsafe_task, task_safe: How much more rows of the first group are forgotten than the second's, at the end.
    """

    rates: dict[int, dict[str, Estimate]]
    lost: dict[int, dict[str, Estimate]]
    auroc: dict[int, Estimate]
    unsafe_task: Estimate
    task_safe: Estimate

    @classmethod
    def of(cls, context: StudyContext, mix: Mix) -> _SetResult:
        curve = forgetting_curve(context.experiment(mix), review_points(context.review_steps), epochs=context.epochs)
        group = align(groups_by_id(mix), curve.ids)
        last, unsafe, safe = curve.forgetting[-1], group == UNSAFE, group == SAFE_LABEL
        return cls(
            {step: _by_group(row, group) for step, row in zip(curve.steps, curve.forgetting, strict=True)},
            {step: _by_group(row, group) for step, row in zip(curve.steps, curve.lost, strict=True)},
            {step: separation(row, unsafe) for step, row in zip(curve.steps, curve.forgetting, strict=True)},
            mean_difference(last[~safe], unsafe[~safe]),
            mean_difference(last[~unsafe], ~safe[~unsafe]),
        )


def _run(context: StudyContext) -> Finding:
    results = {
        context.title(draws): mean_over_draws(draws, lambda mix: _SetResult.of(context, mix)) for draws in context.sets
    }
    rows = {context.title(draws): _rows(draws) for draws in context.sets}
    data = [row for name, result in results.items() for row in _data_rows(name, result, rows[name])]

    def draw(figure: Figure) -> None:
        for axes, (name, result) in zip(side_by_side(figure, len(results)), results.items(), strict=True):
            groups = list(result.rates[0])
            series = {group: [(float(step), rates[group]) for step, rates in result.rates.items()] for group in groups}
            lines(axes, series, ("review steps", "forgetting (nats/token)"))
            axes.set_title(name, fontsize=8, pad=24)

    return Finding(data, _table(data), _summary(results), draw, (3.5 * len(results), 2.6))


def _by_group(values: NDArray[np.floating], group: NDArray[np.str_]) -> dict[str, Estimate]:
    return {name: group_mean(values[group == name]) for name in sorted(set(group))}


def _rows(draws: Sequence[Mix]) -> Counter[str]:
    """Count the rows of each group over all draws."""
    return sum((Counter(groups_by_id(mix).values()) for mix in draws), Counter())


def _data_rows(title: str, result: _SetResult, rows: Counter[str]) -> list[dict[str, Any]]:
    return [
        {
            "mix": title,
            "step": step,
            "group": name,
            "rows": rows[name],
            "forgetting": rate.value,
            "low": rate.low,
            "high": rate.high,
            "tokens_lost": result.lost[step][name].value,
            **as_columns({"auroc": result.auroc[step]}),
        }
        for step, rates in result.rates.items()
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


def _summary(results: dict[str, _SetResult]) -> str:
    sentences = []
    for name, result in results.items():
        step, auroc = list(result.auroc.items())[-1]
        differences = [
            describe_difference("unsafe", "task", result.unsafe_task),
            describe_difference("task", "safe", result.task_safe),
        ]
        sentences.append(
            f"{name}, after {step} review steps: {'; '.join(differences)}. Unsafe rows stand out from all "
            f"others with an AUROC of {auroc.value:.2f} ({auroc.low:.2f} to {auroc.high:.2f})."
        )
    sentences.append("In the paper unsafe rows are forgotten more than tasks, and these more than safe rows.")
    return " ".join(sentences)


STUDY = Study(
    "forgetting",
    "Forgetting along the review, by source (Figure 3)",
    "Are unsafe rows forgotten more than task rows, and these more than safe rows?",
    _run,
)
