"""Check that a checkpoint which was trained elsewhere fits the aligned model M0, before any weights are read."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..console import printable
from ..errors import ModelError
from .checkpoint import Checkpoint, LoraShape
from .loading import load_tokenizer_from, outline
from .sources import ModelSource

_SHOWN = 120


def check_fits(checkpoint: Checkpoint, source: ModelSource) -> None:
    """Refuse a checkpoint whose tensors have other names or shapes than those of M0 ask for.

    Raises:
        ModelError: Names one of them.
    """
    model = outline(source)
    if model is None:
        raise ModelError(f"{checkpoint.option}: {source.location} is quantised; name the model without quantisation")
    if checkpoint.lora is not None:
        _check_layers(checkpoint, checkpoint.lora, model, source)
        return
    own = outline(checkpoint.source)
    shapes, needed = (
        {name: tuple(p.shape) for name, p in one.named_parameters()} if one is not None else {} for one in (own, model)
    )
    for name in sorted(shapes.keys() | needed.keys()):
        if shapes.get(name) != needed.get(name):
            raise _misfit(checkpoint, name, source, shapes.get(name), needed.get(name))


def _check_layers(checkpoint: Checkpoint, lora: LoraShape, model: PreTrainedModel, source: ModelSource) -> None:
    modules = dict(model.named_modules())
    for name, (inside, _, outside) in lora.layers.items():
        module = modules.get(name)
        needed = None
        if isinstance(module, (nn.Linear, Conv1D)):
            needed = tuple(module.weight.shape)
            needed = needed[::-1] if isinstance(module, Conv1D) else needed
        if needed != (outside, inside):
            raise _misfit(checkpoint, name, source, (outside, inside), needed)


def _misfit(
    checkpoint: Checkpoint,
    name: str,
    source: ModelSource,
    found: tuple[int, ...] | None,
    needed: tuple[int, ...] | None,
) -> ModelError:
    of_checkpoint, of_model = ("×".join(map(str, shape)) if shape else "not there" for shape in (found, needed))
    return ModelError(
        f"{checkpoint.named}: was not trained from {source.location}: {printable(name, _SHOWN)} is "
        f"{of_checkpoint} by the checkpoint, and {of_model} in the model; name the model that it was trained from"
    )


def tokenizer_of(checkpoint: Checkpoint, tokenizer: Any) -> Any:
    """Load the tokenizer that was saved with a checkpoint, whose template it was trained with; else return M0's.

    Raises:
        ModelError: It cannot be loaded, or numbers M0's tokens otherwise.
    """
    if not checkpoint.has_tokenizer:
        return tokenizer
    own, needed = load_tokenizer_from(checkpoint.folder), tokenizer.get_vocab()
    numbers = own.get_vocab()
    other = [token for token, number in needed.items() if numbers.get(token) != number]
    if other:
        raise ModelError(
            f"{checkpoint.named}: its tokenizer is not that of the model: {len(other):,} of {len(needed):,} "
            f"tokens have another number, or none, such as {printable(repr(min(other)), _SHOWN)}; name the model that "
            "it was trained from"
        )
    return own
