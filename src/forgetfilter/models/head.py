"""A language model's head: the log-probability of tokens from hidden states, without ever having all logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

# Logits that are made by one product, in numbers; and those of them that are worked on at a time, which a core's cache
# can hold. A GPU wants few operations, however large.
_LOGITS_AT_ONCE, _LOGITS_IN_CACHE = 8 << 20, 1 << 18
_LOGITS_ON_GPU = 1 << 26


class _TokenLogprobs(torch.autograd.Function):
    """log p(target) of each row of hidden states through a frozen head, and whether none is likelier.

    The slope of log p(t) is W[t] - p W, whatever is done with it later. It is made at once, while p is there,
    and the backward pass only scales it: no logits are kept, and none are made twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        first = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
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
                if slopes is not None:
                    # The logits are not needed any more; probabilities take their place.
                    torch.div(powers, total, out=logits[few])
            if slopes is not None:
                slopes[part] = weight[targets[part]] - logits @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(first)
        return logprobs, first

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0][:, None].to(slopes.dtype), None, None, None


def token_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of tokens through a head that is a frozen matrix, and whether none is likelier.

    Args:
        hidden: What the head reads, shape (tokens, width).
        weight, bias: The head.
        targets: The tokens, shape (tokens,).

    Returns:
        Log-probabilities in nats, and whether no other token is likelier; both of shape (tokens,).
    """
    return _TokenLogprobs.apply(hidden, weight, bias, targets)  # type: ignore[no-any-return, no-untyped-call]


def _slices(count: int, size: int) -> Iterator[slice]:
    """Parts of so many, each of the size but the last."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def is_plain(head: nn.Module) -> bool:
    """Whether a head is nothing but a frozen matrix, so that it can be applied to some positions at a time."""
    return type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())


@torch.no_grad()
def leaves_logits_alone(model: PreTrainedModel | PeftModel) -> bool:
    """Whether a model gives out what its head makes; some scale it, or cap it."""
    head = model.get_output_embeddings()
    made = torch.linspace(-64, 64, head.out_features, device=head.weight.device, dtype=head.weight.dtype)
    hook = head.register_forward_hook(lambda *_: made.expand(1, 1, -1))
    try:
        given = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=made.device), use_cache=False).logits
    finally:
        hook.remove()
    return torch.equal(given.float().flatten(), made.float())
