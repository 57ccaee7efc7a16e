"""Define the errors that a user can cause. The command line shows the message alone and exits with 2.

Every message says what was found, where, what was expected, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ForgetFilterError(Exception):
    """Base of all errors that a user can mend. Any other exception is our own fault."""

    @property
    def lines(self) -> Sequence[str]:
        """Return the lines to show; names that the message quotes may have line ends of their own."""
        return [str(self)]


class SettingsError(ForgetFilterError):
    """An option or a configuration file holds an invalid value."""


class InputError(ForgetFilterError):
    """A data set cannot be found or read."""


class ModelError(ForgetFilterError):
    """A model cannot be found, loaded or used for the task."""


class RunError(ForgetFilterError):
    """A run folder does not allow the request: it has other settings, other data, or nothing to decide about."""


class TrainingError(ForgetFilterError):
    """A training session cannot go on, for instance because its loss is no longer finite."""


class HubError(ForgetFilterError):
    """The hub cannot be reached, or refuses what is pushed to it."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, or the error's name where it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: where it is, what was found there, and what was expected.

    Attributes:
        row: Position in the input, counted from 0.
        line: Line in the file, counted from 1, or None where the container has no lines.
        field: Name of the offending field, or None where the row as a whole is broken.
        found: What the row or field holds, in words.
        expected: What it should hold, in words.
        file: The row's file where there are several; else empty.
    """

    row: int
    line: int | None
    field: str | None
    found: str
    expected: str
    file: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line is not None else f"row {self.row}"
        place = f"{self.file}: {place}" if self.file else place
        field = f", field '{self.field}'" if self.field is not None else ""
        return f"{place}{field}: found {self.found}, expected {self.expected}"


class BadRowsError(InputError):
    """Some rows of a data set cannot be used; the message shows up to ten of them."""

    SHOWN = 10
    SKIPPED = "Mend these rows, or pass --skip-bad-rows to set them aside into a file of their own."

    def __init__(self, name: str, rows: Sequence[BadRow], total: int, advice: str = SKIPPED) -> None:
        self.rows = list(rows[: self.SHOWN])
        self.total = total
        lines = [f"{name}: {total} row{'s' if total != 1 else ''} cannot be used:"]
        lines += [f"  {row}" for row in self.rows]
        if total > len(self.rows):
            lines.append(f"  … and {total - len(self.rows)} more")
        lines.append(advice)
        self._lines = lines
        super().__init__("\n".join(lines))

    @property
    def lines(self) -> Sequence[str]:
        return self._lines
