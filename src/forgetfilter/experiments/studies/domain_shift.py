"""Unsafe notion against the notion of the safe examples (paper, Appendix E)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...plotting.charts import matrix
from ..mixing import Mix
from .draws import averaged
from .study import Finding, Study
from .variations import Outcome, finding, outcome_of
from .workspace import Room

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _run(room: Room) -> Finding:
    sets = room.several_sets(2, "one for each notion")
    outcomes: dict[tuple[str, ...], Outcome] = {
        # The first draw of the one with the first of the other, and so on; from the beginning where these are fewer.
        (room.title(draws), room.title(others)): averaged(
            [_outcome(room, mix, others[i % len(others)]) for i, mix in enumerate(draws)]
        )
        for draws in sets
        for others in sets
    }
    names = [room.title(draws) for draws in sets]
    auroc = np.array([[outcomes[a, b].auroc.value for b in names] for a in names])
    seen = _seen(outcomes, names)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        matrix(axes, auroc, ("unsafe rows of", names), ("reviewed with safe rows of", names), "AUROC")

    table = finding(outcomes, ("unsafe rows of", "safe rows of"), seen)
    return Finding(table.data, table.table, seen, draw, (4.5, 1.5 + 0.5 * len(names)))


def _outcome(room: Room, mix: Mix, other: Mix) -> Outcome:
    lab = room.lab(mix)
    return outcome_of(room, mix, lab, room.safe_of(lab, other))


def _seen(outcomes: dict[tuple[str, ...], Outcome], names: list[str]) -> str:
    said = []
    for name in names:
        matched = outcomes[name, name].auroc
        for other in (one for one in names if one != name):
            shifted = outcomes[name, other].auroc
            finds = (
                "find less"
                if shifted.high < matched.low
                else "find more"
                if shifted.low > matched.high
                else "may find as much, as far as can be told"
            )
            said.append(
                f"Unsafe rows of {name}: safe rows of {other} {finds} (AUROC {shifted.value:.2f}, {shifted.low:.2f} to "
                f"{shifted.high:.2f}) than those of their own notion ({matched.value:.2f}, {matched.low:.2f} to "
                f"{matched.high:.2f})."
            )
    said.append("In the paper, toxic rows reviewed with unbiased ones do not stand out.")
    return " ".join(said)


STUDY = Study(
    "domain-shift",
    "Unsafe notion against safe notion (Appendix E)",
    "Do safe examples of one notion make a model forget unsafe rows of another?",
    _run,
)
