"""Training passes on one GPU, recorded by size and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ..data.tokens import Tokens
from .packed import Packed, PackedScorer, pack, padded
from .replay import Replayed

# Weights times tokens of the largest pass that is recorded, such as 5,000 tokens of a model of 3e9 weights. Larger ones
# keep a GPU busy by themselves, and what was recorded keeps its memory.
_WORTH_RECORDING = 1 << 44
# Rows into which the tokens that fill a size are put.
_MORE_ROWS = 8


class ReplayedPasses:
    """The gradient of passes over rows that lie end to end.

    Args:
        scorer: The model.
        parameters: What is trained of it.
        size: Weights of the model.
    """

    def __init__(self, scorer: PackedScorer, parameters: Sequence[Tensor], size: int) -> None:
        self._scorer, self._parameters = scorer, parameters
        self._largest = _WORTH_RECORDING // size
        sizes = [parameter.numel() for parameter in parameters]
        # All of the gradient in one, so that a pass adds to it, and a step empties it, at once.
        self._gradient = torch.zeros(sum(sizes), device=scorer.padded.device)
        parts = (self._gradient[start:end] for start, end in pairwise(accumulate(sizes, initial=0)))
        self._parts = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        self._add = partial(_add_gradient, scorer, parameters, self._gradient)
        self._replayed = Replayed(self._add, scorer.padded.device, scorer.decoder.forget_joined)

    def backward(self, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
        """Put the gradient of a step in the place of the parameters'.

        Args:
            passes: The rows of each pass.
            total: Completion tokens of the step; the loss is averaged over all of them.

        Returns:
            The mean negative log-likelihood, in nats.
        """
        self._gradient.zero_()
        for parameter, part in zip(self._parameters, self._parts, strict=True):
            parameter.grad = part
        loss: Tensor = self._gradient.new_zeros(())
        for rows in passes:
            packed = pack(rows)
            if len(packed.input_ids) <= self._largest:
                loss = loss + self._replayed(*_weighted(_to_size(packed), len(packed.targets), total))
            else:
                loss = loss + self._add(*_weighted(packed.to(self._gradient.device), len(packed.targets), total))
        return loss

    def changed(self) -> None:
        """Take note that the parameters were changed by something that was replayed, of which PyTorch does not know."""
        self._scorer.decoder.forget_joined()


def _add_gradient(scorer: PackedScorer, parameters: Sequence[Tensor], gradient: Tensor, *inputs: Any) -> Tensor:
    """Add the gradient of the weighted sum of the rows' negative log-likelihoods, which is returned."""
    *packed, weights = inputs
    loss: Tensor = -(scorer(Packed(*packed))[0] * weights).sum()
    parts = torch.autograd.grad(loss, parameters)
    gradient += torch.cat([part.flatten() for part in parts])
    return loss.detach()


def _weighted(packed: Packed, completions: int, total: int) -> tuple[Any, ...]:
    """A pass and the weights of its completion tokens; those that were added to fill a size weigh nothing."""
    weights = torch.zeros(len(packed.targets), device=packed.targets.device)
    weights[:completions] = 1 / total
    return *packed, weights


def _to_size(packed: Packed) -> Packed:
    """Rows padded to one of few sizes, so that these come up again."""
    tokens = _rounded(len(packed.input_ids), 4)
    rows = -(-(len(packed.bounds) - 1) // 16) * 16 + _MORE_ROWS
    more = -(-(tokens - len(packed.input_ids)) // _MORE_ROWS)
    return padded(packed, tokens, rows, _rounded(max(packed.longest, more), 1), _rounded(len(packed.targets), 1))


def _rounded(count: int, parts: int) -> int:
    """The next of the numbers that divide each doubling into so many parts."""
    step = max(64, (1 << (count.bit_length() - 1)) // parts)
    return -(-count // step) * step
