"""Reviewed with A, how much of B is forgotten (paper, Appendix F, and the whole matrix that settles the question)."""

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
from .curves import forgetting_curve, group_mean
from .draws import over_draws
from .study import Finding, Study
from .workspace import SAFE_LABEL, UNSAFE, Room, group_of, in_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _run(room: Room) -> Finding:
    rates = over_draws(room.draws, lambda mix: _rates(room, mix))
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
        data, table, f"{room.title(room.draws)}. {_seen(groups, values)}", draw, (4.5, 1.5 + 0.4 * len(groups))
    )


def _rates(room: Room, mix: Mix) -> dict[tuple[str, str], Estimate]:
    lab, group = room.lab(mix), group_of(mix)
    groups = sorted(set(group.values()), key=lambda name: (name != UNSAFE, name != SAFE_LABEL, name))
    learned, reviews = _halves(group, room.settings.seed)
    lab.add("half", mix.noisy, choose=learned.__contains__)
    rates: dict[tuple[str, str], Estimate] = {}
    for reviewed in groups:
        name = f"other-half-{groups.index(reviewed)}"
        lab.add(name, mix.noisy, choose=reviews[reviewed].__contains__)
        curve = forgetting_curve(lab, [room.review_steps], epochs=room.epochs, learned="half", review=name)
        of = in_order(group, curve.ids)
        rates |= {(reviewed, forgotten): group_mean(curve.forgetting[-1][of == forgotten]) for forgotten in groups}
    return rates


def _halves(group: dict[str, str], seed: int) -> tuple[set[str], dict[str, set[str]]]:
    """The ids that are learned, half of each group, and of the other halves equally many of each to review with.

    No row is both learned and reviewed, and each review sees its rows as often as the others see theirs.

    Raises:
        SettingsError: A group has a single row.
    """
    generator = np.random.default_rng(seed)
    learned: set[str] = set()
    others: dict[str, list[str]] = {}
    for name in sorted(set(group.values())):
        members = [id for id, of in group.items() if of == name]
        ids = [members[i] for i in in_random_order(members, generator)]
        if len(ids) < 2:
            raise SettingsError(f"symmetry: only {len(ids)} row of the mix is of the group {name}; take a larger mix")
        learned |= set(ids[: len(ids) // 2])
        others[name] = ids[len(ids) // 2 :]
    least = min(map(len, others.values()))
    return learned, {name: set(ids[:least]) for name, ids in others.items()}


def _seen(groups: list[str], rates: NDArray[np.floating]) -> str:
    said = []
    for reviewed, row in zip(groups, rates, strict=True):
        order = np.argsort(-row)
        said.append(
            f"Reviewed with {reviewed} rows, {groups[order[0]]} rows are forgotten most ({row[order[0]]:.2f}) and "
            f"{groups[order[-1]]} rows least ({row[order[-1]]:.2f})."
        )
    spared = sum(int(np.argmin(row)) == i for i, row in enumerate(rates))
    said.append(
        f"In {spared} of {len(groups)} cases the group that is reviewed is the one forgotten least; it would be all "
        "of them if likeness to what is reviewed decided alone. In the paper, after a review with unsafe rows, safe "
        "rows are spared no longer, while unsafe rows are still forgotten more than tasks."
    )
    return " ".join(said)


STUDY = Study(
    "symmetry",
    "Reviewed with A, how much of B is forgotten (Appendix F)",
    "Is it safety that decides what a review makes a model forget, or mere similarity?",
    _run,
)
