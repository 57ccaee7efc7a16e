"""Compute a decoder block of the Llama kind in few, large operations, forward and backward.

With a small model half of a block's time goes into what lies between its large products: norms, rotation, the gate,
LoRA's small products, and starting some hundred operations. Here the projections that read the same input are one
product, to which LoRA's small ones are added as they are made, and each half of the block, before attention and after
it, is one function with a backward pass of its own. That keeps the inputs of products and makes all else again, so
that a pass takes less memory as well. Attention, caches and masks are those of the model. The numbers are the same up
to rounding; parameters, saving and loading stay transformers' and peft's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import AttentionInterface, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from .attention import OWN_ATTENTION
from .lora import is_plain

# Blocks that compute what is computed here and nothing else.
_KINDS = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer)
# Models that are embeddings, blocks, a norm and a head, and nothing else.
_MODELS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)


class _Stack:
    """Applies frozen linear layers that read the same input, all with LoRA or all without, as one product.

    The layers' own weights become parts of the stacked ones, so that there is but one copy. An input has the shape
    (tokens, width).

    Attributes:
        sizes: How wide each layer's output is.
        adapters: A of every layer, and then B of every layer; empty without LoRA.
    """

    def __init__(self, *layers: Linear | nn.Linear) -> None:
        adapted = [layer for layer in layers if isinstance(layer, Linear)]
        bases: list[Any] = [layer.base_layer if isinstance(layer, Linear) else layer for layer in layers]
        self.sizes = [base.out_features for base in bases]
        self._weight = self._stacked([base.weight for base in bases])
        self._bias = None if bases[0].bias is None else self._stacked([base.bias for base in bases])
        self._scale, self.adapters = 1.0, []
        if adapted:
            (name,) = adapted[0].active_adapters
            self._scale = float(adapted[0].scaling[name])
            self.adapters = [layer.lora_A[name].weight for layer in adapted]
            self.adapters += [layer.lora_B[name].weight for layer in adapted]
        self._kept: tuple[list[int], Tensor, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy's adapters count their changes from the start.
        return self.__dict__ | {"_kept": None}

    def _stacked(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        stacked = torch.cat([parameter.data for parameter in parameters])
        for parameter, part in zip(parameters, torch.split(stacked, self.sizes), strict=True):
            parameter.data = part
        return stacked

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the layers' outputs, side by side, and the output of every A."""
        y = nn.functional.linear(x, self._weight, self._bias)
        if not self.adapters:
            return y, None
        a, b = self._joined(x.dtype)
        inner = x @ a.T
        return y.addmm_(inner, b.T, alpha=self._scale), inner

    def backward(self, gradient: Tensor, x: Tensor, inner: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Compute the gradients of the input and of the adapters."""
        if inner is None:
            return gradient @ self._weight, []
        a, b = self._joined(x.dtype)
        back = (gradient @ b).mul_(self._scale)
        of_x = (gradient @ self._weight).addmm_(back, a)
        of_a = (back.T @ x).chunk(len(self.sizes))
        # Products with few rows are up to four times as fast as the same ones with few columns.
        of_b = (inner.T @ gradient).mul_(self._scale).chunk(len(self.sizes))
        return of_x, [*of_a, *(part[:, own].T for part, own in zip(of_b, self._columns(), strict=True))]

    def forget_joined(self) -> None:
        """Discard the joined adapter matrices, so that they are joined anew when next needed."""
        self._kept = None

    def _joined(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Stack every A, and put every B along a diagonal; joined anew when an adapter has changed."""
        versions = [part._version for part in self.adapters]
        kept = self._kept
        if kept is None or kept[0] != versions:
            kept = self._kept = versions, *self._join(dtype)
        return kept[1:]

    @torch.no_grad()
    def _join(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        count = len(self.sizes)
        a = torch.cat(self.adapters[:count]).to(dtype)
        b = a.new_zeros(sum(self.sizes), len(a))
        for own, columns, part in zip(self._columns(), b.chunk(count, dim=1), self.adapters[count:], strict=True):
            columns[own] = part
        return a, b

    def _columns(self) -> list[slice]:
        """Return each layer's columns of the joined output."""
        return [slice(end - size, end) for end, size in zip(itertools.accumulate(self.sizes), self.sizes, strict=True)]


class _Norm:
    """Divides each token by its root mean square, times a frozen weight; inputs have the shape (tokens, width)."""

    def __init__(self, module: Any) -> None:
        self._weight: Tensor = module.weight
        self._epsilon = float(module.variance_epsilon)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the normed input, and the factor of each token."""
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        factor = length.square_().div_(x.shape[-1]).add_(self._epsilon).rsqrt_()
        return (wide * factor).to(x.dtype).mul_(self._weight), factor

    def backward(self, gradient: Tensor, x: Tensor, normed: Tensor, factor: Tensor) -> Tensor:
        """Compute the gradient of the input."""
        # What would only make the token longer changes nothing.
        along = (gradient * normed).sum(-1, keepdim=True, dtype=torch.float32).div_(-x.shape[-1]).mul_(factor)
        of_x = (gradient * self._weight).float()
        return of_x.addcmul_(x.float(), along).mul_(factor).to(x.dtype)


class _Parts(NamedTuple):
    """Holds the parts of a block, in the order in which they are used."""

    norm: _Norm
    reading: _Stack
    writing: _Stack
    second_norm: _Norm
    gates: _Stack
    down: _Stack
    head_dim: int


class _ToAttention(torch.autograd.Function):
    """Computes queries, keys and values by head from a block's input, of shape (rows, length, width)."""

    @staticmethod
    def forward(ctx: Any, parts: _Parts, x: Tensor, cos: Tensor, sin: Tensor, *_: Tensor) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        normed, factor = parts.norm.forward(flat)
        y, inner = parts.reading.forward(normed)
        ctx.parts = parts
        ctx.save_for_backward(flat, cos, sin, normed, factor, inner)
        q, k, v = _by_head(y.view(*x.shape[:2], -1), parts)
        # As a part of y the values would keep all of it in memory.
        return tuple(part.transpose(1, 2) for part in (_rotated(q, cos, sin), _rotated(k, cos, sin), v.clone()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, cos, sin, normed, factor, inner = ctx.saved_tensors
        parts: _Parts = ctx.parts
        of_q, of_k, of_v = (gradient.transpose(1, 2) for gradient in gradients)
        of_y = flat.new_empty(*of_q.shape[:2], sum(parts.reading.sizes))
        before_q, before_k, before_v = _by_head(of_y, parts)
        _rotated(of_q, cos, -sin, before_q)
        _rotated(of_k, cos, -sin, before_k)
        before_v.copy_(of_v)
        of_normed, adapter_gradients = parts.reading.backward(of_y.view(len(flat), -1), normed, inner)
        of_x = parts.norm.backward(of_normed, flat, normed, factor)
        return None, of_x.view(*of_y.shape[:2], -1), None, None, *adapter_gradients


def _by_head(y: Tensor, parts: _Parts) -> list[Tensor]:
    """Split into queries, keys and values, each of shape (rows, length, heads, width of a head)."""
    return [part.view(*part.shape[:2], -1, parts.head_dim) for part in torch.split(y, parts.reading.sizes, dim=-1)]


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """Rotate heads by the position of their token (rotary embeddings)."""
    half = x.shape[-1] // 2
    out = torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


class _FromAttention(torch.autograd.Function):
    """Computes a block's output from its attention's output and its input, all of shape (rows, length, width)."""

    @staticmethod
    def forward(ctx: Any, parts: _Parts, found: Tensor, x: Tensor, *_: Tensor) -> Tensor:
        flat = found.reshape(-1, found.shape[-1])
        middle, inner_writing = parts.writing.forward(flat)
        middle += x.reshape(middle.shape)
        normed, factor = parts.second_norm.forward(middle)
        both, inner_gates = parts.gates.forward(normed)
        gate, up = both.chunk(2, dim=-1)
        y, inner_down = parts.down.forward(silu(gate).mul_(up))
        y += middle
        ctx.parts = parts
        inner = inner_writing, inner_gates, inner_down
        ctx.save_for_backward(flat, middle, normed, factor, both, *inner)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, middle, normed, factor, both, inner_writing, inner_gates, inner_down = ctx.saved_tensors
        parts: _Parts = ctx.parts
        gradient = gradients[0].reshape(middle.shape)
        gate, up = both.chunk(2, dim=-1)
        opened = silu(gate)
        of_gated, down_gradients = parts.down.backward(gradient, opened * up, inner_down)
        of_both = torch.empty_like(both)
        of_gate, of_up = of_both.chunk(2, dim=-1)
        torch.mul(of_gated, opened, out=of_up)
        torch.ops.aten.silu_backward.grad_input(of_gated.mul_(up), gate, grad_input=of_gate)
        of_normed, gates_gradients = parts.gates.backward(of_both, normed, inner_gates)
        of_middle = parts.second_norm.backward(of_normed, middle, normed, factor).add_(gradient)
        of_found, writing_gradients = parts.writing.backward(of_middle, flat, inner_writing)
        shape = gradients[0].shape[:2]
        return (
            None,
            of_found.view(*shape, -1),
            of_middle.view(*shape, -1),
            *writing_gradients,
            *gates_gradients,
            *down_gradients,
        )


class FastBlock:
    """Replaces a block's forward; a class rather than a closure, so that the model can be copied and pickled."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._attention = attention
        self._parts = _Parts(
            norm=_Norm(layer.input_layernorm),
            reading=_Stack(attention.q_proj, attention.k_proj, attention.v_proj),
            writing=_Stack(attention.o_proj),
            second_norm=_Norm(layer.post_attention_layernorm),
            gates=_Stack(mlp.gate_proj, mlp.up_proj),
            down=_Stack(mlp.down_proj),
            head_dim=attention.head_dim,
        )

    @property
    def head_dim(self) -> int:
        """Return the width of an attention head."""
        return self._parts.head_dim

    def forget_joined(self) -> None:
        """Discard the joined adapter matrices, so that they are joined anew when next needed."""
        for stack in (self._parts.reading, self._parts.writing, self._parts.gates, self._parts.down):
            stack.forget_joined()

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: Any = None,
        attend: Any = None,
        places: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        """Compute the block's output, as transformers calls it.

        Args:
            hidden_states, attention_mask, past_key_values, position_embeddings: As transformers has them.
            attend: An attention to use in place of the model's.
            places: Positions of the tokens to compute the output of, counted through all rows; all if None.
            others: Further arguments of the attention.

        Returns:
            The output, shape (rows, length, width); or (1, places, width).
        """
        parts, attention = self._parts, self._attention
        cos, sin = (each[:, :, None] for each in position_embeddings)
        q, k, v = _ToAttention.apply(parts, hidden_states, cos, sin, *parts.reading.adapters)  # type: ignore[no-untyped-call]
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, attention.layer_idx)
        attend = attend or AttentionInterface()[attention.config._attn_implementation]
        found, _ = attend(attention, q, k, v, attention_mask, dropout=0.0, scaling=attention.scaling, **others)
        found = found.flatten(2)
        if places is not None:
            found, hidden_states = (part.flatten(0, 1).index_select(0, places)[None] for part in (found, hidden_states))
        adapters = [*parts.writing.adapters, *parts.gates.adapters, *parts.down.adapters]
        made: Tensor = _FromAttention.apply(parts, found, hidden_states, *adapters)  # type: ignore[no-untyped-call]
        return made


def use_fast_blocks(model: nn.Module) -> None:
    """Give every block that allows it the faster forward, which trains adapters alone; other blocks keep theirs."""
    for layer in model.modules():
        if type(layer) in _KINDS and _is_usual(layer):
            layer.forward = FastBlock(layer)


def fast_block(layer: nn.Module) -> FastBlock | None:
    """Return a block's faster forward, if it has one."""
    forward = layer.__dict__.get("forward")
    # Frozen blocks have a forward of their own around it.
    inner = getattr(forward, "inner", forward)
    return inner if isinstance(inner, FastBlock) else None


def base_of(model: Any) -> Any:
    """Return the model without peft."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def only_fast_blocks(model: Any) -> list[FastBlock]:
    """Return the faster forwards of all blocks, lowest first; none if the model has further parts or slower blocks."""
    base = base_of(model)
    blocks = [fast_block(layer) for layer in base.model.layers] if type(base) in _MODELS else []
    fast = [block for block in blocks if block is not None]
    return fast if len(fast) == len(blocks) else []


def _are_alike(layers: Sequence[Linear]) -> bool:
    """Check that the adapters of all layers have one rank and one scale, as those of one product must."""
    return len({(layer.r[name], layer.scaling[name]) for layer in layers for name in layer.active_adapters}) == 1


def _is_usual(layer: Any) -> bool:
    """Check that a block has plain LoRA on all linear layers or on none, PyTorch's attention, and no dropout."""
    attention, mlp = layer.self_attn, layer.mlp
    config = attention.config
    linear = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    linear += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    plain = all(type(one) is nn.Linear and not one.weight.requires_grad for one in linear)
    plain = plain or (all(isinstance(one, Linear) and is_plain(one) for one in linear) and _are_alike(linear))
    attends = config._attn_implementation in ("sdpa", OWN_ATTENTION)
    return plain and attends and config.hidden_act == "silu" and not config.attention_dropout
