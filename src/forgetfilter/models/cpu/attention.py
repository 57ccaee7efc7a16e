"""Compute attention with a backward pass of our own, for training in bfloat16 on a CPU.

PyTorch's backward pass of attention makes no use there of the units that multiply matrices in this format, and takes
a fifth of the training. This one makes the attention's weights anew, some queries at a time, in products that do. The
forward pass stays PyTorch's. In float32 nothing is gained.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

OWN_ATTENTION = "forgetfilter"
# Queries whose weights are there at once: a few of these matrices fit into a core's cache.
_QUERIES = 128
# With more queries than these PyTorch's backward pass is as fast.
_MOST_QUERIES = 512
# What changes the weights in ways that are not made here.
_UNUSUAL = ("position_bias", "softcap", "cache", "s_aux")


def use_own_attention(model: PreTrainedModel) -> None:
    """Let a model with PyTorch's attention train with this one, if it can; other models stay as they are."""
    if model.config._attn_implementation == "sdpa" and model.is_backend_compatible():
        model.set_attn_implementation(OWN_ATTENTION)


class _Attention(torch.autograd.Function):
    """Computes softmax(scale · Q Kᵀ + mask) V; each key and value head serves several adjacent query heads."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        ctx.causal, ctx.scale = causal, scale
        several = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=several)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        heads = (len(q), k.shape[1], q.shape[1] // k.shape[1])
        several = q.shape[2] > _QUERIES
        if several:
            of_q, of_k, of_v = (torch.zeros_like(part, dtype=torch.float32) for part in (q, k, v))
        for start in range(0, q.shape[2], _QUERIES):
            here = slice(start, start + _QUERIES)
            # No query looks right of itself.
            seen = slice(0, here.stop if ctx.causal else None)
            keys, values = k[:, :, seen], v[:, :, seen]
            queries, gradient = (part[:, :, here].reshape(*heads[:2], -1, part.shape[3]) for part in (q, gradients[0]))
            queries = queries * ctx.scale
            weights = queries @ keys.transpose(2, 3)
            by_head = weights.view(*heads, -1, keys.shape[2])
            if ctx.causal:
                own = by_head[..., start:]
                own += torch.full(own.shape[3:], -math.inf, dtype=own.dtype).triu_(1)
            elif mask is not None:
                _apply(mask[:, :, here], by_head)
            weights = weights.softmax(-1)
            of_values = weights.transpose(2, 3) @ gradient
            of_weights = gradient @ values.transpose(2, 3)
            of_logits = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_queries = (of_logits @ keys).view(len(q), q.shape[1], -1, q.shape[3])
            of_keys = of_logits.transpose(2, 3) @ queries
            if not several:
                return of_queries.mul_(ctx.scale), of_keys, of_values, None, None, None
            of_v[:, :, seen] += of_values
            of_q[:, :, here] = of_queries
            of_k[:, :, seen] += of_keys
        return (of_q * ctx.scale).to(q.dtype), of_k.to(k.dtype), of_v.to(v.dtype), None, None, None


def _apply(mask: Tensor, weights: Tensor) -> None:
    """Apply a mask, of shape (rows, 1 or heads, queries, keys), to attention logits whose heads are grouped."""
    mask = mask.view(len(mask), *weights.shape[1:3], *mask.shape[2:]) if mask.shape[1] > 1 else mask[:, None]
    if mask.dtype == torch.bool:
        weights.masked_fill_(~mask, -math.inf)
    else:
        weights += mask


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute a layer's attention, as transformers calls it; all but plain training is left to PyTorch."""
    causal = attention_mask is None and query.shape[2] > 1
    usual = not dropout and is_causal is None and getattr(module, "is_causal", True)
    usual = usual and all(others.get(name) is None for name in _UNUSUAL)
    worth_it = query.requires_grad and query.shape[2] <= _MOST_QUERIES
    if not usual or not worth_it or (causal and query.shape[2] != key.shape[2]):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    made = _Attention.apply(query, key, value, attention_mask, causal, scale)  # type: ignore[no-untyped-call]
    return made.transpose(1, 2).contiguous(), None


AttentionInterface.register(OWN_ATTENTION, _attention)
AttentionMaskInterface.register(OWN_ATTENTION, sdpa_mask)
