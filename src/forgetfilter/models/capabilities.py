"""Find out what a model can do by trying it, not by its name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ModelError

# The share of a score's gradient that may come from later tokens: in a causal model none does, apart from rounding.
_FROM_BEHIND = 1e-5
_EARLY, _LATE = 4, 3


def tolerance(dtype: Any) -> float:
    """Return how much scores, in nats, may differ by rounding between two ways through a model."""
    return 5e-5 if dtype == torch.float32 else 0.1


def trial_tokens(model: Any, rows: int, length: int) -> Tensor:
    """Pick tokens of a model's vocabulary, shape (rows, length), all different if there are as many."""
    weight = model.get_input_embeddings().weight
    tokens = torch.arange(1, rows * length + 1, device=weight.device) * 7919
    return (tokens % len(weight)).view(rows, length)


def check_causal(model: PreTrainedModel, where: str) -> None:
    """Refuse a model in which later tokens change earlier scores: an encoder, or one that reads both ways.

    Such a model predicts a token that it sees. One pass tells: no earlier score may have a gradient in a later token's
    embedding, nor change when that token does.

    Raises:
        ModelError: It is such a model, has no head that scores tokens, or cannot be trained.
    """
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Module) or model.get_output_embeddings() is None:
        raise ModelError(f"{where}: not a language model: it gives no probabilities of tokens; choose another")
    tokens = trial_tokens(model, 2, _EARLY + _LATE)
    tokens[1, :_EARLY] = tokens[0, :_EARLY]
    embedded: list[Tensor] = []

    def follow(_: nn.Module, __: Any, made: Tensor) -> Tensor:
        embedded.append(made.detach().requires_grad_())
        # A model may change its embeddings in place, which leaves no leaf of the graph.
        return embedded[-1] * 1

    hook = embeddings.register_forward_hook(follow)
    try:
        with torch.enable_grad():
            early = model(input_ids=tokens, use_cache=False).logits[:, :_EARLY].float()
            # A sum of logarithms over the whole vocabulary has next to no gradient in a model that knows nothing.
            chosen = early.gather(2, tokens[:, 1 : _EARLY + 1, None]).sum()
            gradients = torch.autograd.grad(chosen, embedded, allow_unused=True)
        early = early.detach()
    finally:
        hook.remove()
    if not torch.isfinite(early).all():
        raise ModelError(f"{where}: its scores are not finite; the weights are damaged, so download the model again")
    sizes = [gradient.float().abs().sum(dim=(0, 2)) for gradient in gradients if gradient is not None]
    behind = sum(float(size[_EARLY:].sum()) for size in sizes) > _FROM_BEHIND * sum(float(size.sum()) for size in sizes)
    if behind or float((early[0] - early[1]).abs().max()) > tolerance(embeddings.weight.dtype) * float(
        early.abs().max()
    ):
        raise ModelError(
            f"{where}: in this model later tokens change earlier scores, so that it sees what it is asked for; "
            "it is no decoder-only language model, such as Llama, Qwen or GPT-2"
        )
