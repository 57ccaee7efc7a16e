"""Measures, for every pair of groups, how much of B is forgotten when A is reviewed (paper, Appendix F, extended)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data.draw import in_random_order
from ...errors import SettingsError
from ...forgetting.estimates import Estimate
from ...plotting.charts import matrix
from ...plotting.markdown import markdown_table
from ..mixing import Mix
from .averaging import mean_over_draws
from .context import SAFE_LABEL, UNSAFE, StudyContext, align, groups_by_id
from .curves import forgetting_curve, group_mean
from .study import Finding, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _run(context: StudyContext) -> Finding:
    rates = mean_over_draws(context.draws, lambda mix: _rates(context, mix))
    groups = list(dict.fromkeys(reviewed for reviewed, _ in rates))
    data: list[dict[str, Any]] = [
        {"reviewed": reviewed, "forgotten": forgotten} | vars(rate) for (reviewed, forgotten), rate in rates.items()
    ]
    table = markdown_table(
        ("reviewed with", *(f"{name} forgotten" for name in groups)),
        [(reviewed, *(rates[reviewed, forgotten] for forgotten in groups)) for reviewed in groups],
    )
    values = np.array([[rates[a, b].value for b in groups] for a in groups])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        matrix(axes, values, ("reviewed with", groups), ("forgotten", groups), "forgetting (nats/token)")

    return Finding(
        data, table, f"{context.title(context.draws)}. {_summary(groups, values)}", draw, (4.5, 1.5 + 0.4 * len(groups))
    )


def _rates(context: StudyContext, mix: Mix) -> dict[tuple[str, str], Estimate]:
    experiment, group = context.experiment(mix), groups_by_id(mix)
    groups = sorted(set(group.values()), key=lambda name: (name != UNSAFE, name != SAFE_LABEL, name))
    learned, reviews = _halves(group, context.settings.training.seed)
    experiment.add("half", mix.noisy, choose=learned.__contains__)
    rates: dict[tuple[str, str], Estimate] = {}
    for reviewed in groups:
        name = f"other-half-{groups.index(reviewed)}"
        experiment.add(name, mix.noisy, choose=reviews[reviewed].__contains__)
        curve = forgetting_curve(experiment, [context.review_steps], epochs=context.epochs, learned="half", review=name)
        group_of_row = align(group, curve.ids)
        rates |= {
            (reviewed, forgotten): group_mean(curve.forgetting[-1][group_of_row == forgotten]) for forgotten in groups
        }
    return rates


def _halves(group: dict[str, str], seed: int) -> tuple[set[str], dict[str, set[str]]]:
    """Choose the ids to learn, half of each group, and equally many ids of each other half to review with.

    No row is both learned and reviewed, and each review sees its rows as often as the others see theirs.

    Raises:
        SettingsError: A group has a single row.
    """
    generator = np.random.default_rng(seed)
    learned: set[str] = set()
    others: dict[str, list[str]] = {}
    for name in sorted(set(group.values())):
        members = [id for id, own in group.items() if own == name]
        ids = [members[i] for i in in_random_order(members, generator)]
        if len(ids) < 2:
            raise SettingsError(f"symmetry: only {len(ids)} row of the mix is of the group {name}; take a larger mix")
        learned |= set(ids[: len(ids) // 2])
        others[name] = ids[len(ids) // 2 :]
    least = min(map(len, others.values()))
    return learned, {name: set(ids[:least]) for name, ids in others.items()}


def _summary(groups: list[str], rates: NDArray[np.floating]) -> str:
    sentences = []
    for reviewed, row in zip(groups, rates, strict=True):
        order = np.argsort(-row)
        sentences.append(
            f"Reviewed with {reviewed} rows, {groups[order[0]]} rows are forgotten most ({row[order[0]]:z.2f}) and "
            f"{groups[order[-1]]} rows least ({row[order[-1]]:z.2f})."
        )
    spared = sum(int(np.argmin(row)) == i for i, row in enumerate(rates))
    sentences.append(
        f"In {spared} of {len(groups)} cases the group that is reviewed is the one forgotten least; it would be all "
        "of them if likeness to what is reviewed decided alone. In the paper, after a review with unsafe rows, safe "
        "rows are spared no longer, while unsafe rows are still forgotten more than tasks."
    )
    return " ".join(sentences)


STUDY = Study(
    "symmetry",
    "Reviewed with A, how much of B is forgotten (Appendix F)",
    "Is it safety that decides what a review makes a model forget, or mere similarity?",
    _run,
)
