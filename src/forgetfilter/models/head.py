"""Compute log-probabilities of tokens from hidden states through the head, never holding all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

# Logits computed by one matrix product, and how many of them are processed at a time, so that they fit a core's cache.
# A GPU needs few operations, however large.
_LOGITS_AT_ONCE, _LOGITS_IN_CACHE = 8 << 20, 1 << 18
_LOGITS_ON_GPU = 1 << 26


class _TokenLogprobs(torch.autograd.Function):
    """Computes log p(target) of each row of hidden states through a frozen head, and whether no token is likelier.

    The gradient of log p(t) is W[t] - p W, whatever the loss does with it. It is computed in the forward pass, while p
    is at hand, and the backward pass only scales it: no logits are kept, and none are computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        first = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        hidden_gradients = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        on_gpu = hidden.device.type != "cpu"
        at_once, in_cache = (_LOGITS_ON_GPU, _LOGITS_ON_GPU) if on_gpu else (_LOGITS_AT_ONCE, _LOGITS_IN_CACHE)
        for part in _slices(len(hidden), at_once // len(weight)):
            logits = linear(hidden[part], weight, bias)
            for few in _slices(len(logits), in_cache // len(weight)):
                wide = logits[few].float()
                target = wide.gather(1, targets[part][few, None])
                largest = wide.amax(dim=1, keepdim=True)
                powers = wide.sub_(largest).exp_()
                total = powers.sum(dim=1, keepdim=True)
                logprobs[part][few] = (target - largest - total.log()).squeeze(1)
                first[part][few] = (target == largest).squeeze(1)
                if hidden_gradients is not None:
                    # The logits are not needed any more; probabilities take their place.
                    torch.div(powers, total, out=logits[few])
            if hidden_gradients is not None:
                hidden_gradients[part] = weight[targets[part]] - logits @ weight
        if hidden_gradients is not None:
            ctx.save_for_backward(hidden_gradients)
        ctx.mark_non_differentiable(first)
        return logprobs, first

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (hidden_gradients,) = ctx.saved_tensors
        return hidden_gradients * gradients[0][:, None].to(hidden_gradients.dtype), None, None, None


def token_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the log-probability of tokens through a head that is a frozen matrix, and whether no token is likelier.

    Args:
        hidden: Hidden states that the head reads, shape (tokens, width).
        weight, bias: The head.
        targets: The tokens, shape (tokens,).

    Returns:
        Log-probabilities in nats, and whether no other token is likelier; both of shape (tokens,).
    """
    return _TokenLogprobs.apply(hidden, weight, bias, targets)  # type: ignore[no-any-return, no-untyped-call]


def _slices(count: int, size: int) -> Iterator[slice]:
    """Cut a range into slices of this size; the last may be smaller."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def is_plain(head: nn.Module) -> bool:
    """Check that a head is nothing but a frozen matrix, so that it can be applied to some positions at a time."""
    return type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())


@torch.no_grad()
def leaves_logits_alone(model: PreTrainedModel | PeftModel) -> bool:
    """Check that a model returns the logits of its head unchanged; some models scale or cap them."""
    head = model.get_output_embeddings()
    made = torch.linspace(-64, 64, head.out_features, device=head.weight.device, dtype=head.weight.dtype)
    hook = head.register_forward_hook(lambda *_: made.expand(1, 1, -1))
    try:
        given = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=made.device), use_cache=False).logits
    finally:
        hook.remove()
    return torch.equal(given.float().flatten(), made.float())
