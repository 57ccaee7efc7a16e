"""Read text files: jsonl, json, csv and txt, whose rows keep their own bytes."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import InputError
from .delimiters import csv_reader, name_delimiter, parse_delimiter, sniff_csv
from .encodings import MARK, byte_lines, check_encoding, find_encoding, is_wide, not_text
from .json_array import ArrayReader
from .records import (
    COMPRESSED,
    LONGEST_ROW,
    Container,
    Record,
    TextForm,
    check_length,
    compression_of,
    hash_chunks,
    open_bytes,
)

_READ_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 18
_WHITE = " \t\r\n\v\f"
# A file with at most this many lines to a block has a paragraph a row rather than a line.
_LINES_A_PARAGRAPH = 20


@dataclass(frozen=True)
class TextOptions:
    """What the user says about text files; what is empty is found by looking.

    Attributes:
        encoding: The encoding of files without a mark that shows it.
        delimiter: The character between the values of csv files.
        where_needed: Whether the encoding applies only to files that are not UTF-8.

    Raises:
        SettingsError: There is no such encoding, or the delimiter is not one character.
    """

    encoding: str = ""
    delimiter: str = ""
    where_needed: bool = False

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        parse_delimiter(self.delimiter)


LOOK = TextOptions()


class TextContainer(Container):
    """A text file, compressed or not, whose rows keep their own bytes.

    Attributes:
        encoding: How its bytes become text.
        mark: The bytes at the start of the file that show its encoding; empty where there are none.
    """

    kind: str

    def __init__(self, path: Path, options: TextOptions = LOOK) -> None:
        super().__init__(str(path))
        self.path = path
        self.suffix = self.kind + compression_of(path.name)
        start = read_start(path)
        named = "" if options.where_needed and _is_utf8(path) else options.encoding
        self.encoding, self.mark = find_encoding(start, named)
        self.form = TextForm(self.kind, self.encoding)
        # What is written before all rows; without its mark nobody could read a wide encoding.
        self._mark_before_rows = self.mark if is_wide(self.encoding) else b""
        self.head = self._mark_before_rows

    @property
    def note(self) -> str:
        return "" if self.encoding == "utf-8" else self.encoding.upper()

    def sample(self) -> tuple[str, bool]:
        """Return the beginning of the text, and whether that is all of it."""
        start = read_start(self.path)
        return start.decode(self.encoding, "replace").removeprefix(MARK), len(start) < _SAMPLE_BYTES

    def fingerprint(self) -> str:
        with whole_file(self.path), self.path.open("rb") as file:
            return hash_chunks(iter(lambda: file.read(_READ_BYTES), b""))

    def open(self) -> IO[bytes]:
        return open_bytes(self.path, "rb")

    def records(self) -> Iterator[Record]:
        with whole_file(self.path), self.open() as file:
            yield from self._parse(file)

    @abstractmethod
    def _parse(self, file: IO[bytes]) -> Iterator[Record]: ...

    def _lines(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the lines as bytes, without the mark that is written before all rows."""
        for number, raw in enumerate(byte_lines(file, self.encoding, LONGEST_ROW)):
            check_length(len(raw), self.name, f"line {number + 1}")
            yield raw if number else raw.removeprefix(self._mark_before_rows)


def read_start(path: Path) -> bytes:
    """Read the first bytes of a file, unpacked.

    Raises:
        InputError: It cannot be unpacked.
    """
    with whole_file(path), open_bytes(path, "rb") as file:
        return file.read(_SAMPLE_BYTES)


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with whole_file(path), open_bytes(path, "rb") as file:
            while chunk := file.read(_READ_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Say in one line that a compressed file is damaged, or that a file is gone."""
    packed = COMPRESSED.get(compression_of(path.name))
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: not a whole {packed} file: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: is not there any more") from error
    except OSError as error:
        if packed is None or error.errno is not None:
            raise
        raise InputError(f"{path}: not a whole {packed} file: {error}") from error


class JsonLines(TextContainer):
    """One JSON object a line, as jsonl or jsonl.gz. Blank lines hold no row."""

    kind = ".jsonl"

    def _parse(self, file: IO[bytes]) -> Iterator[Record]:
        for number, raw in enumerate(self._lines(file), 1):
            try:
                text = raw.decode(self.encoding)
            except UnicodeDecodeError as error:
                yield Record(None, not_text(error, self.encoding), number, raw)
                continue
            if not text.strip(_WHITE):
                continue
            fields, problem = _parse_object(text.removeprefix(MARK))
            yield Record(fields, problem, number, raw)


class JsonArray(TextContainer):
    """One JSON array of objects. Rows keep their own text; the array around them is written anew."""

    kind = ".json"

    def __init__(self, path: Path, options: TextOptions = LOOK) -> None:
        super().__init__(path, options)
        begin, self.separator, self.tail = (part.encode(self.encoding) for part in ("[\n", ",\n", "\n]\n"))
        self.head += begin

    def _parse(self, file: IO[bytes]) -> Iterator[Record]:
        for value, text, line in ArrayReader(self._decoded(file), self.name).values():
            fields, problem = (value, None) if isinstance(value, dict) else (None, _not_an_object(value))
            yield Record(fields, problem, line, text.encode(self.encoding, "surrogatepass"))

    def _decoded(self, file: IO[bytes]) -> Iterator[str]:
        """Yield the text, a piece at a time, without its mark."""
        decoder, read = codecs.getincrementaldecoder(self.encoding)(), 0
        while True:
            chunk = file.read(_READ_BYTES)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                error.start += read - waiting
                found, expected = not_text(error, self.encoding)
                raise InputError(f"{self.name}: found {found}, expected {expected}") from error
            yield text if read else text.removeprefix(MARK)
            if not chunk:
                return
            read += len(chunk)


class Csv(TextContainer):
    """Values with a header line, as RFC 4180 has them; a row may span lines."""

    kind = ".csv"

    def __init__(self, path: Path, options: TextOptions = LOOK) -> None:
        super().__init__(path, options)
        packed = compression_of(path.name)
        tabs = path.name.lower().removesuffix(packed).endswith(".tsv")
        self.suffix = (".tsv" if tabs else self.kind) + packed
        known = parse_delimiter(options.delimiter) or ("\t" if tabs else "")
        text, whole = self.sample()
        delimiter, quoted = sniff_csv(text, known, whole=whole)
        self.form = TextForm(self.kind, self.encoding, delimiter, quoted)

    @property
    def note(self) -> str:
        assert self.form is not None
        between = "" if self.form.delimiter == "," else f"{name_delimiter(self.form.delimiter)} between values"
        return ", ".join(part for part in (between, super().note) if part)

    def _parse(self, file: IO[bytes]) -> Iterator[Record]:
        columns: list[str] = []
        taken: list[bytes] = []
        broken: list[tuple[str, str]] = []

        def lines() -> Iterator[str]:
            held = 0
            for number, raw in enumerate(self._lines(file)):
                taken.append(raw)
                held = len(raw) if len(taken) == 1 else held + len(raw)
                check_length(held, self.name, f"from line {line} on")
                text = self._decode(raw, broken)
                yield text if number else text.removeprefix(MARK)

        assert self.form is not None
        reader = csv_reader(lines(), self.form.delimiter, quoted=self.form.quoted)
        line = 1
        while (values := self._next(reader)) is not None:
            raw, problem = b"".join(taken), broken[0] if broken else None
            start, line = line, line + len(taken)
            taken.clear()
            broken.clear()
            if not values:
                continue
            if columns:
                yield _csv_record(columns, values, problem, start, raw)
                continue
            if problem:
                raise InputError(f"{self.name}: line {start}: found {problem[0]}, expected {problem[1]}")
            if start == 1 and values[0].lower().startswith("sep="):
                raise InputError(f"{self.name}: line 1 tells Excel the delimiter ({values[0]}); remove that line")
            columns = values
            self.head = self._mark_before_rows + raw
            if len(set(columns)) != len(columns):
                raise InputError(f"{self.name}: two columns of the header have the same name")

    def _decode(self, raw: bytes, broken: list[tuple[str, str]]) -> str:
        try:
            return raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            broken.append(not_text(error, self.encoding))
            return raw.decode(self.encoding, "replace")

    def _next(self, reader: Any) -> list[str] | None:
        last = reader.line_num
        try:
            return next(reader, None)
        except csv.Error as error:
            raise InputError(f"{self.name}: not valid CSV from line {last + 1} on: {error}") from error


class Text(TextContainer):
    """Plain text: a row a line, or a paragraph where blank lines stand between blocks of lines.

    Blank lines belong to the row before them, so that nothing of the file is lost.
    """

    kind = ".txt"

    def __init__(self, path: Path, options: TextOptions = LOOK) -> None:
        super().__init__(path, options)
        with whole_file(path), self.open() as file:
            self.paragraphs = _has_paragraphs(self._is_blank(raw) for raw in self._lines(file))

    @property
    def note(self) -> str:
        return ", ".join(
            part for part in (f"a row a {'paragraph' if self.paragraphs else 'line'}", super().note) if part
        )

    def _is_blank(self, raw: bytes) -> bool:
        return not raw.decode(self.encoding, "replace").removeprefix(MARK).strip(_WHITE)

    def _parse(self, file: IO[bytes]) -> Iterator[Record]:
        held: list[bytes] = []
        start, size, began, ended = 1, 0, False, False
        for number, raw in enumerate(self._lines(file), 1):
            blank = self._is_blank(raw)
            if began and not blank and (ended or not self.paragraphs):
                yield self._record(held, start)
                held, start, ended = [], number, False
            if not began and not blank:
                start = number
            began, ended = began or not blank, blank
            held.append(raw)
            size = len(raw) if len(held) == 1 else size + len(raw)
            check_length(size, self.name, f"from line {start} on")
        if began:
            yield self._record(held, start)

    def _record(self, lines: list[bytes], start: int) -> Record:
        raw = b"".join(lines)
        try:
            return Record({"text": _inner(raw.decode(self.encoding))}, None, start, raw)
        except UnicodeDecodeError as error:
            return Record(None, not_text(error, self.encoding), start, raw)


def _has_paragraphs(blank: Iterable[bool]) -> bool:
    """Tell whether blank lines separate blocks of lines often enough to be meant."""
    blocks = lines = 0
    before = True
    for is_blank in blank:
        lines += not is_blank
        blocks += before and not is_blank
        before = is_blank
    return blocks > 1 and lines <= _LINES_A_PARAGRAPH * blocks


def _inner(text: str) -> str:
    """Return a row of plain text without the blank lines around it and the end of its last line."""
    inner = re.sub(r"\A(?:[ \t\v\f]*\r?\n)+", "", text.removeprefix(MARK))
    return re.sub(r"(?:\r?\n[ \t\v\f]*)+\Z", "", inner)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of ours, one a line. Only a newline ends a line: text may hold other separators."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def field_reader(form: TextForm, head: bytes) -> Callable[[bytes], Mapping[str, Any]]:
    """Make a function that parses a row's own bytes into columns again, for rows that were read from such a file.

    Args:
        form: How they were read.
        head: What stands before the rows.
    """
    if form.kind == Text.kind:
        return lambda raw: {"text": _inner(raw.decode(form.encoding))}
    if form.kind != Csv.kind:
        return lambda raw: _parse_object(raw.decode(form.encoding).removeprefix(MARK))[0] or {}

    def values(raw: bytes) -> list[str]:
        text = io.StringIO(raw.decode(form.encoding).removeprefix(MARK), newline="")
        read: list[str] = next(csv_reader(text, form.delimiter, quoted=form.quoted))
        return read

    columns = values(head)
    return lambda raw: dict(zip(columns, values(raw), strict=True))


def _parse_object(text: str) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return None, (f"broken JSON at character {error.pos + 1} ({error.msg})", "one JSON object a line")
    except (RecursionError, ValueError):
        return None, ("JSON with too deep a nesting or too long a number", "one JSON object a line")
    return (value, None) if isinstance(value, dict) else (None, _not_an_object(value))


def _csv_record(
    columns: list[str], values: list[str], problem: tuple[str, str] | None, line: int, raw: bytes
) -> Record:
    if problem is None and len(values) != len(columns):
        problem = f"{len(values)} values", f"{len(columns)}, as in the header"
    fields = None if problem else dict(zip(columns, values, strict=True))
    return Record(fields, problem, line, raw)


def _not_an_object(value: Any) -> tuple[str, str]:
    return f"a JSON {type(value).__name__}", "a JSON object with the row's fields"
