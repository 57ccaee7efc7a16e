"""Measures forgetting along a review, by group of rows, as most studies need it (paper, Eq. 3 and Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...forgetting.estimates import Estimate
from ...forgetting.signals import LIKELIHOOD, beginnings
from ...metrics.detection import auroc, bootstrap_interval, row_interval
from ...models.token_scores import TokenScores
from ..experiment import Experiment, ScoreAlong, TrainingPlan
from ..strategies.strategy import NOISY, SAFE

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """Scores, along a review, of the rows that a model learned.

    Attributes:
        steps: The optimizer steps of the review at which rows were scored; the first is 0.
        ids: The ids of the n rows.
        logprob: Mean log-probability of the beginning of each row's answers, nats per token, shape (steps, n); short
            completions count less, as in the filter's default signal.
        recalled: Share of each row's completion tokens that the model ranks first, same shape.
    """

    steps: list[int]
    ids: list[str]
    logprob: FloatArray
    recalled: FloatArray

    @property
    def forgetting(self) -> FloatArray:
        """The forgetting r(t) of every row, nats per token, shape (steps, n); larger = forgotten more."""
        drop: FloatArray = self.logprob[0] - self.logprob
        return drop

    @property
    def lost(self) -> FloatArray:
        """The share of tokens recalled after learning that is no longer recalled, shape (steps, n), at most 1.

        This is comparable to the paper's rates, which are differences of ROUGE.
        """
        drop: FloatArray = self.recalled[0] - self.recalled
        return drop


def review_points(most: int) -> list[int]:
    """Choose the steps of a review at which to score: closer together at its beginning, where most happens."""
    shares = (0.1, 0.2, 0.35, 0.5, 0.75, 1)
    return sorted({max(1, round(share * most)) for share in shares})


def forgetting_curve(
    experiment: Experiment,
    points: Sequence[int],
    *,
    learned: str = NOISY,
    review: str = SAFE,
    epochs: float | None,
) -> Curve:
    """Learn some rows, review others, and score the learned rows along the review.

    Args:
        experiment: The experiment that has the data sets.
        points: The steps of the review at which to score.
        learned, review: The names of the data sets.
        epochs: The number of epochs of learning; None for the filter's maximum.
    """
    learned_state = experiment.train(TrainingPlan((learned,), epochs=epochs))
    before = experiment.score(learned_state, learned)
    plan = TrainingPlan((review,), steps=max(points))
    state = experiment.train(plan, learned_state, ScoreAlong(learned, tuple(points)))
    scores_by_step = [before, *experiment.scores_along(state, learned)]
    table = experiment.tokens(learned)
    first = beginnings(table.answers(table.scorable), LIKELIHOOD.beginning or int(table.counts.max()))
    logprob = np.stack([_logprob(scores, first) for scores in scores_by_step])
    recalled = np.stack([scores.row_means(scores.greedy) for scores in scores_by_step])
    return Curve([0, *sorted(points)], experiment.ids(learned), logprob, recalled)


def _logprob(scores: TokenScores, first: NDArray[np.bool_]) -> FloatArray:
    """Score rows as the default signal does, but each by itself: nothing is shared among rows."""
    sums, counts = (scores.row_means(v) * scores.lengths for v in (np.where(first, scores.logprobs, 0.0), first))
    means: FloatArray = sums / (counts + LIKELIHOOD.pseudo_tokens)
    return means


def group_mean(values: FloatArray) -> Estimate:
    """Average the rows of a group, with a 95% bootstrap interval."""
    return Estimate(float(values.mean()), *row_interval(lambda v: float(v.mean()), values))


def mean_difference(values: FloatArray, chosen: NDArray[np.bool_]) -> Estimate:
    """Compute the mean of the chosen rows minus that of the others, with a 95% bootstrap interval.

    It is NaN if either part is empty.
    """

    def difference(values: FloatArray, chosen: NDArray[np.bool_]) -> float:
        both = chosen.any() and not chosen.all()
        return float(values[chosen].mean() - values[~chosen].mean()) if both else float("nan")

    return Estimate(difference(values, chosen), *row_interval(difference, values, chosen))


def describe_difference(one: str, other: str, difference: Estimate) -> str:
    """Describe a difference of forgetting between two groups, and whether it is certain."""
    if np.isnan(difference.value):
        return f"whether {one} rows are forgotten more than {other} rows cannot be told, as one of the groups is empty"
    amount = f"{difference.value:z.2f} ({difference.low:z.2f} to {difference.high:z.2f})"
    if difference.low > 0:
        return f"{one} rows are forgotten more than {other} rows: {amount}"
    if difference.high < 0:
        return f"{one} rows are forgotten less than {other} rows: {amount}"
    return f"whether {one} rows are forgotten more than {other} rows cannot be told: {amount}"


def separation(forgetting: FloatArray, unsafe: NDArray[np.bool_]) -> Estimate:
    """Compute the AUROC of forgetting for the unsafe rows among the others, with a 95% bootstrap interval."""
    return Estimate(auroc(forgetting, unsafe), *bootstrap_interval(forgetting, unsafe))
