"""Check the files of a model's weights: that they are safetensors, complete, and hold what the model needs.

Only their headers are read, and torch is not needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import regex

from ..console import printable
from ..errors import ModelError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "download the model again"
# The limit of the safetensors library.
_LONGEST_HEADER = 100_000_000
_MOST_DIMENSIONS = 64
# Bits of a number. The few that have fewer are packed, and a shape counts what is packed.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
# What stands in the place of weights that were never fetched, or are of another kind, by how it begins.
_INSTEAD = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with 'git lfs pull'",
    b"<": "a web page",
    b"\x80": "a pickle, which is not loaded as it might run code",
    b"PK": "a pickle of PyTorch, which is not loaded as it might run code",
    b"GGUF": "a GGUF file; name it .gguf and pass it by itself",
}
# What checkpoints hold for other uses than reading text, and buffers that older versions of a model's code saved.
_OTHER_USES = regex.compile(
    r"(^|\.)(mtp|vision\w*|visual|audio\w*|speech\w*|multi_modal_projector|embed_vision|embed_audio|v_head)(\.|$)"
    r"|rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$|\.rotary_emb\.(cos|sin)_cached$"
)
_SHOWN = 3
_APART = "config.json and the weights do not belong together, so download or save the model again"


def weight_files(folder: Path) -> list[Path]:
    """List the weight files of a model folder.

    Raises:
        ModelError: There are none that are whole, or an index names something that is not a safetensors file beside it.
    """
    index, whole = folder / INDEX, folder / WHOLE
    shards = [folder / name for name in index_files(index, str(folder))] if index.is_file() else []
    if whole.is_file():
        return [whole]
    if not shards:
        raise ModelError(f"{folder}: has neither {WHOLE} nor {INDEX}, which names the parts of larger ones; {_AGAIN}")
    lacking = [shard.name for shard in shards if not shard.is_file()]
    if lacking:
        raise ModelError(f"{folder}: {INDEX} names {_shown(lacking[0])}, which is not there; {_AGAIN}")
    return shards


def index_files(index: Path, where: str) -> list[str]:
    """List the files that an index of weights names.

    Raises:
        ModelError: It names a file that is not a safetensors file beside it; loading another kind might run code.
    """
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
        files = sorted({str(name) for name in told["weight_map"].values()})
        # transformers loads no model without it.
        whole = bool(files) and isinstance(told["metadata"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{where}: {INDEX} is not an index of weights; {_AGAIN}") from error
    for name in files:
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise ModelError(
                f"{where}: {INDEX} names '{_shown(name)}', but only .safetensors files beside it are loaded"
            )
    if not whole:
        raise ModelError(f"{where}: {INDEX} is not an index of weights: it names no file, or has no metadata; {_AGAIN}")
    return files


def read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of a safetensors file's tensors, by name.

    Raises:
        ModelError: It is not a safetensors file, is cut short, or its header and its data do not belong together.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            began = opened.read(8)
            length = int.from_bytes(began, "little")
            if len(began) < 8 or not 1 < length <= min(size - 8, _LONGEST_HEADER):
                raise _refusal(file, f"not a safetensors file, or damaged: {_instead(began + opened.read(40))}")
            header = json.loads(opened.read(length))
    except OSError as error:
        raise _refusal(file, f"{error.strerror or error}; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise _refusal(file, f"not a safetensors file, or damaged: its header is not JSON; {_AGAIN}") from error
    if not isinstance(header, dict):
        raise _refusal(file, f"not a safetensors file, or damaged: its header is not a JSON object; {_AGAIN}")
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    places = sorted(_place(file, name, tensor) for name, tensor in tensors.items())
    promised = 8 + length + max((end for _, end in places), default=0)
    if size != promised:
        raise _refusal(file, f"has {size:,} bytes, but its header tells of {promised:,}; {_AGAIN}")
    if any(start != end for (_, end), (start, _) in pairwise([(0, 0), *places])):
        raise _refusal(file, f"by its header, tensors overlap or leave gaps; {_AGAIN}")
    return {name: tuple(tensor["shape"]) for name, tensor in tensors.items()}


def _refusal(file: Path, problem: str) -> ModelError:
    return ModelError(f"{file}: cannot load this model: {problem}")


def _instead(began: bytes) -> str:
    if not began:
        return f"the file is empty; {_AGAIN}"
    kind = next((what for start, what in _INSTEAD.items() if began.startswith(start)), "")
    return f"it is {kind}" if kind else f"it does not begin with the length of a header; {_AGAIN}"


def _place(file: Path, name: str, tensor: Any) -> tuple[int, int]:
    """Return where in the data a tensor begins and ends, in bytes, once its parts belong together."""
    told = tensor if isinstance(tensor, dict) else {}
    shape, offsets, bits = told.get("shape"), told.get("data_offsets"), _BITS.get(str(told.get("dtype")))
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS or not _are_counts(offsets) or len(offsets) != 2:
        raise _refusal(file, f"its header does not say what {_shown(name)} is; {_AGAIN}")
    if bits is None:
        raise _refusal(file, f"{_shown(name)} is of an unknown type, {_shown(told.get('dtype'))}; {_AGAIN}")
    start, end = offsets
    if math.prod(shape) * bits != (end - start) * 8:
        raise _refusal(file, f"by its header, {_shown(name)} does not fill its place; {_AGAIN}")
    return start, end


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def read_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Read the shapes of all tensors in some safetensors files, by name.

    Raises:
        ModelError: As `read_header`.
    """
    return {name: shape for file in files for name, shape in read_header(file).items()}


def check_complete(info: Mapping[str, Any], where: str) -> None:
    """Refuse a model if weights were missing, left over or of another shape when it was loaded.

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
        raise ModelError(f"{where}: its weights {' and '.join(told)}; {_APART}")
    other = sorted(info["mismatched_keys"])
    if other:
        shapes = [f"{name} ({_times(there)}, by config.json {_times(needed)})" for name, there, needed in other]
        raise ModelError(
            f"{where}: cannot load this model: its weights have other shapes than it needs: {_some(shapes)}; {_APART}"
        )
    if info["error_msgs"]:
        raise ModelError(f"{where}: cannot load this model: its weights cannot be put together; {_APART}")


def check_classes(info: Mapping[str, Any], where: str) -> None:
    """Refuse a model that is to classify if it has no trained classes; weights that are left over do not matter.

    Args:
        info, where: As of `check_complete`.

    Raises:
        ModelError: Names what is missing, or of another shape.
    """
    if info["missing_keys"]:
        raise ModelError(f"{where}: not a text classifier: its weights lack {sorted(info['missing_keys'])[0]}")
    check_complete({**info, "unexpected_keys": ()}, where)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(_shown, names[:_SHOWN])) + more


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _shown(text: Any) -> str:
    return printable(str(text), 120)
