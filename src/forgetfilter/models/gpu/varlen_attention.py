"""Compute the attention of packed rows, each of whose tokens attends to its own row alone.

On a GPU that is PyTorch's `varlen_attn`, on top of FlashAttention.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

varlen_attn: Any = None
with contextlib.suppress(ImportError):
    from torch.nn.attention.varlen import varlen_attn
# PyTorch 2.10 lacks arguments that are needed here.
_ARGUMENTS = set(inspect.signature(varlen_attn).parameters) if varlen_attn else set()
# Before PyTorch 2.12 this needed no argument.
_SHARED_HEADS = {"enable_gqa": True} if "enable_gqa" in _ARGUMENTS else {}
# The oldest generation of GPUs that FlashAttention runs on.
_OLDEST = (8, 0)
Attend = Callable[..., tuple[Tensor, None]]


def attends_to_rows(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether a device has fast attention of this kind."""
    if device.type != "cuda" or dtype != torch.bfloat16 or not {"scale", "window_size"} <= _ARGUMENTS:
        return False
    if torch.version.cuda is None or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(device) >= _OLDEST


def within(bounds: Tensor, longest: int) -> Attend:
    """Make the attention of each token to itself and to those before it in its row.

    Args:
        bounds: Where each row begins, and the last one ends.
        longest: An upper bound of the rows' lengths.
    """

    def attend(_: Any, q: Tensor, k: Tensor, v: Tensor, *__: Any, scaling: float, **___: Any) -> tuple[Tensor, None]:
        q, k, v = (part[0].transpose(0, 1) for part in (q, k, v))
        return attention(q, k, v, bounds, bounds, longest, longest, scaling, causal=True)[None], None

    return attend


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_bounds: Tensor,
    k_bounds: Tensor,
    q_longest: int,
    k_longest: int,
    scale: float,
    *,
    causal: bool,
) -> Tensor:
    """Attend row by row, with queries of shape (queries, heads, width), to the keys and values of the same row.

    Several neighbouring heads of queries may share one head of keys.
    """
    if q.device.type == "cpu":
        return _row_by_row(q, k, v, q_bounds, k_bounds, scale, causal)
    window = (-1, 0) if causal else (-1, -1)
    output: Tensor = varlen_attn(
        q, k, v, q_bounds, k_bounds, q_longest, k_longest, scale=scale, window_size=window, **_SHARED_HEADS
    )
    return output


def _row_by_row(
    q: Tensor, k: Tensor, v: Tensor, q_bounds: Tensor, k_bounds: Tensor, scale: float, causal: bool
) -> Tensor:
    """Compute the same on a CPU, for which PyTorch has no such attention."""
    output = torch.zeros_like(q)
    for of_q, of_k in zip(*(itertools.pairwise(bounds.tolist()) for bounds in (q_bounds, k_bounds)), strict=True):
        queries, keys, values = (
            part[slice(*of)].transpose(0, 1)[None] for part, of in ((q, of_q), (k, of_k), (v, of_k))
        )
        if queries.shape[2]:
            of_row = scaled_dot_product_attention(queries, keys, values, is_causal=causal, scale=scale, enable_gqa=True)
            output[slice(*of_q)] = of_row[0].transpose(0, 1)
    return output
