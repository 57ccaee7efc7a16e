"""Accumulate the gradient of an optimizer step over its micro-batches, one by one or side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.tokens import Tokens
from .trainable_model import TrainableModel


def backward_in_turn(model: TrainableModel, scorer: Any, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
    """Accumulate the gradient of a step, micro-batch after micro-batch, shared out among all processes.

    Args:
        model: The model, and the processes.
        scorer: The model's scorer, as the accelerator prepared it.
        passes: The rows of each micro-batch, the same on every process.
        total: Completion tokens of the step; the loss is averaged over all of them, whichever pass and process they
            go through.

    Returns:
        This process's part of the mean negative log-likelihood, in nats.
    """
    accelerator, world = model.accelerator, model.accelerator.num_processes
    # Every process makes as many passes as the others; those without a row of their own weigh nothing.
    rounds = -(-len(passes) // world)
    loss = torch.zeros((), device=model.hardware.device)
    for i in range(rounds):
        mine = i * world + accelerator.process_index
        rows, weight = (passes[mine], 1.0) if mine < len(passes) else (passes[0], 0.0)
        # Processes exchange gradients once a step, with the last pass.
        with contextlib.nullcontext() if i == rounds - 1 else accelerator.no_sync(scorer):
            part = _loss(model, scorer, rows) * (weight / total)
            accelerator.backward(part * world)
        loss += part.detach()
    return loss


def backward_side_by_side(model: TrainableModel, scorer: Any, passes: Sequence[Sequence[Tokens]], total: int) -> Tensor:
    """Accumulate the same gradient in one process, with micro-batches side by side on the CPU's cores."""
    parameters = list(model.trained().values())

    def of_pass(rows: Sequence[Tokens]) -> tuple[Tensor, tuple[Tensor, ...]]:
        part = _loss(model, scorer, rows) / total
        # A layer may take no part in a pass, such as one that attends to images where there are none.
        return part.detach(), torch.autograd.grad(part, parameters, allow_unused=True, materialize_grads=True)

    loss = torch.zeros(())
    # Added in the order of the passes, whichever is ready first: the same rows give the same weights to the last bit.
    for part, gradients in model.lanes.map(of_pass, passes):
        loss += part
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return loss


def _loss(model: TrainableModel, scorer: Any, rows: Sequence[Tokens]) -> Tensor:
    logprobs: Tensor = scorer(*model.inputs(rows))[0]
    return -logprobs.sum()
