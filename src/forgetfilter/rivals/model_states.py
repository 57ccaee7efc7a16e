"""Suspect rows by one state of the model: by their loss, their hidden states, their gradient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..models.stage_runner import BASE
from ..models.token_scores import TokenScores, read_vectors
from ..runs.layout import LEARNED, logprobs_of
from .context import FloatArray, RivalContext, spread

if TYPE_CHECKING:
    from ..data.tokens import TokenTable
    from ..models.trainable_model import TrainableModel

_NEIGHBOURS, _DEPTH, _SAFE_ROWS, _AT_ONCE = 10, 0.5, 64, 1024
# How much a step along the safe examples' gradient raises their own score, in nats a token: short enough for first
# order, and long enough to be seen through the rounding of the number format.
_GAIN = {"torch.float32": 0.01, "torch.bfloat16": 0.3}


def base_loss(context: RivalContext) -> FloatArray:
    """Measure the mean loss of the completion's tokens under the aligned model M0, in nats."""
    return -_mean_logprob(context, BASE)


def learned_loss(context: RivalContext) -> FloatArray:
    """Measure the mean loss of the completion's tokens under the learned model M1, in nats: what it did not learn."""
    return -_mean_logprob(context, LEARNED)


def gradient(context: RivalContext) -> FloatArray:
    """Estimate forgetting to first order: how much a short step along the safe examples' gradient lowers a row's score.

    In units of the safe tokens' own gain, suspicion is -<g_row, g_safe> / <g_safe, g_safe> at the learned model M1;
    it is found with two forward passes, as the difference that the step makes.
    """
    before = _mean_logprob(context, LEARNED)
    context.runner.bring(LEARNED)
    model = context.runner.model
    learned = model.trainable()
    safe = context.material.tokens(*context.material.safe_parts)
    gradients = _gradients(model, safe, _some(safe, context.runner.settings.training.seed), context.runner.budget // 2)
    gain = _GAIN[str(model.hardware.dtype)]
    step = gain / float(sum((g.double() ** 2).sum() for g in gradients.values()))
    # A layer that took part in no pass has no gradient.
    model.set_trainable({name: value + step * gradients.get(name, 0.0) for name, value in learned.items()})
    try:
        after = _scored(context, context.own_folder("after"))
    finally:
        model.set_trainable(learned)
    return (before - after) / gain


def neighbours(context: RivalContext) -> FloatArray:
    """Measure 1 less the mean cosine with the ten nearest safe examples, in M0's hidden states half way up."""
    context.runner.bring(BASE)
    safe = context.material.tokens(*context.material.safe_parts)
    near, rows = _states(context, safe, safe.scorable, "safe"), context.table.scorable
    return spread(distance_to_nearest(_states(context, context.table, rows, "rows"), near), rows, len(context.table))


def distance_to_nearest(states: FloatArray, others: FloatArray) -> FloatArray:
    """Measure 1 less the mean cosine of each row with the ten nearest of the others, 0 to 2, shape (n,).

    Args:
        states: Hidden states, shape (n, width).
        others: Those of other rows, shape (m, width).
    """
    own, near = _unit(states), _unit(others)
    distance = np.empty(len(own))
    for start in range(0, len(own), _AT_ONCE):
        cosines = own[start : start + _AT_ONCE] @ near.T
        distance[start : start + _AT_ONCE] = 1 - np.sort(cosines, axis=1)[:, -_NEIGHBOURS:].mean(axis=1)
    return distance


def direction(context: RivalContext) -> FloatArray:
    """Measure how far each row lies along the first singular direction of all rows' states (SAFT; Choi et al. 2024).

    That direction is where the rows differ most, which may be safety, or anything else.
    """
    context.runner.bring(BASE)
    rows = context.table.scorable
    return spread(along_first_direction(_states(context, context.table, rows, "rows")), rows, len(context.table))


def along_first_direction(states: FloatArray) -> FloatArray:
    """Measure the squared projection of each row on the first singular direction, as a multiple of the mean.

    Args:
        states: Hidden states, shape (n, width), which are centred first.

    Returns:
        Shape (n,), at least 0; 0 throughout where all rows have the same states.
    """
    centred = states.astype(np.float64) - states.mean(axis=0, dtype=np.float64)
    # The last eigenvector of the covariance, which has the size of the states however many rows there are.
    first = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    squared: FloatArray = (centred @ first) ** 2
    return squared / max(float(squared.mean()), 1e-12)


def _mean_logprob(context: RivalContext, state: str) -> FloatArray:
    """Score the mean log-probability of each row's completion in a state, shape (n,), which these rivals share."""
    stage = logprobs_of(state)

    def work(folder: Path) -> None:
        context.runner.bring(state)
        _score(context, folder)

    context.runner.stage(stage, work)
    return _read(context, context.runner.stages.folder(stage))


def _scored(context: RivalContext, folder: Path) -> FloatArray:
    """Score the same in the model's present state."""
    _score(context, folder)
    return _read(context, folder)


def _score(context: RivalContext, folder: Path) -> None:
    from ..models.scoring import Likelihood

    scorer = Likelihood(context.runner.model, context.runner.budget)
    context.runner.score("scoring", scorer, context.known, context.known.scorable, folder)


def _read(context: RivalContext, folder: Path) -> FloatArray:
    rows = context.table.scorable
    scores = TokenScores.read(folder, context.ids(rows))
    return spread(scores.row_means(scores.logprobs), rows, len(context.table))


def _some(table: TokenTable, seed: int) -> NDArray[np.intp]:
    """Draw some rows by their ids."""
    return np.sort(table.shuffled(table.scorable, seed)[:_SAFE_ROWS])


def _gradients(model: TrainableModel, table: TokenTable, rows: NDArray[np.intp], budget: int) -> dict[str, Any]:
    """Compute the gradient of the rows' mean log-probability by what is trained, on the CPU."""
    from ..models.sharding import gathered

    total = int(table.counts[rows].sum())
    model.model.eval().zero_grad(set_to_none=True)
    for chosen in model.deal(np.arange(len(rows)), table.lengths[rows], budget).rows:
        inputs = model.inputs([table[int(rows[j])] for j in chosen])
        (model.scorer(*inputs)[0].sum() / total).backward()
    gradients = gathered(
        (name, parameter.grad) for name, parameter in model.model.named_parameters() if parameter.grad is not None
    )
    model.model.zero_grad(set_to_none=True)
    return gradients


def _states(context: RivalContext, table: TokenTable, rows: NDArray[np.intp], name: str) -> FloatArray:
    from ..models.hidden_states import HiddenStates, View

    folder = context.own_folder(name)
    scorer = HiddenStates(context.runner.model, context.runner.budget, [View("answer", _DEPTH)])
    context.runner.score(f"hidden states of the {name}", scorer, table, rows, folder)
    return read_vectors(folder, "states")


def _unit(states: FloatArray) -> FloatArray:
    """Scale each row to length one."""
    unit: FloatArray = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return unit
