"""Define what every container of rows has in common."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import pyarrow as pa

from ..errors import InputError

T = TypeVar("T")

BATCH = 1000
# Tokenising takes some 250 bytes a character at worst.
_BATCH_CHARACTERS = 1 << 22

# No row is longer, in bytes, so that memory stays bounded whatever a file holds.
LONGEST_ROW = 1 << 26

# The endings of compressed files' names, and what such files are called.
COMPRESSED = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}


@dataclass(frozen=True)
class Record:
    """One row in the form in which its container has it.

    Attributes:
        fields: Column to value; None where the row cannot be parsed.
        problem: Why it cannot be parsed: what was found, and what was expected.
        line: Line in the file, counted from 1; None in table containers.
        raw: The row's own bytes; None in table containers.
        source: Which of several containers it is from, counted from 0.
    """

    fields: Mapping[str, Any] | None
    problem: tuple[str, str] | None = None
    line: int | None = None
    raw: bytes | None = None
    source: int = 0


@dataclass(frozen=True)
class TextForm:
    """What is needed to parse a text row's own bytes into columns.

    Attributes:
        kind: How the name of such a file ends: `.jsonl`, `.json`, `.csv` or `.txt`.
        encoding: The encoding of its text, by Python's name.
        delimiter: The character between the values of a csv row.
        quoted: Whether quotes may surround the values.
    """

    kind: str
    encoding: str = "utf-8"
    delimiter: str = ","
    quoted: bool = True


class Container(ABC):
    """A data set that can be read as a stream of rows.

    Attributes:
        name: What to call it in messages.
        suffix: How the name of a file in this container ends; empty where it is written as a folder.
        head, separator, tail: What a text container writes before, between and after its rows.
        form: How the rows of a text container are read; None in table containers.
        not_read: What lies at the same place and is not read, a line each.
        has_splits: Whether --split chooses which of its rows are read.
    """

    suffix: str
    head, separator, tail = b"", b"", b""
    form: TextForm | None = None
    not_read: tuple[str, ...] = ()
    has_splits = False

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def members(self) -> Sequence[Container]:
        """Return the containers that this one consists of; itself where it is a single one."""
        return [self]

    @property
    def note(self) -> str:
        """Say how it is read, as far as that was found by looking; empty where there is nothing to say."""
        return ""

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Yield all rows, in order.

        Raises:
            InputError: The container as a whole cannot be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash the content; the same content has the same hash wherever it lies."""


class Several(Container):
    """Containers that are read one after the other, and written as files of a folder.

    Attributes:
        places: The name of each one's file in that folder.
        splits: Folders that are saved as a DatasetDict, each with the names of its splits; "" is the whole.
    """

    suffix = ""

    def __init__(self, name: str, members: Mapping[str, Container], splits: Mapping[str, Sequence[str]]) -> None:
        super().__init__(name)
        self._members = list(members.values())
        self.places = list(members)
        self.splits = {folder: list(names) for folder, names in splits.items()}

    @property
    def members(self) -> Sequence[Container]:
        return self._members

    @property
    def note(self) -> str:
        return "; ".join(dict.fromkeys(member.note for member in self._members if member.note))

    def records(self) -> Iterator[Record]:
        for source, member in enumerate(self._members):
            for record in member.records():
                yield replace(record, source=source)

    def fingerprint(self) -> str:
        pairs = zip(self.places, self._members, strict=True)
        return hash_chunks(f"{place}\0{member.fingerprint()}\n".encode() for place, member in pairs)


def compression_of(name: str) -> str:
    """Return the ending of a compressed file's name, among `COMPRESSED`; empty where it is not compressed."""
    ending = Path(name.lower()).suffix
    return ending if ending in COMPRESSED else ""


def open_bytes(path: Path, mode: str) -> IO[bytes]:
    """Open a file of bytes, through the compression that its name ends in; the same bytes give the same file."""
    compression = compression_of(path.name)
    if compression == ".gz":
        # Without a name and a time in its header, the same rows give the same file.
        file = cast(io.FileIO, path.open(mode))
        packed = gzip.GzipFile("", mode, fileobj=file, mtime=0)
        # Which closes with it.
        packed.myfileobj = file
        return cast(IO[bytes], packed)
    if compression == ".xz":
        return cast(IO[bytes], lzma.open(path, mode))
    if compression == ".bz2":
        return cast(IO[bytes], bz2.open(path, mode))
    if compression == ".zst":
        file = pa.OSFile(str(path), mode)
        if "w" in mode:
            return cast(IO[bytes], pa.CompressedOutputStream(file, "zstd"))
        return cast(IO[bytes], io.BufferedReader(pa.CompressedInputStream(file, "zstd")))
    return path.open(mode)


def in_batches(rows: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield rows in lists of at most BATCH, shorter where large rows would fill the memory.

    Args:
        rows: Any rows.
        size: Characters or bytes of a row, roughly.
    """
    batch: list[T] = []
    held = 0
    for row in rows:
        batch.append(row)
        held += size(row)
        if len(batch) == BATCH or held >= _BATCH_CHARACTERS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def check_length(size: int, name: str, place: str) -> None:
    """Refuse a row that is longer than any may be.

    Args:
        size: Its length in bytes, or what is read of it so far.
        name: What to call its file in messages.
        place: Where in it the row is, such as `line 7`.

    Raises:
        InputError: It is longer than `LONGEST_ROW`.
    """
    if size > LONGEST_ROW:
        raise InputError(
            f"{name}: {place}: a row of more than {LONGEST_ROW >> 20} MB, the most that a row may have; "
            "cut it into several, or leave it out"
        )


def is_valid_text(text: str) -> bool:
    """Tell whether a name can be stored and shown; half characters, which bytes that are not UTF-8 leave, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def hash_chunks(chunks: Iterable[bytes]) -> str:
    """Hash bytes, one chunk after the other."""
    digest = blake2b(digest_size=16)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
