"""Read what the header of a GGUF file tells, without its numbers, and check that its parts belong together."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import regex

from ..errors import ModelError

MAGIC = b"GGUF"
# By the number that a type has in the file; texts and lists are read on their own.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_MOST_DIMENSIONS = 4
_BLOCK = regex.compile(rb"(?:^|\.)blk\.(\d{1,6})\.")
_AGAIN = "download it again"


def check_gguf(file: Path) -> None:
    """Refuse a GGUF file that is cut short, or has not the layers that it tells of.

    Raises:
        ModelError: Says what is wrong.
    """
    with file.open("rb") as opened:
        if opened.read(4) != MAGIC:
            raise ModelError(f"{file}: not a GGUF file, whatever its name says")
        try:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                counts, names = _Header(data).read()
        except (struct.error, ValueError, OverflowError) as error:
            raise ModelError(
                f"{file}: cannot load this GGUF file: its header is damaged, or the file is cut short; {_AGAIN}"
            ) from error
    blocks = {int(found[1]) for name in names if (found := _BLOCK.search(name))}
    if counts and len(blocks) != counts[0]:
        raise ModelError(
            f"{file}: cannot load this GGUF file: it tells of {counts[0]:,} layers and holds {len(blocks):,}; {_AGAIN}"
        )


class _Header:
    """Goes through the header of a file from its beginning to its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, len(MAGIC)

    def read(self) -> tuple[list[int], list[bytes]]:
        """Return the numbers of layers that the file tells of, and the names of its tensors.

        Raises:
            ValueError, struct.error: It ends too early, or has what no header has.
        """
        version, tensors, values = self._numbers("IQQ")
        if not 2 <= version <= 3:
            raise ValueError(version)
        counts = []
        for _ in range(values):
            name, value = self._text(), self._value(self._numbers("I")[0])
            if name.endswith(b".block_count") and isinstance(value, int):
                counts.append(value)
        names, begins = [], []
        for _ in range(tensors):
            names.append(self._text())
            (dimensions,) = self._numbers("I")
            if dimensions > _MOST_DIMENSIONS:
                raise ValueError(dimensions)
            *_, begin = self._numbers("Q" * dimensions + "IQ")
            begins.append(begin)
        if self._at + max(begins, default=0) >= len(self._data):
            raise ValueError(self._at)
        return counts, names

    def _numbers(self, format: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{format}", self._data, self._at)
        self._at += struct.calcsize(f"<{format}")
        return found

    def _text(self) -> bytes:
        (length,) = self._numbers("Q")
        return self._skip(length)

    def _skip(self, length: int) -> bytes:
        if length > len(self._data) - self._at:
            raise ValueError(length)
        self._at += length
        return self._data[self._at - length : self._at]

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind in _SCALARS:
            return self._numbers(_SCALARS[kind])[0]
        if kind != _LIST:
            raise ValueError(kind)
        inner, count = self._numbers("IQ")
        if inner in _SCALARS:
            return self._skip(count * struct.calcsize(f"<{_SCALARS[inner]}"))
        if inner != _TEXT:
            raise ValueError(inner)
        for _ in range(count):
            self._text()
        return None
