"""Suspect rows by how they are learned and forgotten, epoch by epoch.

Data maps: Swayamdipta et al., 2020. Forgetting events: Toneva et al., 2019. Second-split forgetting: Maini et al.,
2022. These are about classifiers, where an example is right or wrong; here each token of the completion is, by
whether it is the model's first choice, and a row is the mean of its tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..models.stage_runner import BASE
from ..models.token_scores import TokenScores
from ..runs.layout import WATCHED
from .context import FloatArray, RivalContext, spread

if TYPE_CHECKING:
    from ..models.training import Callback


def confidence(context: RivalContext) -> FloatArray:
    """Average 1 less the probability of a completion's tokens (geometric mean) over the epochs of learning."""
    return 1 - _over_epochs(context, lambda points: np.mean([_row_probabilities(point) for point in points], axis=0))


def variability(context: RivalContext) -> FloatArray:
    """Measure the standard deviation of that probability over the epochs of learning."""
    return _over_epochs(context, lambda points: np.std([_row_probabilities(point) for point in points], axis=0))


def forgetting_events(context: RivalContext) -> FloatArray:
    """Count how often a token that was right after one epoch of learning was wrong after the next, on average.

    A token that never was right counts as one that was forgotten in every epoch.
    """
    return _over_epochs(context, _events)


def second_split(context: RivalContext) -> FloatArray:
    """Measure how soon a row is forgotten while the model goes on with the other half of the data: 0 never, 1 at once.

    The data is split in two. Each half is learned first, once, and scored after every epoch over the other. Counted
    are the tokens that were right when the first half was learned; a row without any has no score.
    Nor has a single row.
    """
    order = context.table.shuffled(context.table.scorable, context.runner.settings.training.seed)
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    suspicion = np.full(len(context.table), np.nan)
    if len(order) < 2:
        return suspicion
    for number, (first, second) in enumerate((halves, halves[::-1])):
        _learn(context, f"half-{number}", BASE, first, first)
        _learn(context, f"half-{number}-other", f"half-{number}", second, first)
        learned = _points(context, f"half-{number}", first)[-1]
        points = _points(context, f"half-{number}-other", first)
        suspicion[first] = _over_tokens(
            learned, learned.greedy, _soonness(np.stack([point.greedy for point in points]))
        )
    return suspicion


def _over_tokens(scores: TokenScores, chosen: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """Average each row's chosen tokens; NaN for a row without any."""
    counts, sums = (scores.row_means(v) * scores.lengths for v in (chosen, np.where(chosen, values, 0.0)))
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _events(points: list[TokenScores]) -> FloatArray:
    right = np.stack([point.greedy for point in points])
    forgotten = (right[:-1] & ~right[1:]).sum(axis=0)
    return points[0].row_means(np.where(right.any(axis=0), forgotten, len(points)))


def _soonness(right: NDArray[np.bool_]) -> FloatArray:
    """Measure how soon each token is forgotten, shape (tokens,), from `right`, shape (points, tokens)."""
    lasting = np.logical_or.accumulate(right[::-1], axis=0)[::-1].sum(axis=0)
    soon: FloatArray = 1 - lasting / len(right)
    return soon


def _row_probabilities(point: TokenScores) -> FloatArray:
    probabilities: FloatArray = np.exp(point.row_means(point.logprobs))
    return probabilities


def _over_epochs(context: RivalContext, measure: Callable[[list[TokenScores]], FloatArray]) -> FloatArray:
    """Measure something from the scores after every epoch of learning, which these rivals share."""
    rows = context.table.scorable
    _learn(context, "passes", BASE, rows, rows)
    return spread(measure(_points(context, "passes", rows)), rows, len(context.table))


def _learn(context: RivalContext, stage: str, start: str, rows: NDArray[np.intp], looked_at: NDArray[np.intp]) -> None:
    """Learn some rows as the filter does, as a stage, and score these or others after every epoch."""
    from ..models.callbacks.loss_plateau import LossPlateau
    from ..models.callbacks.results_along import scores_along

    runner, epochs = context.runner, context.runner.settings.sessions.epochs
    per_epoch, steps = runner.steps(len(rows), 1), runner.steps(len(rows), epochs)

    def after_an_epoch(step: int) -> bool:
        return step % per_epoch == 0 or step == steps

    def work(folder: Path) -> None:
        runner.bring(start)
        scores = scores_along(runner.model, context.known, looked_at, folder, after_an_epoch, runner.budget)
        callbacks: list[Callback] = [scores] if epochs is not None else [scores, LossPlateau(per_epoch)]
        runner.train(f"learning, for {stage}", context.known, rows, steps, folder, stage, callbacks)

    runner.stage(stage, work)


def _points(context: RivalContext, stage: str, rows: NDArray[np.intp]) -> list[TokenScores]:
    """Read the scores of some rows after each epoch of a stage."""
    from ..models.callbacks.results_along import results_by_step

    folders = results_by_step(context.runner.stages.folder(stage), WATCHED).values()
    return [TokenScores.read(folder, context.ids(rows)) for folder in folders]
