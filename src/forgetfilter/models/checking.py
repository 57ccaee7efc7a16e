"""Check the small files of a model folder before any library reads them. Needs no torch.

A library that meets a damaged file tells of its own insides, if it ends at all; what is said here names the file, what
is in it, and what should be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import regex

from ..console import printable
from ..errors import ModelError

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
GENERATION_CONFIG, CHAT_TEMPLATE = "generation_config.json", "chat_template.jinja"
_AGAIN = "download or save the model again"
# Far more than any real one has: a tokenizer's tables have a place for each number up to the largest.
_MOST_TOKENS = 1 << 24
_MOST_POSITIONS = 1 << 27
_MOST_MODULES = 1 << 20
_LARGEST_FILE = 1 << 30

# Numbers of a configuration that say how many modules a model has, how wide they are, and how long a text may be.
_LAYERS = regex.compile(r"^((n|num)_(\w*_)?(layers?|blocks?)|(en|de)coder_layers)$")
_EXPERTS = regex.compile(r"^(\w*_)?(n|num)_(\w*_)?experts$")
_HEADS = regex.compile(r"^(\w*_)?(n|num)_(\w*_)?heads?$")
_WIDTHS = regex.compile(
    r"^((hidden|vocab|intermediate|embedding|ffn_hidden|moe_intermediate)_size|head_dim|n_embd|d_model)$"
)
_POSITIONS = regex.compile(r"^(max_position_embeddings|max_seq_len|n_positions|n_ctx)$")
# Of experts, and of layers of some kinds, a model may have none.
_NEVER_ZERO = {
    *("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"),
    *("n_layer", "n_head", "n_embd", "d_model"),
}

Shapes = Mapping[str, tuple[int, ...]]
Holds = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return type(value) is int and value < _MOST_TOKENS


def _are_ids(value: Any) -> bool:
    return _is_id(value) or (isinstance(value, list) and all(map(_is_id, value)))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_token(value: Any) -> bool:
    return _is_text(value) or _is_object(value)


def _are_templates(value: Any) -> bool:
    if _is_text(value):
        return True
    each = value if isinstance(value, list) else [None]
    return all(_is_object(one) and _is_text(one.get("name")) and _is_text(one.get("template")) for one in each)


def _are_added(value: Any) -> bool:
    each = value if isinstance(value, list) else [None]
    return all(_is_object(one) and _is_id(one.get("id")) and one["id"] >= 0 for one in each)


def _are_numbered(value: Any) -> bool:
    return all(_is_id(number) and number >= 0 for number in value.values())


def _has_vocabulary(value: Any) -> bool:
    """Whether a tokenizer's model has a vocabulary: numbers by text, or texts with a score."""
    vocabulary = value.get("vocab") if _is_object(value) else None
    numbered = _is_object(vocabulary) and _are_numbered(vocabulary)
    return bool(vocabulary) and (numbered or isinstance(vocabulary, list))


# Stands for all of a file, in place of a key.
_ALL = ""
_IDS = ("the number of a token, or a list of them", _are_ids)
_TOKEN = ("a token", _is_token)
_TOKENS: dict[str, tuple[str, Holds]] = {
    f"{name}_token": _TOKEN for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")
}
# By file and key, what is expected. Nothing, and no such key, may always be.
_EXPECTED: dict[str, dict[str, tuple[str, Holds]]] = {
    CONFIG: {
        "model_type": ("a text", _is_text),
        "architectures": ("a list of texts", _are_texts),
        "auto_map": ("an object", _is_object),
        "text_config": ("an object", _is_object),
        "quantization_config": ("an object", _is_object),
        "dtype": ("a text", _is_token),
        "torch_dtype": ("a text", _is_token),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _IDS),
    },
    GENERATION_CONFIG: dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _IDS),
    TOKENIZER: {
        "model": (f"a vocabulary, with numbers from 0 to {_MOST_TOKENS:,}", _has_vocabulary),
        "added_tokens": (f"a list of tokens, with numbers from 0 to {_MOST_TOKENS:,}", _are_added),
    },
    TOKENIZER_CONFIG: {
        **_TOKENS,
        "tokenizer_class": ("a text", _is_text),
        "model_max_length": ("a number", _is_number),
        "chat_template": ("a template, or a list of them with their names", _are_templates),
        "added_tokens_decoder": ("an object", _is_object),
    },
    "special_tokens_map.json": _TOKENS,
    "added_tokens.json": {_ALL: ("an object of numbers of tokens", _are_numbered)},
    "chat_template.json": {"chat_template": ("a template", _are_templates)},
    "vocab.json": {_ALL: ("an object of numbers of tokens", _are_numbered)},
}
_NEEDED = {CONFIG: ("model_type",), TOKENIZER: ("model", "added_tokens")}
_TOKENIZER_FILES = tuple(name for name in _EXPECTED if name not in (CONFIG, GENERATION_CONFIG))


def read_model_config(folder: Path, shapes: Shapes | None) -> dict[str, Any]:
    """Read a model's configuration and check it, by itself and against the tensors of its weights.

    Args:
        folder: The model.
        shapes: Shapes of its weights, by name; None if they are not there yet.

    Raises:
        ModelError: A file is not what it should be, or tells of a model far larger than the weights.
    """
    config = _read(folder / CONFIG, "configuration")
    _read(folder / GENERATION_CONFIG, "configuration")
    for name, value in _numbers(config):
        problem = _problem(name.rpartition(".")[2], value, shapes)
        if problem:
            shown = printable(f"{name} is {value!r}", 120)
            raise ModelError(f"{folder / CONFIG}: cannot load this configuration: {shown}, {problem}; {_AGAIN}")
    return config


def check_tokenizer_files(folder: Path) -> None:
    """Check the files of a tokenizer.

    Raises:
        ModelError: One is not what it should be.
    """
    for name in _TOKENIZER_FILES:
        _read(folder / name, "tokenizer")
    templates = [folder / CHAT_TEMPLATE, *sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    for file in templates:
        if file.exists():
            _text(file, "chat template")


def _text(file: Path, what: str) -> str:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise ModelError(f"{file}: cannot load this {what}: the file has {file.stat().st_size:,} bytes; {_AGAIN}")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: cannot load this {what}: byte {error.start} is not of UTF-8; {_AGAIN}") from error
    except OSError as error:
        raise ModelError(f"{file}: cannot load this {what}: {error.strerror or error}; {_AGAIN}") from error


def _read(file: Path, what: str) -> dict[str, Any]:
    """Read an object from a file, or nothing where there is no such file."""
    if not file.exists():
        return {}
    text = _text(file, what)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        problem = "the file is empty" if not text.strip() else f"line {error.lineno} is not JSON ({error.msg})"
        raise ModelError(f"{file}: cannot load this {what}: {problem}; {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot load this {what}: its JSON nests without end; {_AGAIN}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: cannot load this {what}: expected an object, found {_kind(found)}; {_AGAIN}")
    for key, (words, holds) in _EXPECTED[file.name].items():
        value = found if key == _ALL else found.get(key)
        if value is None and key not in _NEEDED.get(file.name, ()):
            continue
        if not holds(value):
            named = f"'{key}'" if key else "the file"
            problem = f"{_found(named, value)}expected {words}"
            raise ModelError(f"{file}: cannot load this {what}: {problem}; {_AGAIN}")
    return found


def _found(named: str, value: Any) -> str:
    if value is None:
        return f"{named} is missing, "
    return f"for {named} found {_kind(value)}, "


def _kind(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return printable(repr(value), 60)
    return "another list" if isinstance(value, list) else "another object"


def _numbers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List what a configuration, and those within it, give for its numbers."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield prefix + name, value


def _problem(name: str, value: Any, shapes: Shapes | None) -> str:
    """Say what is wrong with a number of a configuration; empty if nothing is."""
    named = next((kind for kind in (_LAYERS, _EXPERTS, _HEADS, _WIDTHS, _POSITIONS) if kind.match(name)), None)
    if named is None:
        return ""
    if isinstance(value, str) or value % 1 != 0:
        return "expected a whole number"
    if value < 0 or (value == 0 and name in _NEVER_ZERO):
        return "expected a positive number"
    if named is _POSITIONS:
        return f"expected at most {_MOST_POSITIONS:,}" if value > _MOST_POSITIONS else ""
    if shapes is None:
        return f"expected at most {_MOST_MODULES:,}" if value > _MOST_MODULES else ""
    # Every layer has a tensor of its own; experts may share one, and each is at least one number.
    numbers = sum(map(math.prod, shapes.values()))
    most = len(shapes) if named is _LAYERS else numbers
    return f"but its weights are {len(shapes):,} tensors with {numbers:,} numbers" if value > most else ""
