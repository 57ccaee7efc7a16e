"""The values of a JSON array, one after the other, of a text that is read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputError
from .records import check_length

_BLANK = re.compile(r"[ \t\r\n]*")
# A value that goes on beyond what was read of it ends in the middle of something so long at most: an escaped pair.
_LONGEST_PART, _LONGEST_EXPONENT = 12, 3


class ArrayReader:
    """Reads an array whose values need not fit into memory together.

    Args:
        pieces: The text, which begins with the array.
        name: What to call its file in messages.
    """

    def __init__(self, pieces: Iterator[str], name: str) -> None:
        self._pieces, self._name = pieces, name
        self._text, self._position = "", 0
        # The line of a place in the text up to which line ends were counted.
        self._line, self._counted = 1, 0

    def values(self) -> Iterator[tuple[Any, str, int]]:
        """Read each value: what it is, its own text, and its line.

        Raises:
            InputError: The text is no whole array (a comma after its last value is taken), there is something behind
                it, or a value is longer than a row may be.
        """
        self._next_sign()
        self._position += 1
        while self._next_sign() != "]":
            value, end = self._value()
            line = self._line_of(self._position)
            yield value, self._text[self._position : end], line
            self._position = end
            sign = self._next_sign()
            if sign == ",":
                self._position += 1
            elif sign != "]":
                at = self._line_of(self._position)
                raise InputError(f"{self._name}: line {at}: expected ',' or ']' after an object of the array")
        self._position += 1
        if self._next_sign():
            raise InputError(f"{self._name}: there is more after the end of the JSON array")

    def _next_sign(self) -> str:
        """Go on to the next character that is not blank, and return it; empty at the end of the text."""
        while True:
            match = _BLANK.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        """Read as much as is there of the value that is being read; returns whether there was more."""
        self._line_of(self._position)
        left = self._text[self._position :]
        self._counted -= self._position
        self._position = 0
        found, size = [left], 0
        for piece in self._pieces:
            found.append(piece)
            size += len(piece)
            if size >= len(left):
                break
        self._text = "".join(found)
        return size > 0

    def _value(self) -> tuple[Any, int]:
        """Return the value at the present position, and where it ends."""
        decoder = json.JSONDecoder()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                problem = error
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _LONGEST_PART
            except (ValueError, RecursionError) as error:
                raise InputError(f"{self._name}: not valid JSON: {error}") from error
            else:
                # A number may go on, as in 1e+5.
                follows = _LONGEST_EXPONENT if isinstance(value, (int, float)) else 1
                if end + follows <= len(self._text) or not self._read_more():
                    self._check_length(end)
                    return value, end
                continue
            self._check_length(len(self._text))
            if not (cut and self._read_more()):
                line = self._line_of(problem.pos)
                raise InputError(f"{self._name}: line {line}: not valid JSON: {problem.msg}") from problem

    def _check_length(self, end: int) -> None:
        check_length(end - self._position, self._name, f"from line {self._line_of(self._position)} on")

    def _line_of(self, position: int) -> int:
        """Return the line of a place that is not before those asked for earlier."""
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line
