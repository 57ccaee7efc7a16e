"""What a block does between its products, number by number: as it stands, or compiled into an operation each.

A processor keeps what the operations of a few tokens hand to one another in its cache. A GPU writes it to its memory
and reads it again, which takes longer than the arithmetic; compiled, each of these reads and writes once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu


class Elementwise(NamedTuple):
    """These operations; tokens lie below one another unless said otherwise.

    Attributes:
        normed: Tokens divided by their root mean square, times a weight, and the factor of each token; of the tokens,
            the weight, and what is added to the mean square.
        norm_slope: The slope of `normed`'s tokens; of its own slope, the tokens, what was normed, the factors and the
            weight.
        gated: What gates let through; of the gates and what comes to them, side by side.
        gated_and_open: The same, and how far the gates are open.
        gate_slope: The slope of `gated`'s input; of its own slope, which is used up, its input, and how far the gates
            are open.
        rotate: Puts heads, turned by the position of their token (rotary embeddings), into the last argument; of heads,
            shape (rows, length, heads, width), and cosines and sines that fit them.
    """

    normed: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    norm_slope: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    gated: Callable[[Tensor], Tensor]
    gated_and_open: Callable[[Tensor], tuple[Tensor, Tensor]]
    gate_slope: Callable[[Tensor, Tensor, Tensor], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _normed(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    factor = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (wide * factor).to(x.dtype).mul_(weight), factor


def _norm_slope(gradient: Tensor, x: Tensor, normed: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
    # What would only make the token longer changes nothing.
    along = (gradient * normed).sum(-1, keepdim=True, dtype=torch.float32).div_(-x.shape[-1]).mul_(factor)
    of_x = (gradient * weight).float()
    return of_x.addcmul_(x.float(), along).mul_(factor).to(x.dtype)


def _gated(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, dim=-1)
    return silu(gate).mul_(up)


def _gated_and_open(both: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = both.chunk(2, dim=-1)
    opened = silu(gate)
    return opened * up, opened


def _gate_slope(gradient: Tensor, both: Tensor, opened: Tensor) -> Tensor:
    gate, up = both.chunk(2, dim=-1)
    of_both = torch.empty_like(both)
    of_gate, of_up = of_both.chunk(2, dim=-1)
    torch.mul(gradient, opened, out=of_up)
    torch.ops.aten.silu_backward.grad_input(gradient.mul_(up), gate, grad_input=of_gate)
    return of_both


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _gate_slope_at_once(gradient: Tensor, both: Tensor, opened: Tensor) -> Tensor:
    gate, up = both.chunk(2, dim=-1)
    share = torch.sigmoid(gate.float())
    of_gate = gradient.float() * up.float() * share * (1 + gate.float() * (1 - share))
    return torch.cat([of_gate.to(both.dtype), gradient * opened], dim=-1)


def _rotate_at_once(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return out.copy_(x * cos + torch.cat([-second, first], dim=-1) * sin)


PLAIN = Elementwise(_normed, _norm_slope, _gated, _gated_and_open, _gate_slope, _rotate)


@cache
def compiled() -> Elementwise:
    """The same, each compiled when it is first called; needs Triton, and a compiler for C."""
    return Elementwise(
        torch.compile(_normed, dynamic=True),
        torch.compile(_norm_slope, dynamic=True),
        torch.compile(_gated, dynamic=True),
        torch.compile(_gated_and_open, dynamic=True),
        torch.compile(_gate_slope_at_once, dynamic=True),
        torch.compile(_rotate_at_once, dynamic=True),
    )
