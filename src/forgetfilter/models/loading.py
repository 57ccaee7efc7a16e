"""Load an aligned model and its tokenizer; convert a GGUF file once."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import psutil
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import cached_file

from ..console import printable
from ..errors import ForgetFilterError, ModelError, SettingsError, first_line
from ..runs.files import keep_once
from ..settings.groups import ModelSettings
from .capabilities import check_causal
from .checking import CONFIG, TOKENIZER, TOKENIZER_CONFIG, check_tokenizer_files, read_model_config
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
from .weights import INDEX, WHOLE, check_classes, check_complete, index_files, read_header, read_shapes, weight_files

# As PyTorch names what a processor has.
_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Gradients and AdamW's two moments, beside the weights themselves.
_COPIES_WHEN_TRAINED_FULLY = 4
_SHOWN, _NAME_SHOWN = 200, 60
# The share of a tokenizer's tokens that a model may lack.
_UNPLACED = 0.05
_LONGEST_DETAIL = 240
_TRY_AGAIN = "check the name, and that the hub can be reached"
_OWN_CODE = "it needs code of its own, which is never run; choose another model"
# What it means that a library fails, and what to do, by what was being loaded.
_REASONS = {
    "configuration": "transformers makes nothing of its values; take the one that was saved with the weights",
    "model": "config.json and the weights make no model; take both from one place, or choose another model",
    "classifier": "config.json and the weights make no classifier; take both from one place, or choose another",
    "tokenizer": "the file makes no tokenizer; save the model's tokenizer into this folder again",
    "GGUF file": "it is damaged, or of a kind that cannot be converted; download it again, or pass a folder",
}


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
        # Some hold tensors but compute nothing, such as `meta`.
        torch.ones(1, device=device).sum().item()
    except Exception as error:
        # What a backend that is not there raises has no bounds.
        problem = printable(first_line(error), _SHOWN)
        raise SettingsError(f"device: '{printable(name, _NAME_SHOWN)}' cannot be used here: {problem}") from error
    auto = torch.float32 if trained_fully else _fastest_format(device)
    return Hardware(device, _DTYPES.get(settings.dtype, auto))


def _fastest_format(device: torch.device) -> torch.dtype:
    # Without units for it a processor is slower in bfloat16 than in float32; with them the filter takes half the time.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_units = device.type != "cpu" or any(capabilities.get(name, False) for name in _BFLOAT16_UNITS)
    return torch.bfloat16 if has_units else torch.float32


def load_tokenizer(source: ModelSource) -> Any:
    """Load the model's tokenizer, or that of an adapter if one lies beside it.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    source = _resolved(source)
    # It is read as well, and a model that the hub does not have is refused once, not file by file.
    load_config(source)
    beside = [folder for folder in source.adapters if has_tokenizer(Path(folder))]
    if beside:
        return load_tokenizer_from(Path(beside[-1]))
    location, folder = source.location, _folder(source, TOKENIZER, TOKENIZER_CONFIG)
    if folder is not None:
        check_tokenizer_files(folder)
    with explained(f"{folder or location}/{TOKENIZER}", "tokenizer"):
        return AutoTokenizer.from_pretrained(location, revision=source.revision or "main")


def load_tokenizer_from(folder: Path) -> Any:
    """Load the tokenizer in a folder, whatever else is there.

    Raises:
        ModelError: It cannot be loaded.
    """
    check_tokenizer_files(folder)
    with explained(f"{folder}/{TOKENIZER}", "tokenizer"):
        return AutoTokenizer.from_pretrained(str(folder))


def pretrained_path(source: ModelSource) -> str:
    """Return what transformers' `from_pretrained` takes for a model: a folder, or a hub id.

    Raises:
        ModelError: It is an adapter, or a GGUF file that cannot be converted.
    """
    source = _resolved(source)
    if source.adapters:
        raise ModelError(
            f"{source.adapters[-1]}: an adapter, not a whole model; merge it with peft (merge_and_unload), save the "
            "result with its tokenizer, and pass that folder"
        )
    return source.location


def check_model(source: ModelSource, tokenizer: Any, *, classifier: bool = False) -> None:
    """Refuse a model that is not whole, or has another tokenizer, before any work: no weights are read but for headers.

    Args:
        source: The model.
        tokenizer: Its tokenizer.
        classifier: Whether it is to classify sequences, rather than be a decoder-only language model.

    Raises:
        ModelError: The model cannot be loaded, is of another kind, lacks weights, or the tokenizer knows many tokens
            that it does not have.
    """
    source = _resolved(source)
    model = _outline(source, load_config(source), classifier=classifier)
    # An adapter may bring further tokens.
    if model is not None and not source.adapters:
        _check_tokens(model, tokenizer, source.location)


def outline(source: ModelSource) -> PreTrainedModel | None:
    """Make a model without numbers, of the shapes that its weights tell; None if it can only be made with its numbers.

    Raises:
        ModelError: The weights are not those that its configuration asks for.
    """
    source = _resolved(source)
    return _outline(source, load_config(source))


def model_fingerprint(source: ModelSource) -> str:
    """Compute the model's fingerprint; asks the hub for the commit of a hub model.

    Raises:
        ModelError: The hub does not give this model.
    """
    if source.local and source.gguf:
        return fingerprint(source)
    source = _on_disk(source)
    return fingerprint(source, None if source.local else getattr(load_config(source), "_commit_hash", None))


def load_model(source: ModelSource, hardware: Hardware, *, trained_fully: bool = False) -> PreTrainedModel:
    """Load the weights for training and scoring.

    Raises:
        ModelError: The model cannot be loaded, is no decoder-only language model, lacks weights, or is larger than
            memory.
    """
    source = _resolved(source)
    config = load_config(source)
    _outline(source, config)
    _check_memory(source, hardware, trained_fully)
    with explained(source.location, "model"):
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
    with explained(f"{source.location}/{source.gguf}", "GGUF file"), contextlib.redirect_stderr(io.StringIO()):
        keep_once(kept, partial(_convert_gguf, source))
    return ModelSource(str(kept), adapters=source.adapters)


def _convert_gguf(source: ModelSource, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf)
    model, info = AutoModelForCausalLM.from_pretrained(
        source.location, gguf_file=source.gguf, dtype=torch.float32, output_loading_info=True
    )
    check_complete(info, f"{source.location}/{source.gguf}")
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
    with explained(source.location, "model"):
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


def load_config(source: ModelSource) -> Any:
    """Load a model's configuration, once it is known to be one and to tell of no more than the weights hold."""
    source = _resolved(source)
    folder = _folder(source)
    if folder is not None:
        # Of a hub model the weights may not be here yet.
        shapes = read_shapes(weight_files(folder)) if source.local else None
        _check_kind(read_model_config(folder, shapes), folder)
    with explained(f"{folder}/{CONFIG}" if folder else source.location, "configuration"):
        config = AutoConfig.from_pretrained(
            source.location, revision=source.revision or "main", trust_remote_code=False
        )
    attention = str(getattr(config, "_attn_implementation", None) or "")
    if "/" in attention:
        raise ModelError(f"{source.location}: config.json asks for code from the hub ('{attention}'); none is run")
    return config


def _check_kind(config: Mapping[str, Any], folder: Path) -> None:
    kind = config["model_type"]
    if kind in CONFIG_MAPPING:
        return
    unknown = "transformers knows no such model; choose another, or a later version of transformers"
    why = _OWN_CODE if config.get("auto_map") else unknown
    shown = printable(f"model_type is '{kind}'", 120)
    raise ModelError(f"{folder / CONFIG}: cannot load this configuration: {shown}: {why}")


def _check_decoder(config: Any, source: ModelSource) -> None:
    kinds = getattr(config, "architectures", None) or []
    causal = any(str(kind).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for kind in kinds)
    if getattr(config, "is_encoder_decoder", False) or (kinds and not causal):
        what = kinds[0] if kinds else config.model_type
        raise ModelError(
            f"{source.location}: {what} is not a decoder-only language model, such as Llama, Qwen or GPT-2"
        )


def _folder(source: ModelSource, *names: str) -> Path | None:
    """Return the folder with a model's configuration, and with other files of these names; None if the hub has none."""
    if source.local:
        return Path(source.location)
    with explained(source.location, "model"):
        files = [_hub_file(source, name) for name in (CONFIG, *names)]
    return next((file.parent for file in files if file), None)


def _weights_folder(source: ModelSource) -> Path:
    """Return the folder with a model's weights, fetched into the hub's cache if need be.

    Raises:
        ModelError: The hub does not give all of them.
    """
    if source.local:
        return Path(source.location)
    with explained(source.location, "model"):
        whole = _hub_file(source, WHOLE)
        if whole is not None:
            return whole.parent
        index = _hub_file(source, INDEX)
        if index is None:
            raise ModelError(
                f"{source.location}: the hub gives no .safetensors weights of it, and pickled ones are not loaded; "
                "choose another model, or check that the hub can be reached"
            )
        for name in index_files(index, source.location):
            if _hub_file(source, name) is None:
                raise ModelError(f"{source.location}: {INDEX} names {name}, which the hub does not give; {_TRY_AGAIN}")
    return index.parent


def _outline(source: ModelSource, config: Any, *, classifier: bool = False) -> PreTrainedModel | None:
    """Make a model without numbers, of the shapes that its weights tell, and refuse it where they are not its own.

    None if it can only be made with its numbers.
    """
    if not classifier:
        _check_decoder(config, source)
    elif source.adapters:
        raise ModelError(f"{source.adapters[-1]}: is an adapter; merge it into its model to classify with it")
    for folder in source.adapters:
        read_header(Path(folder) / ADAPTER_WEIGHTS)
    weights = _weights_folder(source)
    if not source.local:
        read_model_config(weights, read_shapes(weight_files(weights)))
    if getattr(config, "quantization_config", None):
        return None
    loader = AutoModelForSequenceClassification if classifier else _loader(config)
    with explained(f"{weights}/{CONFIG}", "classifier" if classifier else "model"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: PreTrainedModel
        model, info = loader.from_pretrained(
            weights,
            device_map="meta",
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    (check_classes if classifier else check_complete)(info, source.location)
    return model


def _check_tokens(model: PreTrainedModel, tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer of which many tokens have no place in the model; a few that are never used may have none."""
    size = len(getattr(model.get_input_embeddings(), "weight", ()))
    numbers = list(tokenizer.get_vocab().values())
    beyond = sum(number >= size for number in numbers)
    if size and beyond > _UNPLACED * len(numbers):
        raise ModelError(
            f"{where}/{TOKENIZER}: {beyond:,} of {len(numbers):,} tokens are not in the model: the last one has token "
            f"number {max(numbers):,}, but the model's embedding ends at {size - 1:,}; the tokenizer does not belong "
            "to this model"
        )


def _check_memory(source: ModelSource, hardware: Hardware, trained_fully: bool) -> None:
    """Refuse weights that are more than memory holds, before any are read."""
    shapes = read_shapes(weight_files(_weights_folder(source)))
    numbers = sum(map(math.prod, shapes.values()))
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
def explained(where: str, what: str) -> Iterator[None]:
    """Turn whatever the libraries raise while something is loaded into one line, a ModelError.

    Args:
        where: The file, or the folder or hub id where it is not one file alone.
        what: What is being loaded; see `_REASONS`.
    """
    try:
        yield
    except (ForgetFilterError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"{where}: cannot load this {what}: it is larger than the memory of the GPU") from error
    # What a damaged folder makes the libraries raise has no bounds: AssertionError, ZeroDivisionError, Rust's panics.
    except BaseException as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ModelError(f"{where}: cannot load this {what}: it needs more memory than is there") from error
        detail = printable(f"{type(error).__name__}: {error}", _LONGEST_DETAIL)
        reason = _OWN_CODE if "custom code" in str(error) else _REASONS[what]
        if isinstance(error, OSError) and not Path(where).is_absolute():
            reason = f"the hub does not give it; {_TRY_AGAIN}"
        raise ModelError(f"{where}: cannot load this {what}: {reason} ({detail})") from error
