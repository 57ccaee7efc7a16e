"""Find the container that a name stands for: a file, a saved datasets folder, a hub data set, rows in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import InputError
from .memory import splits_of, take_in
from .records import Container, open_bytes
from .tables import Dataset, Parquet
from .text_files import Csv, JsonArray, JsonLines

if TYPE_CHECKING:
    import datasets


def open_container(source: str, split: str) -> Container:
    """Find out what `source` is: a file, a saved datasets folder, or a data set on the hub.

    Raises:
        InputError: There is no such thing, or it is of no kind that can be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _saved_dataset(path, split)
    if path.exists():
        return _file(path)
    if source.count("/") == 1 and not path.suffix and not source.startswith((".", "~", "/")):
        return _hub_dataset(source, split)
    raise InputError(f"{source}: there is no such file or folder")


def from_memory(rows: Any, name: str, split: str = "train", on_row: Callable[[], None] = lambda: None) -> Container:
    """Rows that a Python program already has: see `memory.take_in`; of a data set with several splits, one of them.

    Raises:
        InputError: It is nothing that holds rows, or a column holds what no table can.
    """
    splits = splits_of(rows)
    if splits is not None:
        # The only split that there is needs no name.
        rows = next(iter(splits.values())) if len(splits) == 1 and split == "train" else _split(splits, split, name)
    return Dataset(take_in(rows, name, on_row), name)


def _file(path: Path) -> Container:
    name = path.name.lower().removesuffix(".gz")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if name.endswith(".parquet"):
        return Parquet(path)
    if name.endswith(".csv"):
        return Csv(path)
    if name.endswith((".jsonl", ".ndjson")):
        return JsonLines(path)
    if name.endswith(".json"):
        # Many files called .json hold one object a line; the first character tells.
        with open_bytes(path, "rb") as file:
            first = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return JsonLines(path) if first == b"{" else _json_array(path, first)
    raise InputError(f"{path}: cannot tell its format; name it .jsonl, .jsonl.gz, .json, .csv or .parquet")


def _json_array(path: Path, first: bytes) -> Container:
    if first != b"[":
        raise InputError(f"{path}: expected a JSON array of objects or one object a line, found {first!r} at the start")
    return JsonArray(path)


def _saved_dataset(path: Path, split: str) -> Container:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a folder that datasets' save_to_disk wrote") from error
    return Dataset(_split(found, split, str(path)), str(path), suffix="")


def _hub_dataset(name: str, split: str) -> Container:
    import datasets
    import huggingface_hub

    huggingface_hub.utils.logging.set_verbosity_error()
    try:
        return Dataset(_split(datasets.load_dataset(name), split, name), name)
    except InputError:
        raise
    except Exception as error:
        # The hub's client raises a wide family of errors; whichever it is, the user cannot have this data set.
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{name}: there is no such file, and the hub does not give this data set: {problem}"
        ) from error


def _split(found: Any, split: str, name: str) -> datasets.Dataset:
    import datasets

    if isinstance(found, datasets.Dataset):
        return found
    if split not in found:
        raise InputError(f"{name}: has no split '{split}'; it has {', '.join(found)}")
    chosen: datasets.Dataset = found[split]
    return chosen
