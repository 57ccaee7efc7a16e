"""Find how the bytes of a text file become text, by the mark at its start or the name that the user gives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import IO

from ..console import printable
from ..errors import SettingsError

_CHUNK = 1 << 20
_SHOWN = 60
MARK = "\ufeff"
# The longer ones first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
# A mark shows the byte order of these encodings; without one it is that of the machines that most files come from.
_UNMARKED = {"utf_16": "utf-16-le", "utf_32": "utf-32-le", "utf_8_sig": "utf-8"}


def check_encoding(name: str) -> None:
    """Refuse a name that is no encoding of text.

    Raises:
        SettingsError: Python has no such encoding, or lines cannot be read in it.
    """
    try:
        plain = not name or ("\nA".encode(name).decode(name) == "\nA" and _is_plain(resolve_encoding(name)))
    except (LookupError, UnicodeError, TypeError, ValueError):
        plain = False
    if not plain:
        shown = printable(name, _SHOWN)
        raise SettingsError(f"encoding: there is no text encoding '{shown}'; for instance utf-8, latin-1, cp1252, gbk")


def _is_plain(encoding: str) -> bool:
    """Tell whether a line end and a letter are the same bytes wherever they stand."""
    end, letter = "\n".encode(encoding), "A".encode(encoding)
    return len(end) == len(letter) and ("\nA" * 99).encode(encoding) == (end + letter) * 99


def resolve_encoding(name: str) -> str:
    """Return the encoding that a name stands for in a file without a mark."""
    import codecs

    known = codecs.lookup(name).name.replace("-", "_")
    return _UNMARKED.get(known, name)


def find_encoding(start: bytes, named: str) -> tuple[str, bytes]:
    """Find the encoding of a file and the mark that it begins with; a mark counts for more than a name.

    Args:
        start: The first bytes of the file.
        named: The encoding that the user named, or empty.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, mark
    return (resolve_encoding(named) if named else "utf-8"), b""


def is_wide(encoding: str) -> bool:
    """Tell whether a character takes two or four bytes, so that the text needs the mark that says so."""
    return encoding.startswith(("utf-16", "utf-32"))


def unmarked_wide(start: bytes) -> str:
    """Guess the two-byte encoding of a file without a mark from its first bytes; empty if it looks like none."""
    zeros = [start[place::2].count(0) / max(1, len(start) // 2) for place in (0, 1)]
    if max(zeros) < 0.4 or min(zeros) > 0.1:
        return ""
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def byte_lines(file: IO[bytes], encoding: str, most: int) -> Iterator[bytes]:
    """Yield the lines of a file as bytes, each with its end; only a newline ends a line.

    Args:
        file: The file.
        encoding: Of its text.
        most: The longest line in bytes; of a longer one comes more than that, but not all.
    """
    end = "\n".encode(encoding)
    if end == b"\n":
        yield from iter(partial(file.readline, most + 1), b"")
        return
    held, searched = b"", 0
    while chunk := file.read(_CHUNK):
        held += chunk
        start = 0
        while (at := held.find(end, searched)) >= 0:
            if at % len(end):
                # These are the bytes of a newline, but they belong to two characters.
                searched = at + 1
                continue
            yield held[start : at + len(end)]
            start = searched = at + len(end)
        # The rest begins at a whole character, so that positions within it are those of characters again.
        held = held[start:]
        if len(held) > most:
            break
        searched = max(0, len(held) - len(end) + 1)
        searched -= searched % len(end)
    if held:
        yield held


def not_text(error: UnicodeDecodeError, encoding: str) -> tuple[str, str]:
    """Say what was found and what was expected where bytes are not in the encoding."""
    name = encoding.upper()
    advice = f"{name} text; another encoding can be named with --encoding, such as latin-1 or cp1252"
    return f"a byte that is not {name} at position {error.start}", advice
