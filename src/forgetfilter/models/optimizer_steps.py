"""Take optimizer steps in a way that works on every device and with any number of processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data.tokens import Tokens
from .gradients import backward_in_turn, backward_side_by_side
from .sharding import whole
from .trainable_model import TrainableModel


@dataclass(frozen=True)
class DealtRows:
    """The rows of a step.

    Attributes:
        rows: The rows of each pass.
        side_by_side: Whether the passes are best made in several lanes at once.
    """

    rows: Sequence[Sequence[Tokens]]
    side_by_side: bool


class Steps(Protocol):
    """Takes the optimizer steps of a session.

    Attributes:
        optimizer: Holds the state of the steps.
    """

    optimizer: torch.optim.AdamW

    def take(self, dealt: DealtRows, total: int, rate: float) -> tuple[Tensor, Tensor | None]:
        """Take a step along the gradient of some rows; see `StepsInTurn.take`."""

    def close(self) -> None:
        """Release what the steps needed."""


class StepsInTurn:
    """Takes steps along the gradient of rows that go through the model in several passes.

    Args:
        model: The model; what is trained of it is changed in place.
        weight_decay: AdamW's weight decay.
        most: The largest norm of the gradient, to which it is clipped; 0 for no limit.

    Attributes:
        optimizer: Holds the state of the steps.
    """

    def __init__(self, model: TrainableModel, weight_decay: float, most: float) -> None:
        self._model, self._most = model, most or math.inf
        self.optimizer = adamw(model, 0.0, weight_decay)
        # A sharded model exchanges its gradients by itself.
        self._scorer: Any = model.scorer
        self._prepared: Any = self.optimizer
        if not model.sharded:
            self._scorer, self._prepared = model.accelerator.prepare(model.scorer, self.optimizer)

    def take(self, dealt: DealtRows, total: int, rate: float) -> tuple[Tensor, Tensor | None]:
        """Take a step along the gradient of some rows; every process must call, with the same rows.

        Args:
            dealt: The rows of each pass.
            total: Completion tokens of the step; the loss is averaged over all of them.
            rate: The learning rate.

        Returns:
            This process's part of the mean negative log-likelihood before the step, in nats, and the norm of the
            gradient, where it is known.
        """
        # Callbacks between two steps leave the model in evaluation mode.
        self._scorer.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        backward = backward_side_by_side if dealt.side_by_side else backward_in_turn
        loss = backward(self._model, self._scorer, dealt.rows, total)
        norm = self._model.accelerator.clip_grad_norm_(self._scorer.parameters(), self._most)
        self._prepared.step()
        self._prepared.zero_grad()
        return loss, None if norm is None else whole(norm)

    def close(self) -> None:
        """Release the model and the optimizer."""
        self._model.accelerator.free_memory(self._scorer, self._prepared)


@singledispatch
def steps_along(path: object, model: TrainableModel, weight_decay: float, most: float) -> Steps:  # noqa: ARG001
    """Make what takes the steps along a forward path: pass after pass, unless the path registers its own way."""
    return StepsInTurn(model, weight_decay, most)


def adamw(
    model: TrainableModel, rate: float | Tensor, weight_decay: float, *, capturable: bool = False
) -> torch.optim.AdamW:
    """Make the optimizer of the model's trained parameters."""
    return torch.optim.AdamW(list(model.trained().values()), lr=rate, weight_decay=weight_decay, capturable=capturable)
