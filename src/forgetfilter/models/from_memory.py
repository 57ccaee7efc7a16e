"""Write a model that a Python program has loaded already into a folder, to be loaded like any other.

What the program holds stays as it is: nothing is trained in place, moved to another device or hooked. The price is a
copy on disk, which also lets a run that was killed go on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.records import hash_chunks
from ..errors import ModelError, first_line
from ..runs.files import keep_once
from .loading import quiet_libraries
from .sources import cache_folder, tokenizer_bytes

_SAVE_IT = "save it with save_pretrained and pass the folder"


def check_handed_over(model: Any, tokenizer: Any) -> None:
    """Check that a model and its tokenizer can be written into a folder.

    Raises:
        ModelError: They cannot; says what to pass instead.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    kind = type(inner).__name__
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(
            f"model: found {_named(model)}; pass a name or folder, or a transformers or peft model, taken out of what "
            "torch.compile, accelerate or DistributedDataParallel made of it"
        )
    if tokenizer is None:
        raise ModelError(
            "tokenizer: a loaded model needs its tokenizer: ForgetFilter(model=model, tokenizer=tokenizer)"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"tokenizer: found {_named(tokenizer)}; pass what AutoTokenizer.from_pretrained returned")
    if not tokenizer.is_fast:
        raise ModelError("this model has no fast tokenizer (tokenizer.json), which tells where each token stands")
    quantised = [getattr(inner, "is_quantized", None), getattr(inner, "hf_quantizer", None)]
    if any([*quantised, getattr(inner.config, "quantization_config", None)]):
        raise ModelError(
            f"model: this {kind} is quantised; load it without quantisation, or pass the name it came from"
        )
    if getattr(inner, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"model: this {kind} has adapters of its own (add_adapter); pass a peft.PeftModel, or merge them"
        )
    weights = dict(inner.named_parameters())
    if any(weight.is_meta for weight in weights.values()):
        raise ModelError(f"model: parts of this {kind} are not in memory; load it without offloading (device_map)")
    if any(isinstance(weight, DTensor) for weight in weights.values()):
        raise ModelError(f"model: each process holds a part of this {kind}; {_SAVE_IT}")
    if inner.get_output_embeddings() is None:
        raise ModelError(f"model: {kind} is not a causal language model; load it with AutoModelForCausalLM")


def keep_handed_over(model: Any, tokenizer: Any) -> Path:
    """Write a loaded model and its tokenizer into the cache, once for the same weights; returns the folder.

    An adapter of peft is merged into a copy of its model.

    Raises:
        ModelError: They cannot be written.
    """
    check_handed_over(model, tokenizer)
    kept = cache_folder() / "loaded" / _fingerprint(model, tokenizer)
    return keep_once(kept, lambda folder: _write(_merged(model), tokenizer, folder))


def _merged(model: Any) -> PreTrainedModel:
    if not isinstance(model, PeftModel):
        return model
    try:
        merged: PreTrainedModel = copy.deepcopy(model).merge_and_unload()
    except (AttributeError, RuntimeError, ValueError, NotImplementedError) as error:
        problem = first_line(error)
        raise ModelError(
            f"model: its adapter cannot be merged into a copy: {problem}; merge it and {_SAVE_IT}"
        ) from error
    return merged


def _write(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    # Saving writes into the configuration, so that a copy of it takes the place of the program's own.
    shell = copy.copy(model)
    shell.config = copy.deepcopy(model.config)
    shell.generation_config = copy.deepcopy(model.generation_config)
    quiet_libraries()
    try:
        shell.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ModelError(f"model: cannot be saved: {first_line(error)}; {_SAVE_IT}") from error


def _fingerprint(model: Any, tokenizer: Any) -> str:
    """Compute a fingerprint of weights, configuration and tokenizer; a peft model's weights include the adapter's."""

    def chunks() -> Iterator[bytes]:
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        config = inner.config.to_dict()
        for name in ("_name_or_path", "_commit_hash", "transformers_version"):
            config.pop(name, None)
        adapters = model.peft_config if isinstance(model, PeftModel) else {}
        active = getattr(model, "active_adapters", None) if adapters else None
        told = [type(inner).__name__, config, active, [adapter.to_dict() for adapter in adapters.values()]]
        # Sets have another order in every process.
        yield json.dumps(told, sort_keys=True, default=lambda v: sorted(v) if isinstance(v, set) else str(v)).encode()
        yield tokenizer_bytes(tokenizer)
        yield repr([tokenizer.chat_template, tokenizer.special_tokens_map]).encode("utf-8", "replace")
        for name, weight in model.state_dict().items():
            yield repr([name, weight.dtype, tuple(weight.shape)]).encode()
            yield weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    return hash_chunks(chunks())


def _named(value: Any) -> str:
    kind = type(value)
    return (
        f"a {kind.__module__.partition('.')[0]}.{kind.__name__}" if kind.__module__ != "builtins" else repr(value)[:60]
    )
