"""The gradient of a loss over a few rows, step by step or as a GPU replays it."""

from __future__ import annotations

import torch

from forgetfilter.models.gpu.graph_steps import ReplayedSteps
from forgetfilter.models.gradients import backward_in_turn
from forgetfilter.models.optimizer_steps import DealtRows
from forgetfilter.models.trainable_model import TrainableModel


def gradient(session: TrainableModel, rows, steps: ReplayedSteps | None = None) -> torch.Tensor:
    """The loss and its gradient; in passes that are replayed, if there are such steps."""
    total, passes = sum(int(row.mask.sum()) for row in rows), DealtRows([rows[:3], rows[3:]], side_by_side=False)
    parameters = list(session.trained().values())
    if steps is not None:
        loss, _ = steps.take(passes, total, rate=0.0)
        return torch.cat([loss.flatten(), *(parameter.grad.flatten() for parameter in parameters)])
    before = [parameter.grad for parameter in parameters]
    session.model.zero_grad(set_to_none=True)
    loss = backward_in_turn(session, session.scorer, passes.rows, total)
    found = torch.cat([loss.flatten(), *(parameter.grad.flatten() for parameter in parameters)])
    for parameter, gradient in zip(parameters, before, strict=True):
        parameter.grad = gradient
    return found


def replayed(session: TrainableModel) -> ReplayedSteps:
    """Steps that leave the gradient as long as it is."""
    return ReplayedSteps(session, session.scorer, weight_decay=0.0, most=0.0)
