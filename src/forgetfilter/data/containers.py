"""Find the containers that names stand for: files, folders, globs, saved and hub data sets, rows in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, first_line
from .encodings import find_encoding, unmarked_wide
from .hub import can_reach_hub, why_not
from .memory import splits_of, take_in
from .places import find_paths, is_saved
from .records import COMPRESSED, Container, Several, compression_of
from .signatures import compression_told, kind_of_text, told_by_bytes, told_by_name
from .splits import ALL, DEFAULT, Chosen, choose_splits
from .tables import Dataset, Parquet
from .text_files import LOOK, Csv, JsonArray, JsonLines, Text, TextContainer, TextOptions, read_start

if TYPE_CHECKING:
    import datasets

_TEXT_KINDS: dict[str, Callable[[Path, TextOptions], TextContainer]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".json": JsonLines,
    ".csv": Csv,
    ".tsv": Csv,
    ".txt": Text,
}
KINDS = (*_TEXT_KINDS, ".parquet")
_NAMES = ".jsonl, .json, .csv, .tsv, .txt (each also .gz, .zst, .xz or .bz2) or .parquet"
_SHOWN, _WIDTH = 5, 60


@dataclass(frozen=True)
class _Part:
    """One container of a data set, with the place of its file where there are several."""

    place: Path
    container: Container
    split: str | None = None


def open_container(
    source: str | Sequence[str],
    split: str = DEFAULT,
    options: TextOptions = LOOK,
) -> Container:
    """Open what one name stands for, or several: files, folders, globs, saved or hub data sets.

    Args:
        source: The names, in the order in which they are read.
        split: What to read of data sets that have splits, as `datasets` writes it, or `all`.
        options: What the user says about text files.

    Raises:
        InputError: There is no such thing, or it is of no kind that can be read.
    """
    sources = [source] if isinstance(source, str) else list(source)
    not_read: list[str] = []
    parts: dict[Path, list[_Part]] = {}
    for name in sources:
        for place, containers in _open(name, split, options, not_read):
            if place in parts:
                not_read.append(f"{place}: named more than once, read once")
            else:
                parts[place] = containers
    _check_split(parts, split, sources)
    name = sources[0] if len(sources) == 1 else _joined(sources)
    return _together(name, parts, tuple(dict.fromkeys(not_read)))


def from_memory(rows: Any, name: str, split: str = DEFAULT, on_row: Callable[[], None] = lambda: None) -> Container:
    """Open rows that a Python program already has (`memory.take_in`), or splits of them, as `--split` chooses them.

    Raises:
        InputError: It is nothing that holds rows, a column holds what no table can, or there is no such split.
    """
    splits = splits_of(rows)
    if splits is None:
        dataset = take_in(rows, name, on_row)
        if split in (DEFAULT, ALL):
            return Dataset(dataset, name)
        splits = {_own_split(dataset): dataset}
    elif len(splits) == 1 and split == DEFAULT:
        # A single split needs no name.
        return Dataset(take_in(next(iter(splits.values())), name, on_row), name)
    elif split in splits:
        # Others may be streams, which are read to their end.
        others = {other: rows for other, rows in splits.items() if hasattr(rows, "__len__")}
        splits = others | {split: take_in(splits[split], name, on_row)}
    else:
        splits = {other: take_in(rows, f"{name}, split {other}", on_row) for other, rows in splits.items()}
    chosen = choose_splits(splits, split, name)
    return _together(name, {Path(): _of_splits(Path(), name, chosen, as_folder=False)}, chosen.not_read)


def _joined(sources: Sequence[str]) -> str:
    names = [Path(source).name or source for source in sources]
    return " + ".join(names[:_SHOWN]) + (f" + {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _together(name: str, parts: Mapping[Path, Sequence[_Part]], not_read: tuple[str, ...]) -> Container:
    """Make one container of all parts."""
    all_parts = [part for of in parts.values() for part in of]
    if len(all_parts) == 1 and all_parts[0].split is None:
        all_parts[0].container.not_read = not_read
        return all_parts[0].container
    alone = len(parts) == 1
    common = Path() if alone else _common(list(parts))
    members: dict[str, Container] = {}
    splits: dict[str, list[str]] = {}
    for where, of in parts.items():
        for part in of:
            if part.split is None:
                place = _below(part.place, common)
            else:
                folder = "" if alone else _below(where, common)
                place = str(Path(folder) / part.split)
                splits.setdefault(folder, []).append(part.split)
            if place in members:
                raise InputError(f"{name}: two inputs would both be written as {place}; name one of them alone")
            members[place] = part.container
    several = Several(name, members, splits)
    several.not_read = not_read
    return several


def _below(place: Path, folder: Path) -> str:
    """Return the name of a place in a folder; a hub data set keeps its own."""
    return os.path.relpath(place, folder) if place.is_absolute() else str(place)


def _common(places: Sequence[Path]) -> Path:
    """Return the common folder of all places that are on this machine."""
    parents = [str(place.parent) for place in places if place.is_absolute()]
    return Path(os.path.commonpath(parents)) if parents else Path()


def _check_split(parts: Mapping[Path, Sequence[_Part]], split: str, sources: Sequence[str]) -> None:
    if split in (DEFAULT, ALL) or any(part.container.has_splits for of in parts.values() for part in of):
        return
    raise InputError(f"{sources[0]}: has no splits, so that --split {split[:_WIDTH]} means nothing; leave it out")


def _open(source: str, split: str, options: TextOptions, not_read: list[str]) -> Iterator[tuple[Path, list[_Part]]]:
    """Yield what a name stands for: places, and the containers that are there."""
    location = find_paths(source)
    if location is None:
        yield Path(source), _hub_dataset(source, split, not_read)
        return
    # Next to files of another kind, a .txt is a note about them.
    kinds = {_kind(path) for path in location.paths} - {""}
    notes = location.listed and kinds > {".txt"}
    left: list[str] = []
    opened = 0
    for path in location.paths:
        place = _absolute(path)
        if path.is_dir():
            yield place, _saved_dataset(path, split, not_read)
        elif location.listed and _kind(path) in (("", ".txt") if notes else ("",)):
            left.append(os.path.relpath(path, source) if Path(source).is_dir() else str(path))
            continue
        else:
            container = _file(path, options, empty=len(location.paths) > 1, listed=location.listed)
            if container is None:
                left.append(os.path.relpath(path, source) if Path(source).is_dir() else str(path))
                continue
            yield place, [_Part(place, container)]
        opened += 1
    if not opened and location.runs:
        raise InputError(f"{source}: holds a run, whose files are read where they are named, such as kept.jsonl")
    if not opened:
        content = f"only {', '.join(left[:_SHOWN])}" if left else "nothing"
        raise InputError(
            f"{source}: no data in this folder, {content}; expected files that end in {_NAMES}, "
            "or a folder that datasets' save_to_disk wrote"
        )
    if left:
        more = f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else ""
        not_read.append(f"{source}: not read, as no rows are in them: {', '.join(left[:_SHOWN])}{more}")
    if location.runs:
        not_read.append(f"{source}: not read, as they are runs: {', '.join(map(str, location.runs[:_SHOWN]))}")


def _absolute(path: Path) -> Path:
    """Return the absolute path in its shortest form, with links left in place; different names may mean one file."""
    return Path(os.path.normpath(path.expanduser().absolute()))


def _kind(path: Path) -> str:
    """Return the ending of a readable file's name, without its compression; empty for a file that cannot be read."""
    name = path.name.lower()
    ending = Path(name.removesuffix(compression_of(name))).suffix
    return ending if ending in KINDS else ""


def _file(path: Path, options: TextOptions, *, empty: bool, listed: bool) -> Container | None:
    """Make the container that reads a file; None for a listed file that is a single object, as settings are.

    Args:
        path: The file.
        options: What the user says about text files.
        empty: Whether it may have no rows, as one of several.
        listed: Whether it was found in a folder or by a glob, rather than named by the user.
    """
    if not path.exists():
        raise InputError(f"{path}: a link that leads nowhere; was the data itself not downloaded?")
    if not path.is_file():
        raise InputError(f"{path}: not a file that can be read twice; save it to a file first")
    with path.open("rb") as file:
        start = file.read(4096)
    kind, compression = _kind(path), compression_of(path.name)
    if not start and not (empty and kind in _TEXT_KINDS and not compression):
        raise InputError(f"{path}: the file is empty")
    signature = told_by_bytes(start)
    if not kind:
        raise _unknown(path, signature or told_by_name(path.name))
    if kind == ".parquet":
        if compression:
            raise InputError(f"{path}: parquet is packed inside already; unpack it and name it .parquet")
        return _parquet(path, signature)
    if compression:
        if compression_told(start) != compression:
            is_what = f"; this is {signature[0]}: {signature[1]}" if signature else ""
            packed = COMPRESSED[compression]
            raise InputError(f"{path}: not a whole {packed} file: it does not begin as {packed} does{is_what}")
        signature = told_by_bytes(read_start(path)[:4096])
    if signature and not (kind == ".txt" and "web page" in signature[0]):
        raise _cause(path, kind, signature)
    return _text_file(path, kind, options, listed=listed)


def _text_file(path: Path, kind: str, options: TextOptions, *, listed: bool) -> Container | None:
    """Make the container of a text file (see `_file`), by its content where its name leaves the format open."""
    start = read_start(path)
    wide = unmarked_wide(start[:4096]) if not options.encoding and not find_encoding(start, "")[1] else ""
    if wide:
        raise InputError(f"{path}: looks like UTF-16 without the mark that says so; name it: --encoding {wide}")
    container: TextContainer = _TEXT_KINDS[kind](path, options)
    text, whole = container.sample()
    if not whole:
        # What the last line holds cannot be told of a part of it.
        text = text[: text.rfind("\n") + 1] or text
    holds, first = kind_of_text(text), text.lstrip()[:1]
    if kind != ".json" and text.count("\r") > 1 and "\n" not in text:
        raise InputError(f"{path}: its lines end in a carriage return alone; save it with usual ends of lines")
    if kind == ".json":
        if first == "[":
            return JsonArray(path, options)
        if first and first != "{":
            raise InputError(
                f"{path}: expected a JSON array of objects or one object a line, found {first!r} at the start"
            )
        if first and not holds and _is_one_object(text, whole=whole):
            if listed:
                return None
            raise InputError(
                f"{path}: holds a single JSON object over many lines; expected an array of objects, or one a line"
            )
        return container
    objects = any(line.lstrip()[:1] == "{" for line in text.split("\n"))
    if kind in (".jsonl", ".ndjson") and holds != ".jsonl" and first and (first == "[" or not objects):
        is_what = "a JSON array; let its name end in .json" if holds == ".json" else _shown_line(text)
        raise InputError(f"{path}: expected one JSON object a line; this is {is_what}")
    if kind in (".csv", ".tsv", ".txt") and holds:
        what = "one JSON object a line" if holds == ".jsonl" else "a JSON array"
        raise InputError(f"{path}: this is {what}; let its name end in {holds}")
    return container


def _shown_line(text: str) -> str:
    line = next(line.strip() for line in text.splitlines() if line.strip())
    separated = any(one in line for one in ",;\t|")
    return f"{'perhaps csv, then let its name end in .csv' if separated else 'none'}; it begins with {line[:60]!r}"


def _is_one_object(text: str, *, whole: bool) -> bool:
    """Tell whether a text, or its beginning, begins with an object that goes on after its first line."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return (whole or "\n" in text) and lines[0].endswith((",", "{", "["))


def _parquet(path: Path, signature: tuple[str, str] | None) -> Container:
    try:
        return Parquet(path)
    except InputError as error:
        if signature and "parquet" not in signature[0]:
            raise InputError(f"{path}: not a parquet file: this is {signature[0]}; {signature[1]}") from error
        raise


def _cause(path: Path, kind: str, signature: tuple[str, str]) -> InputError:
    return InputError(f"{path}: its name says {kind}, but this is {signature[0]}; {signature[1]}")


def _unknown(path: Path, signature: tuple[str, str] | None) -> InputError:
    if signature is None:
        return InputError(f"{path}: cannot tell its format; let its name end in {_NAMES}")
    return InputError(f"{path}: cannot be read; this is {signature[0]}; {signature[1]}")


def _saved_dataset(path: Path, split: str, not_read: list[str]) -> list[_Part]:
    import datasets

    assert is_saved(path)
    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:
        # Folders that are damaged raise a wide family of errors.
        raise InputError(f"{path}: not a folder that datasets' save_to_disk wrote: {first_line(error)}") from error
    place = _absolute(path)
    if isinstance(loaded, datasets.Dataset):
        own = _own_split(loaded)
        if split in (DEFAULT, ALL, own):
            return [_Part(place, _marked(Dataset(loaded, str(path), as_folder=True)))]
        loaded = {own: loaded}
    chosen = choose_splits(loaded, split, str(path))
    not_read.extend(chosen.not_read)
    return _of_splits(place, str(path), chosen, as_folder=True)


def _own_split(rows: datasets.Dataset) -> str:
    return str(rows.split) if rows.split else DEFAULT


def _of_splits(place: Path, name: str, chosen: Chosen, *, as_folder: bool) -> list[_Part]:
    if not chosen.together:
        (rows,) = chosen.splits.values()
        container = _marked(Dataset(rows, name, as_folder=as_folder))
        ending = container.suffix
        return [_Part(place.with_name(place.name + ending) if ending and place.name else place, container)]
    return [
        _Part(place, _marked(Dataset(rows, f"{name}, split {split}", as_folder=True)), split)
        for split, rows in chosen.splits.items()
    ]


def _marked(container: Dataset) -> Dataset:
    """Mark a container as one to which --split applies, and return it."""
    container.has_splits = True
    return container


def _hub_dataset(name: str, split: str, not_read: list[str]) -> list[_Part]:
    if name.count("/") != 1 or Path(name).suffix or name.startswith((".", "~", "/")):
        raise InputError(f"{name}: there is no such file or folder")
    import datasets
    import huggingface_hub

    huggingface_hub.utils.logging.set_verbosity_error()
    reached = can_reach_hub()
    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:
        # The hub's client raises a wide family of errors; whichever it is, the user cannot have this data set.
        why = first_line(error) if reached else f"{why_not()}, and its cache does not have it"
        raise InputError(f"{name}: there is no such file, and the hub does not give this data set: {why}") from error
    chosen = choose_splits(loaded, split, name)
    not_read.extend(chosen.not_read)
    return _of_splits(Path(name), name, chosen, as_folder=False)
