"""Compute a LoRA layer's forward and backward pass without the elementwise work that peft's layer adds.

peft computes `base(x) + lora_B(lora_A(x)) * scale`, which reads and writes the large output three times more,
and again in the backward pass. Here the small products are accumulated into the large ones as they are computed.
The numbers are the same up to rounding; parameters, saving and loading stay peft's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn


class _LoraLinear(torch.autograd.Function):
    """Computes y = x Wᵀ + bias + scale · (x Aᵀ) Bᵀ with W and bias frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        a, b = a.to(x.dtype), b.to(x.dtype)
        # Not a view of a flat tensor, as models may change a layer's output in place.
        y = nn.functional.linear(flat.view(x.shape), weight, bias)
        inner = flat @ a.T
        y.view(-1, y.shape[-1]).addmm_(inner, b.T, alpha=scale)
        ctx.save_for_backward(flat, weight, a, b, inner)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, a, b, inner = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        back = gradient @ b
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            of_x = of_x.addmm_(back, a, alpha=ctx.scale).view(*gradients[0].shape[:-1], weight.shape[1])
        # Products with few rows are up to four times as fast as the same ones with few columns.
        return of_x, None, None, (back.T @ flat) * ctx.scale, (inner.T @ gradient).T * ctx.scale, None


def fuse_lora(model: nn.Module) -> None:
    """Give every plain LoRA layer of the model the faster forward; other kinds of layers keep peft's."""
    for module in model.modules():
        if isinstance(module, Linear) and is_plain(module):
            module.forward = Fused(module)


def is_plain(module: Linear) -> bool:
    (name,) = module.lora_A.keys()
    linear = type(module.base_layer) is nn.Linear and not module.fan_in_fan_out
    return linear and not module.lora_variant and isinstance(module.lora_dropout[name], nn.Identity)


class Fused:
    """Replaces a LoRA layer's forward; a class rather than a closure, so that the model can be copied and pickled."""

    def __init__(self, module: Linear) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        module = self.module
        if module.disable_adapters or module.merged:
            plain: Tensor = module.base_layer(x)
            return plain
        (name,) = module.active_adapters
        base = module.base_layer
        a, b, scale = module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
        fused: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, scale)  # type: ignore[no-untyped-call]
        return fused
