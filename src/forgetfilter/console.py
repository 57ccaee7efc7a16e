"""Show people what a run does: one line per event, progress with rate and time left, and a log file.

Results go to standard output; everything here goes to standard error. Text from data sets is hostile and
passes through `printable` before it is shown.
"""

from __future__ import annotations

import io
import os
import re
import select
import shlex
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from .progress import Pieces, Plan, Progress, Showable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

_SECONDS_BETWEEN_LINES = 30.0
_LONGEST_LINE = 1000
_WORD = re.compile(r"\S+")
# Cells of a bar: most of a line is for words.
_BAR = 16
# Categories of characters that a terminal may obey or that hide text: control, format (bidirectional marks
# among them), surrogate, private use, line and paragraph separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


class _UnbreakableFile(io.FileIO):
    """A descriptor for output that nobody may be able to read: what it does not take is let go."""

    def write(self, data: Any) -> int:
        try:
            # A terminal or pipe that does not wait takes nothing while it is full.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError:
            return len(data)
        return written


def guard_streams() -> None:
    """Let no output end this process: streams may be closed, full, without a reader, or of a narrow encoding.

    To be called first: a file that is opened while a standard descriptor is closed would take its number, and what
    a library prints would go into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        given: io.TextIOWrapper | None = getattr(sys, name)
        raw = _UnbreakableFile(descriptor, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=given.encoding if given else "utf-8",
            errors="backslashreplace",
            line_buffering=name == "stderr" or raw.isatty(),
        )
        setattr(sys, name, stream)


def show(text: str, stream: TextIO | None = None) -> None:
    """Print lines to a stream, or to standard output; one that is closed or full is let be.

    What a terminal may obey, and characters that the stream's encoding lacks, are shown as escapes.
    """
    text = "\n".join(map(escaped, text.split("\n")))
    stream = sys.stdout if stream is None else stream
    # A process without a terminal may have no streams.
    if stream is None:
        return
    try:
        try:
            print(text, file=stream, flush=True)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError):
        return


def escaped(text: str) -> str:
    """Escape every character of a text that a terminal may obey or that hides other text."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSAFE else c for c in text)


def shell_word(text: str) -> str:
    """Quote a word for a shell; what a terminal may obey becomes an escape that bash and zsh read."""
    if escaped(text) == text:
        return shlex.quote(text)
    octal = ("".join(f"\\{byte:03o}" for byte in c.encode(errors="surrogateescape")) for c in text)
    kept = (c if escaped(c) == c and c not in "'\\" else code for c, code in zip(text, octal, strict=True))
    return f"$'{''.join(kept)}'"


def fit_to_show(message: str) -> str:
    """Escape and shorten each line of a message of ours, which may quote hostile text."""
    lines = (escaped(line[:_LONGEST_LINE]) + ("…" if len(line) > _LONGEST_LINE else "") for line in message.split("\n"))
    return "\n".join(lines)


def printable(text: str, width: int | None = None) -> str:
    """Put text from a data set on one line, safe for a terminal; control characters are shown as escapes.

    Args:
        text: Any text.
        width: Longest result, in characters; an ellipsis marks where text was cut off.
    """
    if width is None:
        return escaped(" ".join(text.split()))
    # A hostile row may have megabytes, and much white space before what matters.
    words: list[str] = []
    length = 0
    for word in _WORD.finditer(text):
        words.append(text[word.start() : min(word.end(), word.start() + width + 1)])
        length += len(words[-1]) + 1
        if length > width + 1:
            break
    safe = escaped(" ".join(words))
    return safe if len(safe) <= width else safe[: max(0, width - 1)] + "…"


def count_of(count: int, noun: str) -> str:
    """Write a count of something: `1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def told_apart(names: Iterable[str]) -> list[str]:
    """Shorten paths to their last parts, as few as tell them apart."""
    paths = [Path(name) for name in names]
    for count in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        ends = [str(Path(*path.parts[-count:])) for path in paths]
        if len(set(ends)) == len(ends):
            return ends
    return list(names)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns of cells, which must be printable already; columns of numbers are aligned to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(_cells(row[i]) for row in cells) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in rows) and bool(rows) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = (
            " " * (width - _cells(cell)) + cell if to_right else cell + " " * (width - _cells(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


OnStep: TypeAlias = Callable[[str, int, Mapping[str, float]], None]


class Console:
    """Shows a person what is going on.

    Args:
        stream: The stream to write to; standard error if None.
        quiet: Write nothing to the stream, but still write the log.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._log: Path | None = None
        self._on_step: OnStep | None = None
        self._plan: Plan | None = None
        self._pieces: Pieces | None = None
        self._update: Callable[[Showable], None] = lambda _: None
        self._bars: Bars | None = None

    def follow(self, plan: Plan) -> None:
        """Tell from now on, with each step of this plan, how much of the whole is done, and the time left."""
        self._plan = plan

    def log_to(self, path: Path) -> None:
        """Also append every line to this file, with the time."""
        self._log = path

    def report_steps_to(self, on_step: OnStep) -> None:
        """Also pass every optimizer step on: the session, the step in it, counted from 1, and its values by name."""
        self._on_step = on_step

    def report_step(self, session: str, step: int, values: Mapping[str, float]) -> None:
        """Report an optimizer step to whom it may concern."""
        if self._on_step is not None:
            self._on_step(session, step, values)

    def say(self, text: str) -> None:
        """Show one line."""
        text = fit_to_show(text.replace("\n", "\\n"))
        if self._bars is not None:
            # A line that another writes would be mixed with the bar's.
            self._bars.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        elif not self._quiet and self._stream is not None:
            show(text, self._stream)
        self._write_log(text)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show one line for all progress of a step of the plan while the block runs; other steps show their own."""
        if self._plan is None or name not in self._plan.steps or self._pieces is not None:
            yield
        else:
            with self._together(Pieces(self._plan.title(name), self._plan, name)):
                yield

    def _on_terminal(self) -> bool:
        stream = self._stream
        return not self._quiet and stream is not None and not stream.closed and stream.isatty()

    @contextmanager
    def together(self, title: str) -> Iterator[None]:
        """Show one line for all progress while the block runs."""
        with self._together(Pieces(title)):
            yield

    @contextmanager
    def _together(self, pieces: Pieces) -> Iterator[None]:
        self._pieces = pieces
        try:
            with self._shown() as self._update:
                yield
        finally:
            self._pieces = None
        pieces.end()
        self.say(str(pieces))

    @contextmanager
    def progress(
        self, label: str, total: int, unit: str, cost: float = 0.0, *, counts: bool = True
    ) -> Iterator[Progress]:
        """Show a count while the block runs: a bar on a terminal, plain lines elsewhere.

        Args:
            label: What is done; not shown within a step, which has a title.
            total, unit: How many of what.
            cost: What all of it costs, in the unit of the plan.
            counts: Whether the step counts its units.
        """
        if (pieces := self._pieces) is not None:
            update = self._update
            piece = Progress(label, total, unit, lambda _: update(pieces), cost, counts=counts)
            pieces.add(piece)
            yield piece
            piece.end()
        else:
            with self._shown() as update:
                progress = Progress(label, total, unit, update)
                yield progress
            self.say(str(progress))

    @contextmanager
    def _shown(self) -> Iterator[Callable[[Showable], None]]:
        with self._bar() if self._on_terminal() else self._lines() as update:
            yield update

    @contextmanager
    def _lines(self) -> Iterator[Callable[[Showable], None]]:
        last = time.monotonic()

        def update(what: Showable) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES and what.share != 1:
                last = time.monotonic()
                self.say(what.running())

        yield update

    @contextmanager
    def _bar(self) -> Iterator[Callable[[Showable], None]]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (BarColumn(_BAR), TextColumn("{task.fields[text]}", markup=False))
        # The bar is transient; the line that stays is the one that also goes to the log.
        with Bars(*columns, console=RichConsole(file=self._stream), refresh_per_second=4, transient=True) as bars:
            task = bars.add_task("", total=None, text="")

            def update(what: Showable) -> None:
                known = what.share is not None
                text = printable(what.brief())
                bars.update(task, completed=what.share or 0, total=1 if known else None, text=text)

            self._bars = bars
            try:
                yield update
            finally:
                self._bars = None

    def _write_log(self, text: str) -> None:
        if self._log is not None and self._log.parent.is_dir():
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            try:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(f"{now} {text}\n")
            except OSError as error:
                # Work does not end for its log; on a full disk it will end at the next result.
                path, self._log = self._log, None
                self.say(f"{path}: the log ends here: {error.strerror}")


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace(",", "").lstrip("+-−").rstrip("%").isdigit() or text in ("", "–")
