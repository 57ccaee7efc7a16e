"""Forgetting along a review: what most studies measure, by group of rows (paper, Eq. 3 and Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...forgetting.estimates import Estimate
from ...forgetting.signals import LIKELIHOOD, beginnings
from ...metrics.detection import auroc, bootstrap_interval, row_interval
from ...models.token_scores import TokenScores
from ..lab import Course, Lab, Looking
from ..strategies.strategy import NOISY, SAFE

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """How rows that a model learned fared along a review.

    Attributes:
        steps: Optimizer steps of the review; the first is 0.
        ids: Of the n rows.
        logprob: Mean log-probability of the beginning of each row's answers, nats per token, shape (steps, n); short
            completions count less, as in the filter's default signal.
        recalled: Share of each row's completion tokens that are the model's first choice, same shape.
    """

    steps: list[int]
    ids: list[str]
    logprob: FloatArray
    recalled: FloatArray

    @property
    def forgetting(self) -> FloatArray:
        """r(t) of every row, nats per token, shape (steps, n); larger = forgotten more."""
        drop: FloatArray = self.logprob[0] - self.logprob
        return drop

    @property
    def lost(self) -> FloatArray:
        """Share of the tokens recalled after learning that are recalled no more, shape (steps, n), at most 1.

        The unit of the paper's rates, which are differences of ROUGE.
        """
        drop: FloatArray = self.recalled[0] - self.recalled
        return drop


def review_points(most: int) -> list[int]:
    """Steps of a review to look at: closer together at its beginning, where most happens."""
    shares = (0.1, 0.2, 0.35, 0.5, 0.75, 1)
    return sorted({max(1, round(share * most)) for share in shares})


def forgetting_curve(
    lab: Lab,
    points: Sequence[int],
    *,
    learned: str = NOISY,
    review: str = SAFE,
    epochs: float | None,
) -> Curve:
    """Learn some rows, review others, and look at the first along the way.

    Args:
        lab: Has the data sets.
        points: Steps of the review to look at.
        learned, review: Names of data sets.
        epochs: Passes of learning; None as the filter has them at most.
    """
    known = lab.train(Course((learned,), epochs=epochs))
    before = lab.score(known, learned)
    course = Course((review,), steps=max(points))
    state = lab.train(course, known, Looking(learned, tuple(points)))
    seen = [before, *lab.watched(state, learned)]
    table = lab.tokens(learned)
    first = beginnings(table.answers(table.scorable), LIKELIHOOD.beginning or int(table.counts.max()))
    logprob = np.stack([_logprob(scores, first) for scores in seen])
    recalled = np.stack([scores.row_means(scores.greedy) for scores in seen])
    return Curve([0, *sorted(points)], lab.ids(learned), logprob, recalled)


def _logprob(scores: TokenScores, first: NDArray[np.bool_]) -> FloatArray:
    """As the default signal has it, row by row: nothing is shared among rows."""
    sums, counts = (scores.row_means(v) * scores.lengths for v in (np.where(first, scores.logprobs, 0.0), first))
    means: FloatArray = sums / (counts + LIKELIHOOD.pseudo_tokens)
    return means


def group_mean(values: FloatArray) -> Estimate:
    """Mean of a group's rows, with a 95% bootstrap interval."""
    return Estimate(float(values.mean()), *row_interval(lambda v: float(v.mean()), values))


def mean_difference(values: FloatArray, chosen: NDArray[np.bool_]) -> Estimate:
    """Mean of the chosen rows less that of the others, with a 95% bootstrap interval; NaN where either is empty."""

    def difference(values: FloatArray, chosen: NDArray[np.bool_]) -> float:
        there = chosen.any() and not chosen.all()
        return float(values[chosen].mean() - values[~chosen].mean()) if there else float("nan")

    return Estimate(difference(values, chosen), *row_interval(difference, values, chosen))


def told(one: str, other: str, difference: Estimate) -> str:
    """What a difference of forgetting says, in words, and how far it is certain."""
    amount = f"{difference.value:.2f} ({difference.low:.2f} to {difference.high:.2f})"
    if difference.low > 0:
        return f"{one} rows are forgotten more than {other} rows: {amount}"
    if difference.high < 0:
        return f"{one} rows are forgotten less than {other} rows: {amount}"
    return f"whether {one} rows are forgotten more than {other} rows cannot be told: {amount}"


def separation(forgetting: FloatArray, unsafe: NDArray[np.bool_]) -> Estimate:
    """AUROC of forgetting for the unsafe rows among the others, with a 95% bootstrap interval."""
    return Estimate(auroc(forgetting, unsafe), *bootstrap_interval(forgetting, unsafe))
