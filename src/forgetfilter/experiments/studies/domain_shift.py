"""Crosses the notion of the unsafe rows with that of the safe examples (paper, Appendix E)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...plotting.charts import matrix
from ..mixing import Mix
from .averaging import average
from .context import StudyContext
from .study import Finding, Study
from .variations import Outcome, outcomes_finding, review_outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _run(context: StudyContext) -> Finding:
    sets = context.require_sets(2, "one for each notion")
    outcomes: dict[tuple[str, ...], Outcome] = {
        # Pairs the first draw of one set with the first of the other, and so on, starting over if the other has fewer.
        (context.title(draws), context.title(others)): average(
            [_outcome(context, mix, others[i % len(others)]) for i, mix in enumerate(draws)]
        )
        for draws in sets
        for others in sets
    }
    names = [context.title(draws) for draws in sets]
    auroc = np.array([[outcomes[a, b].auroc.value for b in names] for a in names])
    summary = _summary(outcomes, names)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        matrix(axes, auroc, ("unsafe rows of", names), ("reviewed with safe rows of", names), "AUROC")

    table = outcomes_finding(outcomes, ("unsafe rows of", "safe rows of"), summary)
    return Finding(table.data, table.table, summary, draw, (4.5, 1.5 + 0.5 * len(names)))


def _outcome(context: StudyContext, mix: Mix, other: Mix) -> Outcome:
    experiment = context.experiment(mix)
    return review_outcome(context, mix, experiment, context.safe_of(experiment, other))


def _summary(outcomes: dict[tuple[str, ...], Outcome], names: list[str]) -> str:
    sentences = []
    for name in names:
        matched = outcomes[name, name].auroc
        for other in (candidate for candidate in names if candidate != name):
            shifted = outcomes[name, other].auroc
            comparison = (
                "find less"
                if shifted.high < matched.low
                else "find more"
                if shifted.low > matched.high
                else "may find as much, as far as can be told"
            )
            sentences.append(
                f"Unsafe rows of {name}: safe rows of {other} {comparison} (AUROC {shifted.value:.2f}, "
                f"{shifted.low:.2f} to {shifted.high:.2f}) than those of their own notion "
                f"({matched.value:.2f}, {matched.low:.2f} to {matched.high:.2f})."
            )
    sentences.append("In the paper, toxic rows reviewed with unbiased ones do not stand out.")
    return " ".join(sentences)


STUDY = Study(
    "domain-shift",
    "Unsafe notion against safe notion (Appendix E)",
    "Do safe examples of one notion make a model forget unsafe rows of another?",
    _run,
)
