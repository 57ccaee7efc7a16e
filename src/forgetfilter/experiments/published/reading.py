"""Reads published files, folders of files or hub data sets row by row, and reports what is wrong with a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ...data.chats import FieldError, describe, field_of, text_of
from ...data.containers import open_container
from ...data.layouts import Row
from ...data.records import Container
from ...errors import BadRow, InputError

T = TypeVar("T")

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


def open_files(place: str, split: str, open_file: Callable[[str, str], Container] = open_container) -> list[Container]:
    """Open the containers at a place: a file, all files of a folder by name, a saved data set or one on the hub.

    Raises:
        InputError: There is nothing, or nothing readable.
    """
    path = Path(place).expanduser()
    if not path.is_dir() or any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        return [open_file(place, split)]
    files = sorted(file for file in path.iterdir() if file.name.lower().removesuffix(".gz").endswith(_SUFFIXES))
    if not files:
        raise InputError(f"{place}: no data in this folder itself; expected files that end in {', '.join(_SUFFIXES)}")
    return [open_file(str(file), split) for file in files]


def read_each(containers: Iterable[Container], layout: str, read: Callable[[Row], Iterable[T]]) -> Iterator[T]:
    """Apply `read` to every row, and yield the results.

    Args:
        containers: The files.
        layout: The name of the published layout, for messages.
        read: Reads one row; raises FieldError if the row is not as published.

    Raises:
        InputError: A row is not as published; the message names the file, the row and the field.
    """
    for container in containers:
        count = 0
        for row, record in enumerate(container.records()):
            count += 1
            if record.fields is None:
                found, expected = record.problem or ("nothing", "a row")
                raise _not_as_published(container, layout, BadRow(row, record.line, None, found, expected))
            try:
                examples = list(read(record.fields))
            except FieldError as error:
                bad = BadRow(row, record.line, error.field, error.found, error.expected)
                raise _not_as_published(container, layout, bad) from error
            yield from examples
        if not count:
            raise InputError(f"{container.name}: there are no rows in it")


def _not_as_published(container: Container, layout: str, bad: BadRow) -> InputError:
    return InputError(f"{container.name}: {bad}. This file is not {layout} as published")


def text_field(row: Row, column: str, *, filled: bool = True) -> str:
    """Read the text in a column, without surrounding space."""
    return text_of(field_of(row, column), column, filled=filled).strip()


def choice_field(row: Row, column: str, choices: Iterable[Any]) -> Any:
    """Read a column's value, which must be one of some choices."""
    value, known = field_of(row, column), list(choices)
    if isinstance(value, bool) or value not in known:
        raise FieldError(column, describe(value), f"one of {', '.join(map(str, known))}")
    # A table may hold 2.0 for 2.
    return known[known.index(value)]


def list_field(row: Row, column: str) -> list[Any]:
    """Read the list in a column."""
    value = field_of(row, column)
    if not isinstance(value, list):
        raise FieldError(column, describe(value), "a list")
    return value


def object_field(row: Row, column: str) -> Row:
    """Read the object in a column."""
    value = field_of(row, column)
    if not isinstance(value, dict):
        raise FieldError(column, describe(value), "an object")
    return value
