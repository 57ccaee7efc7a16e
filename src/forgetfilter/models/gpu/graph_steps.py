"""Take optimizer steps on one GPU, whose passes and updates are recorded by size as CUDA graphs and replayed."""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ..optimizer_steps import DealtRows, Steps, StepsInTurn, adamw, steps_along
from ..trainable_model import TrainableModel
from .cuda_graphs import Replayed
from .packed_rows import Packed, PackedScorer, pack, padded

# Weights times tokens of the largest pass that is recorded, such as 5,000 tokens of a model of 3e9 weights. Larger ones
# keep a GPU busy by themselves, and a graph keeps its memory.
_WORTH_RECORDING = 1 << 44
# The number of rows that hold the tokens of padding.
_MORE_ROWS = 8


class ReplayedSteps:
    """Takes steps along the gradient of packed rows; see `optimizer_steps.StepsInTurn`.

    Attributes:
        optimizer: Holds the state of the steps.
    """

    def __init__(self, model: TrainableModel, scorer: PackedScorer, weight_decay: float, most: float) -> None:
        device = model.hardware.device
        self._scorer, self._largest = scorer, _WORTH_RECORDING // model.size
        self._parameters = list(model.trained().values())
        # A graph reads the rate, like everything else, from a fixed place in memory.
        self._rate = torch.tensor(0.0, device=device)
        self.optimizer = adamw(model, self._rate, weight_decay, capturable=device.type == "cuda")
        sizes = [parameter.numel() for parameter in self._parameters]
        # The whole gradient is one tensor, so that a pass adds to it, and a step clears it, in one operation.
        self._gradient = torch.zeros(sum(sizes), device=device)
        parts = [self._gradient[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        # These are not methods, so that the graphs are freed together with this object.
        self._add = partial(_add_gradient, scorer, self._parameters, self._gradient)
        self._replayed = Replayed(self._add, device, scorer.decoder.forget_joined)
        update = partial(_update, self.optimizer, self._parameters, most or math.inf)
        self._update = Replayed(update, device)

    def take(self, dealt: DealtRows, total: int, rate: float) -> tuple[Tensor, Tensor]:
        """Take a step along the gradient of some rows.

        Args:
            dealt: The rows of each pass.
            total: Completion tokens of the step; the loss is averaged over all of them.
            rate: The learning rate.

        Returns:
            The mean negative log-likelihood before the step, in nats, and the norm of its gradient.
        """
        self._scorer.train()
        self._rate.fill_(rate)
        self._gradient.zero_()
        loss: Tensor = self._gradient.new_zeros(())
        for rows in dealt.rows:
            packed = pack(rows)
            if len(packed.input_ids) <= self._largest:
                loss = loss + self._replayed(*_weighted(_to_size(packed), len(packed.targets), total))
            else:
                loss = loss + self._add(*_weighted(packed.to(self._gradient.device), len(packed.targets), total))
        norm = self._update()
        # PyTorch does not know that a graph changed the parameters.
        self._scorer.decoder.forget_joined()
        return loss, norm

    def close(self) -> None:
        """Release the gradient."""
        self.optimizer.zero_grad()


@steps_along.register
def _(path: PackedScorer, model: TrainableModel, weight_decay: float, most: float) -> Steps:
    if model.accelerator.num_processes > 1:
        return StepsInTurn(model, weight_decay, most)
    return ReplayedSteps(model, path, weight_decay, most)


def _add_gradient(scorer: PackedScorer, parameters: list[Tensor], gradient: Tensor, *inputs: Any) -> Tensor:
    """Add the gradient of the weighted sum of the rows' negative log-likelihoods, and return that sum."""
    *packed, weights = inputs
    loss: Tensor = -(scorer(Packed(*packed))[0] * weights).sum()
    parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    gradient += torch.cat([part.flatten() for part in parts])
    return loss.detach()


def _update(optimizer: torch.optim.Optimizer, parameters: list[Tensor], most: float) -> Tensor:
    """Take a step along the gradient, clipped to the norm `most`; return its norm before that."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, most, foreach=True)
    optimizer.step()
    return norm


def _weighted(packed: Packed, completions: int, total: int) -> tuple[Any, ...]:
    """Return a pass and the weights of its completion tokens; padding has the weight 0."""
    weights = torch.zeros(len(packed.targets), device=packed.targets.device)
    weights[:completions] = 1 / total
    return *packed, weights


def _to_size(packed: Packed) -> Packed:
    """Pad rows to one of few sizes, so that graphs are used again."""
    tokens = _rounded(len(packed.input_ids), 4)
    rows = -(-(len(packed.bounds) - 1) // 16) * 16 + _MORE_ROWS
    more = -(-(tokens - len(packed.input_ids)) // _MORE_ROWS)
    return padded(packed, tokens, rows, _rounded(max(packed.longest, more), 1), _rounded(len(packed.targets), 2))


def _rounded(count: int, parts: int) -> int:
    """Round up to the next of the numbers that divide each doubling into so many parts."""
    step = max(64, (1 << (count.bit_length() - 1)) // parts)
    return -(-count // step) * step
