"""Find M1 where somebody trained it elsewhere: a LoRA adapter for M0, or a whole model of its kind. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from ..console import printable
from ..data.records import hash_chunks
from ..errors import ModelError
from ..runs.files import read_json, write_json
from ..runs.layout import TRAINED_ELSEWHERE
from .checking import CONFIG
from .sources import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ModelSource, fingerprint, has_tokenizer, read_adapter_config
from .weights import read_header, read_shapes, weight_files

_LAYER = regex.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
# What makes more of an adapter than its two matrices, or of the model beneath it something else than M0.
_VARIANTS = (
    *("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication", "arrow_config"),
    *("target_parameters", "trainable_token_indices", "modules_to_save", "lora_bias", "megatron_config"),
)
# How LoRA's matrices may begin without the model's own weights being changed.
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
# An alpha may be given for layers by an expression, of which only parts that cannot take forever to match are read.
_HARMLESS = regex.compile(r"[\w.\\^$()|-]*(\.\*)?[\w.\\^$()|-]*")
_SHOWN = 120
# How many rows the note of a training tells of, and how many tokens of each.
MOST_BEGINNINGS, _BEGINNING = 256, 32
_MERGE = "merge it into its model (peft: merge_and_unload, save_pretrained) and name that folder"


@dataclass(frozen=True)
class LoraShape:
    """The layers and the form of a LoRA adapter.

    Attributes:
        layers: For each adapted layer, by its name in the model: what goes in, the rank, and what comes out.
        rank, alpha: What holds for most layers.
        alphas: Other alphas, by an expression for the names of layers.
        rank_stabilised: Whether the update is scaled by alpha over the root of the rank, instead of the rank.
    """

    layers: Mapping[str, tuple[int, int, int]]
    rank: int
    alpha: float
    alphas: Mapping[str, float]
    rank_stabilised: bool

    @property
    def ranks(self) -> dict[str, int]:
        """Return the ranks of layers that differ from `rank`, by name."""
        return {name: rank for name, (_, rank, _) in self.layers.items() if rank != self.rank}


@dataclass(frozen=True)
class Record:
    """How a checkpoint was trained, as the callback `KeepLearned` notes it.

    Attributes:
        model: The model that it was trained from.
        max_length: The longest row, in tokens; None where that is not known.
        beginnings: Hashes of how some of the rows begin, in tokens, which tell of the template as well; none where rows
            were packed.
    """

    model: str
    max_length: int | None
    beginnings: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write it beside the checkpoint."""
        write_json(asdict(self), folder / TRAINED_ELSEWHERE)

    @classmethod
    def find(cls, folder: Path) -> Record | None:
        """Read the note beside a checkpoint; None where there is none, or another program's."""
        try:
            found = read_json(folder / TRAINED_ELSEWHERE, {})
            length, beginnings = found["max_length"], found["beginnings"]
            texts = [found["model"], *beginnings]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not all(isinstance(text, str) for text in texts) or not isinstance(length, int | None):
            return None
        return cls(found["model"], length, tuple(beginnings[:MOST_BEGINNINGS]))


def beginning(tokens: Sequence[int] | NDArray[np.integer]) -> str:
    """Hash the first tokens of a row; empty where it is shorter."""
    if len(tokens) < _BEGINNING:
        return ""
    return hash_chunks([np.asarray(tokens[:_BEGINNING], dtype=np.int64).tobytes()])


@dataclass(frozen=True)
class Checkpoint:
    """A model that was fine-tuned on the data elsewhere.

    Attributes:
        folder: Where it lies.
        base: The model that it says it was trained from; empty where it does not say.
        lora: The adapter, if it is one; otherwise the folder holds a whole model.
        record: How it was trained, where that was noted.
        option: The option that named it, with which errors begin.
    """

    folder: Path
    base: str
    lora: LoraShape | None
    record: Record | None = None
    option: str = "learned"

    @property
    def named(self) -> str:
        """Return what errors call it."""
        return f"{self.option}: {self.folder}"

    @property
    def source(self) -> ModelSource:
        """The whole model; of an adapter there is none."""
        return ModelSource(str(self.folder))

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved with it, with the template that it was trained with."""
        return has_tokenizer(self.folder)

    @property
    def fingerprint(self) -> str:
        """A value that changes with its weights."""
        if self.lora is None:
            return fingerprint(self.source)
        return hash_chunks((self.folder / name).read_bytes() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))

    def __str__(self) -> str:
        if self.lora is None:
            return f"{self.folder}: a whole model"
        kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in self.lora.layers))
        return printable(f"{self.folder}: a LoRA adapter of rank {self.lora.rank} on {kinds}", 400)


def find_checkpoint(name: str, option: str = "learned") -> Checkpoint:
    """Find a checkpoint that was trained elsewhere, and read what it is from its configuration and headers.

    Args:
        name: Its folder.
        option: The option that names it.

    Raises:
        ModelError: There is no such folder, it is not whole, or holds an adapter that is not plain LoRA.
    """
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise ModelError(
            f"{option}: {printable(name, _SHOWN)}: there is no such folder; name that of an adapter or model"
        )
    where = f"{option}: {folder}"
    try:
        if (folder / ADAPTER_CONFIG).exists():
            config = read_adapter_config(folder, where)
            base = config.get("base_model_name_or_path")
            base = base if isinstance(base, str) else ""
            return Checkpoint(folder, base, _lora_shape(folder, where, config), Record.find(folder), option)
        if not (folder / CONFIG).exists():
            raise ModelError(f"{where}: has neither {ADAPTER_CONFIG} nor {CONFIG}, so it is no model")
        read_shapes(weight_files(folder))
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}") from error
    record = Record.find(folder)
    return Checkpoint(folder, record.model if record else "", None, record, option)


def _lora_shape(folder: Path, where: str, config: Mapping[str, Any]) -> LoraShape:
    """Read a LoRA adapter's form, of its layers from the weights themselves."""
    kind = str(config["peft_type"]).upper()
    if kind != "LORA":
        raise _refusal(where, f"its adapter is of the kind {kind}, and LoRA alone is taken")
    variants = [name for name in _VARIANTS if config.get(name)]
    variants += ["bias"] if config.get("bias", "none") != "none" else []
    start = config.get("init_lora_weights", True)
    variants += ["init_lora_weights"] if start not in _PLAIN_STARTS else []
    if variants:
        value = printable(repr(config[variants[0]]), 60)
        raise _refusal(where, f"its adapter is not LoRA alone: {variants[0]} is {value}")
    alphas = config.get("alpha_pattern") or {}
    rank, alpha = (config.get(name, math.nan) for name in ("r", "lora_alpha"))
    numbers = [rank, alpha, *(alphas.values() if isinstance(alphas, dict) else [None])]
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers) or rank < 1:
        raise _refusal(where, f"{ADAPTER_CONFIG} lacks numbers for r, lora_alpha or alpha_pattern")
    if not all(len(key) <= _SHOWN and _HARMLESS.fullmatch(key) for key in alphas):
        raise _refusal(where, "alpha_pattern has expressions other than names of layers")
    shape = LoraShape(_layers(folder, where), int(rank), float(alpha), dict(alphas), bool(config.get("use_rslora")))
    if shape.ranks and not config.get("rank_pattern"):
        raise ModelError(
            f"{where}: {ADAPTER_CONFIG} says rank {shape.rank}, which its weights do not have; take both from one place"
        )
    return shape


def _layers(folder: Path, where: str) -> dict[str, tuple[int, int, int]]:
    shapes, sides = read_header(folder / ADAPTER_WEIGHTS), dict[str, dict[str, tuple[int, ...]]]()
    for tensor, shape in shapes.items():
        found = _LAYER.fullmatch(tensor)
        if not found or len(shape) != 2:
            raise _refusal(where, f"its adapter holds {printable(tensor, _SHOWN)}, which is not LoRA on a linear layer")
        sides.setdefault(found[1], {})[found[2]] = shape
    layers = {}
    for name, of_layer in sides.items():
        a, b = of_layer.get("A"), of_layer.get("B")
        if a is None or b is None or a[0] != b[1]:
            raise _refusal(where, f"its adapter lacks a part of {printable(name, _SHOWN)}, or the parts do not fit")
        layers[name] = a[1], a[0], b[0]
    if not layers:
        raise _refusal(where, "its adapter holds no weights")
    return layers


def _refusal(where: str, problem: str) -> ModelError:
    return ModelError(f"{where}: {problem}; {_MERGE}")
