"""The gradient of an optimizer step whose rows go through the model in several passes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data.tokens import Tokens
from .packed import Packed, PackedScorer, pack, padded
from .replay import Replayed
from .session import Session

# Weights times tokens of the largest pass that is recorded. Larger ones keep a GPU busy by themselves, and what was
# recorded keeps its memory.
_WORTH_RECORDING = 1 << 40


def backward_in_turn(session: Session, model: Any, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
    """Add the gradient of a step to the parameters', pass after pass, shared out among all processes.

    Args:
        session: The model, and the processes.
        model: Its scorer, as the accelerator prepared it.
        passes: The rows of each pass, the same on every process.
        total: Completion tokens of the step; the loss is averaged over all of them, whichever pass and process they
            go through.

    Returns:
        This process's part of the mean negative log-likelihood, in nats.
    """
    accelerator, world = session.accelerator, session.accelerator.num_processes
    # Every process makes as many passes as the others; those without a row of their own weigh nothing.
    rounds = -(-len(passes) // world)
    loss = torch.zeros((), device=session.hardware.device)
    for i in range(rounds):
        mine = i * world + accelerator.process_index
        rows, weight = (passes[mine], 1.0) if mine < len(passes) else (passes[0], 0.0)
        # Processes exchange gradients once a step, with the last pass.
        with contextlib.nullcontext() if i == rounds - 1 else accelerator.no_sync(model):
            part = _loss(session, model, rows) * (weight / total)
            accelerator.backward(part * world)
        loss += part.detach()
    return loss


def backward_side_by_side(session: Session, model: Any, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
    """The same in one process, with passes side by side in the session's lanes."""
    parameters = list(session.trained().values())

    def of_pass(rows: Sequence[Tokens]) -> tuple[Tensor, tuple[Tensor, ...]]:
        part = _loss(session, model, rows) / total
        return part.detach(), torch.autograd.grad(part, parameters)

    loss = torch.zeros(())
    # Added in the order of the passes, whichever is ready first: the same rows give the same weights to the last bit.
    for part, gradients in session.lanes.map(of_pass, passes):
        loss += part
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return loss


class BackwardReplayed:
    """The same in one process on a GPU: passes of like size are recorded, and replayed.

    Args:
        session: The model, which has to take rows end to end.
    """

    def __init__(self, session: Session) -> None:
        assert isinstance(session.scorer, PackedScorer)
        self._parameters = list(session.trained().values())
        self._largest = _WORTH_RECORDING // session.size
        self._work = partial(_slopes, session.scorer, self._parameters)
        self._replayed = Replayed(self._work, session.hardware.device, session.scorer.decoder.forget_joined)

    def __call__(self, session: Session, _: Any, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
        """Add the gradient of a step to the parameters'; see `backward_in_turn`."""
        device = session.hardware.device
        loss = torch.zeros((), device=device)
        for rows in passes:
            packed = pack(rows)
            if len(packed.input_ids) <= self._largest:
                part, gradients = self._replayed(*_weighted(_to_size(packed), len(packed.targets), total))
            else:
                part, gradients = self._work(*_weighted(packed.to(device), len(packed.targets), total))
            loss += part
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                # What was replayed is overwritten with the next pass.
                own = gradient if len(passes) == 1 else gradient.clone()
                parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)
        return loss


def _slopes(
    scorer: PackedScorer, parameters: Sequence[Tensor], *inputs: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The weighted sum of the rows' negative log-likelihoods, and its gradient."""
    *packed, weights = inputs
    loss = -(scorer(Packed(*packed))[0] * weights).sum()  # type: ignore[arg-type]
    return loss.detach(), torch.autograd.grad(loss, parameters)


def _weighted(packed: Packed, completions: int, total: int) -> tuple[Tensor | None, ...]:
    """The inputs of `_slopes`: completion tokens that were added to fill a size weigh nothing."""
    weights = torch.zeros(len(packed.targets), device=packed.targets.device)
    weights[:completions] = 1 / total
    return *packed, weights


def _to_size(packed: Packed) -> Packed:
    """Rows padded to one of few sizes, so that these come up again: up to an eighth more tokens, half more targets."""
    rows = -(-(len(packed.bounds) - 1) // 16) * 16 + 1
    return padded(packed, (_rounded(len(packed.input_ids), 8), rows, _rounded(len(packed.targets), 2)))


def _rounded(count: int, parts: int) -> int:
    """The next of the numbers that divide each doubling into so many parts."""
    step = max(64, (1 << (count.bit_length() - 1)) // parts)
    return -(-count // step) * step


def _loss(session: Session, model: Any, rows: Sequence[Tokens]) -> Tensor:
    logprobs: Tensor = model(*session.inputs(rows))[0]
    return -logprobs.sum()
