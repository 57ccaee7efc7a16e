"""Load an aligned model and its tokenizer; convert a GGUF file once."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import psutil
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import cached_file

from ..console import printable
from ..errors import ForgetFilterError, ModelError, SettingsError, first_line
from ..runs.files import keep_once
from ..settings.groups import ModelSettings
from .capabilities import check_causal
from .merging import merge_adapters
from .sources import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ModelSource,
    cache_folder,
    fingerprint,
    has_tokenizer,
    with_base,
)
from .weights import INDEX, check_complete, count_weights, index_files, weight_files

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Gradients and AdamW's two moments, beside the weights themselves.
_COPIES_WHEN_TRAINED_FULLY = 4
_SHOWN, _NAME_SHOWN = 200, 60


@dataclass(frozen=True)
class Hardware:
    """Where a model runs and in which number format."""

    device: torch.device
    dtype: torch.dtype


def choose_hardware(settings: ModelSettings, *, trained_fully: bool = False) -> Hardware:
    """Resolve `auto`: the best device that is there; bfloat16 where it has units for it, float32 elsewhere.

    Args:
        settings: What the user named.
        trained_fully: Whether the weights themselves are trained. Then it is float32 everywhere: most updates are
            smaller than what bfloat16 can tell apart.

    Raises:
        SettingsError: The device that was named is not there.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        # Some devices hold no values, and some fall back on what they do not have.
        torch.ones(1, device=device).item()
    except Exception as error:
        # What a backend raises that is not there has no bounds.
        problem = printable(first_line(error), _SHOWN)
        raise SettingsError(f"device: '{printable(name, _NAME_SHOWN)}' cannot be used here: {problem}") from error
    auto = torch.float32 if trained_fully else _fastest_format(device)
    return Hardware(device, _DTYPES.get(settings.dtype, auto))


def _fastest_format(device: torch.device) -> torch.dtype:
    # Without matrix units for it (AMX) a processor is slower in bfloat16 than in float32.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    has_units = device.type != "cpu" or (capabilities is not None and capabilities().get("amx_bf16", False))
    return torch.bfloat16 if has_units else torch.float32


def load_tokenizer(source: ModelSource) -> Any:
    """Load the model's tokenizer, or that of an adapter if one lies beside it.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    source = _resolved(source)
    beside = [folder for folder in source.adapters if has_tokenizer(Path(folder))]
    if not source.local:
        # A model that the hub does not have is refused once, not file by file.
        _load_config(source)
    with explained(source, "tokenizer"):
        if beside:
            return AutoTokenizer.from_pretrained(beside[-1])
        return AutoTokenizer.from_pretrained(source.location, revision=source.revision or "main")


def model_fingerprint(source: ModelSource) -> str:
    """Compute the model's fingerprint; asks the hub for the commit of a hub model.

    Raises:
        ModelError: The hub does not give this model.
    """
    if source.local and source.gguf:
        return fingerprint(source)
    source = _on_disk(source)
    return fingerprint(source, None if source.local else getattr(_load_config(source), "_commit_hash", None))


def load_model(source: ModelSource, hardware: Hardware, *, trained_fully: bool = False) -> PreTrainedModel:
    """Load the weights for training and scoring.

    Raises:
        ModelError: The model cannot be loaded, is no decoder-only language model, lacks weights, or is larger than
            memory.
    """
    source = _resolved(source)
    config = _load_config(source)
    _check_decoder(config, source)
    with explained(source, "weights"):
        _check_weights(source, hardware, trained_fully)
    with explained(source, "model"):
        model, info = _loader(config).from_pretrained(
            source.location,
            revision=source.revision or "main",
            dtype=hardware.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        check_complete(info, source.location)
        model = merge_adapters(model.to(hardware.device), source.adapters)
        check_causal(model, source.location)
    return model


def _loader(config: Any) -> Any:
    """Choose the class that loads a model with this configuration; some are registered as image-text models only."""
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice off the user's screen; errors still show."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.utils.logging.set_verbosity_error()
    logging.getLogger("peft").setLevel(logging.ERROR)


def _converted(source: ModelSource) -> ModelSource:
    """Convert a GGUF file to a folder of safetensors, dequantised once and kept in the cache."""
    if source.gguf is None:
        return source
    kept = cache_folder() / "gguf" / fingerprint(replace(source, adapters=()))
    # The reader of GGUF files draws a progress bar that no setting turns off.
    with explained(source, "GGUF file"), contextlib.redirect_stderr(io.StringIO()):
        keep_once(kept, partial(_convert_gguf, source))
    return ModelSource(str(kept), adapters=source.adapters)


def _convert_gguf(source: ModelSource, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf)
    model = AutoModelForCausalLM.from_pretrained(source.location, gguf_file=source.gguf, dtype=torch.float32)
    # The weights are plain by now, but the model still calls itself quantised and would refuse to be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _resolved(source: ModelSource) -> ModelSource:
    """Return the folder or hub id that transformers reads."""
    return _converted(_on_disk(source))


def _on_disk(source: ModelSource) -> ModelSource:
    """Resolve an adapter on the hub to a folder and its base model; return other sources as they are."""
    if source.local:
        return source
    with explained(source, "model"):
        config = _hub_file(source, ADAPTER_CONFIG)
        if config is None:
            return source
        if _hub_file(source, ADAPTER_WEIGHTS) is None:
            raise ModelError(f"{source.location}: has no {ADAPTER_WEIGHTS}; pickled adapters are not loaded")
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
            _hub_file(source, name)
        found = with_base(config.parent, name=source.location)
    return replace(found, adapters=(*found.adapters[:-1], *source.adapters, found.adapters[-1]))


def _hub_file(source: ModelSource, name: str) -> Path | None:
    """Find a file of a hub model in the hub's cache; None if the model has no such file."""
    found = cached_file(
        source.location,
        name,
        revision=source.revision or "main",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _load_config(source: ModelSource) -> Any:
    source = _resolved(source)
    with explained(source, "configuration"):
        config = AutoConfig.from_pretrained(
            source.location, revision=source.revision or "main", trust_remote_code=False
        )
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention:
        raise ModelError(f"{source.location}: config.json asks for code from the hub ('{attention}'); none is run")
    return config


def _check_decoder(config: Any, source: ModelSource) -> None:
    kinds = getattr(config, "architectures", None) or []
    causal = any(str(kind).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for kind in kinds)
    if getattr(config, "is_encoder_decoder", False) or (kinds and not causal):
        what = kinds[0] if kinds else config.model_type
        raise ModelError(
            f"{source.location}: {what} is not a decoder-only language model, such as Llama, Qwen or GPT-2"
        )


def _check_weights(source: ModelSource, hardware: Hardware, trained_fully: bool) -> None:
    """Refuse weights that are not whole, not safetensors, or more than memory holds, before any are read."""
    if not source.local:
        index = _hub_file(source, INDEX)
        if index is not None:
            index_files(index, source.location)
        return
    numbers = sum(count_weights(file) for file in weight_files(Path(source.location)))
    copies = _COPIES_WHEN_TRAINED_FULLY if trained_fully else 1
    needed = numbers * hardware.dtype.itemsize * copies
    if hardware.device.type == "cuda":
        there = torch.cuda.mem_get_info(hardware.device)[0]
    else:
        there = psutil.virtual_memory().available
    if needed > there:
        raise ModelError(
            f"{source.location}: needs about {needed / 1e9:.1f} GB in {hardware.dtype}, "
            f"but {there / 1e9:.1f} GB are free on {hardware.device}; choose a smaller model or --dtype bfloat16"
        )


@contextlib.contextmanager
def explained(source: ModelSource, what: str) -> Iterator[None]:
    """Turn what the libraries raise about a model into one line, a ModelError."""
    where = f"{source.location}/{source.gguf}" if source.gguf else source.location
    try:
        yield
    except ForgetFilterError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"{where}: larger than the memory of the GPU") from error
    except Exception as error:
        # What a damaged folder makes the libraries raise has no bounds: AssertionError, ZeroDivisionError, Rust's own.
        problem = next((line for line in str(error).splitlines() if line.strip()), "")
        kind = "" if isinstance(error, (OSError, ValueError, RuntimeError)) and problem else type(error).__name__
        said = ": ".join(part for part in (kind, problem.strip()) if part)
        raise ModelError(f"{where}: cannot load this {what}: {said}") from error
