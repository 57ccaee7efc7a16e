"""Merge adapters that others trained into their base model, in memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

from ..errors import ModelError
from .sources import ADAPTER_WEIGHTS


def merge_adapters(model: PreTrainedModel, folders: Sequence[str]) -> PreTrainedModel:
    """Merge adapters into a model, one after the other.

    Raises:
        ModelError: An adapter is for another model, or of a kind that cannot be merged.
    """
    for folder in folders:
        with safe_open(Path(folder) / ADAPTER_WEIGHTS, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        _make_room(model, shapes)
        model = _merged(model, folder, set(shapes))
    return model


def _make_room(model: PreTrainedModel, shapes: dict[str, list[int]]) -> None:
    """Resize the embeddings where the adapter was trained, and saved, with more tokens than its base has."""
    name = next(name for name, module in model.named_modules() if module is model.get_input_embeddings())
    ends = f"{name}.weight", f"{name}.modules_to_save.weight", f"{name}.base_layer.weight"
    for saved, shape in shapes.items():
        if saved.endswith(ends) and shape[0] != model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(shape[0], mean_resizing=False)


def _merged(model: PreTrainedModel, folder: str, saved: set[str]) -> PreTrainedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: Any = PeftModel.from_pretrained(model, folder)
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    # Embeddings may be saved in addition to the adapter.
    odd = sorted(expected - saved) + sorted(name for name in saved - expected if ".lora_" in name)
    if odd or not expected:
        example = f": {odd[0]}" if odd else ""
        raise ModelError(f"{folder}: this adapter was made for another model than {model.name_or_path}{example}")
    if not hasattr(adapted, "merge_and_unload"):
        raise ModelError(f"{folder}: an adapter of this kind cannot be merged into its model; LoRA and its like can")
    whole: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    return whole
