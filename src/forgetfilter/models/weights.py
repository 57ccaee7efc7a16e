"""Check the files of a model's weights: that they are safetensors, complete, and hold what the model needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regex
import torch

from ..errors import ModelError

_WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What checkpoints hold for other uses than reading text, and buffers that older versions of a model's code saved.
_OTHER_USES = regex.compile(
    r"(^|\.)(mtp|vision\w*|visual|audio\w*|speech\w*|multi_modal_projector|embed_vision|embed_audio|v_head)(\.|$)"
    r"|rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$|\.rotary_emb\.(cos|sin)_cached$"
)
_SHOWN = 3


def weight_files(folder: Path) -> list[Path]:
    """List the weight files of a model folder.

    Raises:
        ModelError: An index names something that is not a safetensors file in the folder.
    """
    index = folder / INDEX
    if index.is_file():
        shards = [folder / name for name in index_files(index, str(folder))]
        lacking = [shard.name for shard in shards if not shard.is_file()]
        if lacking and not (folder / _WHOLE).is_file():
            raise ModelError(f"{folder}: {INDEX} names {lacking[0]}, which is not there; download the model again")
    if (folder / _WHOLE).is_file():
        return [folder / _WHOLE]
    return shards if index.is_file() else sorted(folder.glob("*.safetensors"))


def index_files(index: Path, where: str) -> list[str]:
    """List the files that an index of weights names.

    Raises:
        ModelError: It names a file that is not a safetensors file beside it; loading another kind might run code.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = sorted({str(name) for name in names})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{where}: {INDEX} is not an index of weights; download the model again") from error
    for name in files:
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise ModelError(f"{where}: {INDEX} names '{name}', but only .safetensors files beside it are loaded")
    return files


def count_weights(file: Path) -> int:
    """Count the numbers that a safetensors file holds, from its header alone.

    Raises:
        ModelError: It is not a safetensors file, or is cut short.
    """
    there = file.stat().st_size
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > there:
                raise ValueError(size)
            header = json.loads(opened.read(size))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        promised = 8 + size + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
        numbers = sum(int(torch.Size(tensor["shape"]).numel()) for tensor in tensors)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(f"{file}: not a safetensors file, or damaged; download the model again") from error
    if there != promised:
        raise ModelError(f"{file}: has {there:,} bytes, but its header tells of {promised:,}; download the model again")
    return numbers


def check_complete(info: Mapping[str, Any], where: str) -> None:
    """Refuse a model if weights were missing or left over when it was loaded.

    Args:
        info: What transformers reports about the loading; it leaves out tied weights and those known to be unused.
        where: What to call the model.

    Raises:
        ModelError: Names some of them.
    """
    missing = sorted(info["missing_keys"])
    left = sorted(name for name in info["unexpected_keys"] if not _OTHER_USES.search(name))
    if missing or left:
        told = [f"lack {_some(missing)}"] if missing else []
        told += [f"hold {_some(left)}, which this model has no place for"] if left else []
        raise ModelError(
            f"{where}: its weights {' and '.join(told)}; config.json and the weights do not belong together, "
            "so download or save the model again"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
