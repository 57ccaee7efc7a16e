"""Find the delimiter of a csv file, by looking at its first records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from ..errors import SettingsError

DELIMITERS = (",", ";", "\t", "|")
_RECORDS = 50
_SHOWN = 60
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SPELT = {"tab": "\t", "\\t": "\t"}


def parse_delimiter(named: str) -> str:
    """Parse the delimiter that the user named; empty where it is to be found in the file.

    Raises:
        SettingsError: It is not one character, or csv uses that character for something else.
    """
    delimiter = _SPELT.get(named.lower(), named)
    if delimiter and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise SettingsError(f"delimiter: expected one character, such as ; or tab, found {named[:_SHOWN]!r}")
    return delimiter


def name_delimiter(delimiter: str) -> str:
    """Name a delimiter in words."""
    return _NAMES.get(delimiter, repr(delimiter))


def sniff_csv(text: str, delimiter: str, *, whole: bool) -> tuple[str, bool]:
    """Find the delimiter of a csv file, and whether quotes mean anything in it.

    The delimiter is the one that splits the header and the first records into the same number of values, at least two;
    a comma where none does, as in a file of one column. Stray quotes are allowed only where tabs delimit the values.

    Args:
        text: The beginning of the file.
        delimiter: The delimiter, if it is already known; else empty.
        whole: Whether the text is all of the file.
    """
    chosen = delimiter or max(DELIMITERS, key=lambda one: _fit(text, one, quoted=True, whole=whole))
    if chosen != "\t":
        return chosen, True
    with_quotes, without = (_fit(text, chosen, quoted=quoted, whole=whole) for quoted in (True, False))
    return chosen, with_quotes >= without


def csv_reader(lines: Iterable[str], delimiter: str, *, quoted: bool) -> Any:
    """Make a reader that parses lines into records; strict about quotes where there are any."""
    # A field may be of any length that data has; the module's own limit is 128 KB.
    csv.field_size_limit(1 << 30)
    if not quoted:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _fit(text: str, delimiter: str, *, quoted: bool, whole: bool) -> tuple[float, int]:
    """Return the share of the records that have as many values as the header, and that number; zeros for one value."""
    records, broken = _records(text, delimiter, quoted=quoted)
    if not whole and not broken and len(records) <= _RECORDS and len(records) > 1:
        # The last one may be cut off.
        records.pop()
    width = len(records[0]) if records else 0
    if width < 2:
        return 0.0, 0
    others = records[1:]
    alike = sum(len(record) == width for record in others)
    return (1 + alike) / (1 + len(others) + broken), width


def _records(text: str, delimiter: str, *, quoted: bool) -> tuple[list[list[str]], bool]:
    records: list[list[str]] = []
    try:
        for record in csv_reader(io.StringIO(text, newline=""), delimiter, quoted=quoted):
            if record:
                records.append(record)
            if len(records) > _RECORDS:
                break
    except csv.Error:
        return records, True
    return records, False
