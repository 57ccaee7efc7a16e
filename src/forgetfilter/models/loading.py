"""Load an aligned model and its tokenizer; convert a GGUF file once."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import psutil
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import ModelError, SettingsError
from ..options import split_names
from ..run import commit
from ..settings import AdapterSettings, ModelSettings
from .sources import ModelSource, cache_folder, fingerprint

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ALL_LINEAR, LAST_BLOCK, QUERY_VALUE = "all-linear", "last-block", "query-value"
# What models call their query and value projections; GPT-2 and others have them in one layer with the key's.
_QUERY_VALUE = {"q_proj", "v_proj", "query", "value", "c_attn", "query_key_value", "qkv_proj"}
_BLOCK = re.compile(r"\.(\d+)\.")
# Gradients and AdamW's two moments, beside the weights themselves.
_COPIES_WHEN_TRAINED_FULLY = 4


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
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise SettingsError(f"device: '{name}' cannot be used here: {problem}") from error
    auto = torch.float32 if trained_fully else _fastest_format(device)
    return Hardware(device, _DTYPES.get(settings.dtype, auto))


def _fastest_format(device: torch.device) -> torch.dtype:
    # Without matrix units for it (AMX) a processor is slower in bfloat16 than in float32.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    has_units = device.type != "cpu" or (capabilities is not None and capabilities().get("amx_bf16", False))
    return torch.bfloat16 if has_units else torch.float32


def load_tokenizer(source: ModelSource) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    source = _converted(source)
    if not source.local:
        # A model that the hub does not have is refused once, not file by file.
        _load_config(source)
    with explained(source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source.location, revision=source.revision or "main")


def model_fingerprint(source: ModelSource) -> str:
    """A hash of the model; asks the hub for the commit of a hub model.

    Raises:
        ModelError: The hub does not give this model.
    """
    if source.local:
        return fingerprint(source)
    return fingerprint(source, getattr(_load_config(source), "_commit_hash", None))


def load_model(source: ModelSource, hardware: Hardware, *, trained_fully: bool = False) -> PreTrainedModel:
    """Load the weights for training and scoring.

    Raises:
        ModelError: The model cannot be loaded, is no decoder-only language model, or is larger than memory.
    """
    source = _converted(source)
    config = _load_config(source)
    _check_decoder(config, source)
    with explained(source, "weights"):
        _check_memory(source, hardware, trained_fully)
    with explained(source, "model"):
        model = AutoModelForCausalLM.from_pretrained(
            source.location,
            revision=source.revision or "main",
            dtype=hardware.dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    return model.to(hardware.device)


def add_adapter(model: PreTrainedModel, settings: AdapterSettings) -> PeftModel:
    """Put a LoRA adapter on the model, or on its top blocks; its base weights stay as they are.

    Raises:
        SettingsError: No layer has one of the names in `lora_targets`.
    """
    targets: str | list[str] = settings.lora_targets
    if targets == LAST_BLOCK:
        targets = _top_linear(model, 1)
    elif targets == QUERY_VALUE:
        targets = _query_and_value(model)
    elif targets != ALL_LINEAR:
        targets = split_names(settings.lora_targets)
    share = settings.top_blocks or 1
    if share < 1:
        count = math.ceil(share * int(model.config.get_text_config().num_hidden_layers))
        targets = [name for name in _top_linear(model, count) if _is_among(name, targets)]
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
        # Layers of GPT-2's kind store their weights transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_peft_model(model, config)
    except ValueError as error:
        where = (
            "of this model" if share == 1 else f"of the top {share:.0%} of the blocks; raise --top-blocks for others"
        )
        raise SettingsError(f"lora_targets: '{settings.lora_targets}' fits no layer {where}") from error


def _query_and_value(model: PreTrainedModel) -> list[str]:
    """The names of the layers that the paper gives an adapter."""
    return sorted({name.rpartition(".")[2] for name, _ in model.named_modules()} & _QUERY_VALUE)


def _top_linear(model: PreTrainedModel, count: int) -> list[str]:
    """The linear layers of so many decoder blocks, the last ones."""
    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    numbers = {name: int(found.group(1)) for name in linear if (found := _BLOCK.search(name))}
    last = max(numbers.values(), default=-1)
    return [name for name, number in numbers.items() if number > last - count]


def _is_among(name: str, targets: str | list[str]) -> bool:
    """Whether a layer is one of those named by the end of their names, as peft reads them."""
    return targets == ALL_LINEAR or any(name == target or name.endswith(f".{target}") for target in targets)


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice off the user's screen; errors still show."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.utils.logging.set_verbosity_error()
    logging.getLogger("peft").setLevel(logging.ERROR)


def _converted(source: ModelSource) -> ModelSource:
    """A GGUF file as a folder of safetensors, dequantised once and kept in the cache."""
    if source.gguf is None:
        return source
    kept = cache_folder() / "gguf" / fingerprint(source)
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=kept.parent, prefix="converting-") as folder,
            explained(source, "GGUF file"),
        ):
            partial = Path(folder) / "model"
            # The reader of GGUF files draws a progress bar that no setting turns off.
            with contextlib.redirect_stderr(io.StringIO()):
                _convert_gguf(source, partial)
            # Another process may have been faster; then its copy is as good as this one.
            if not kept.is_dir():
                commit(partial, kept)
    return ModelSource(str(kept))


def _convert_gguf(source: ModelSource, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf)
    model = AutoModelForCausalLM.from_pretrained(source.location, gguf_file=source.gguf, dtype=torch.float32)
    # The weights are plain by now, but the model still calls itself quantised and would refuse to be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _load_config(source: ModelSource) -> Any:
    source = _converted(source)
    with explained(source, "configuration"):
        return AutoConfig.from_pretrained(source.location, revision=source.revision or "main", trust_remote_code=False)


def _check_decoder(config: Any, source: ModelSource) -> None:
    kinds = getattr(config, "architectures", None) or []
    causal = any(kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for kind in kinds)
    if getattr(config, "is_encoder_decoder", False) or (kinds and not causal):
        what = kinds[0] if kinds else config.model_type
        raise ModelError(
            f"{source.location}: {what} is not a decoder-only language model, such as Llama, Qwen or GPT-2"
        )


def _check_memory(source: ModelSource, hardware: Hardware, trained_fully: bool) -> None:
    if not source.local:
        return
    numbers = sum(_count_weights(file) for file in Path(source.location).glob("*.safetensors"))
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


def _count_weights(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > file.stat().st_size:
            raise ValueError(f"{file.name} is not a safetensors file")
        header = json.loads(opened.read(size))
    shapes = (tensor["shape"] for name, tensor in header.items() if name != "__metadata__")
    return sum(int(torch.Size(shape).numel()) for shape in shapes)


@contextlib.contextmanager
def explained(source: ModelSource, what: str) -> Iterator[None]:
    """Turn what the libraries raise about a model into one line, a ModelError."""
    where = f"{source.location}/{source.gguf}" if source.gguf else source.location
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"{where}: larger than the memory of the GPU") from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, json.JSONDecodeError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{where}: cannot load this {what}: {problem}") from error
