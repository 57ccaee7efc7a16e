"""Keep what was measured: the tables of the documents, as JSON files in docs/results, and how they are shown."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
EARLIER = "earlier code"


@dataclass(frozen=True)
class Result:
    """A table that was measured, and how.

    Attributes:
        title: What the table shows. It says "earlier code" where the present code did not produce the figures.
        columns: The heads of the columns.
        rows: The cells of each row, as they are shown.
        command: The commands that give the table, one per line; None where no command does.
        commit: The commit of the code, or a range of commits; None where it was not noted.
        date: The day of the measurement, such as 2026-11-29.
        processor: What it ran on; None where it was not noted.
        note: What else has to be known to read the table; may be empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str | None
    commit: str | None
    date: str
    processor: str | None
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(self.columns)} columns, but a row with {len(row)} cells: {row}")
        if self.commit is None and EARLIER not in self.title:
            raise ValueError(f"{self.title}: a title says {EARLIER!r} where no commit is known")


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        ValueError: The file has other fields than a result, rows of different lengths, or neither a commit nor a title
            that says that the code was an earlier one.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name for field in dataclasses.fields(Result)}
    if fields.keys() != names:
        raise ValueError(f"{path}: expected the fields {sorted(names)}, found {sorted(fields)}")
    rows = tuple(tuple(row) for row in fields.pop("rows"))
    return Result(columns=tuple(fields.pop("columns")), rows=rows, **fields)


def write_result(path: Path, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Write what the running benchmark measured, with its command, commit, date and processor."""
    command = shlex.join(["python", Path(sys.argv[0]).name, *_without_path(sys.argv[1:])])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept = tuple(tuple(row) for row in rows)
    store_result(path, Result(title, tuple(columns), kept, command, current_commit(), today, _processor(), note))


class Table:
    """Prints a table while its rows come, and keeps it as a result where that is asked for."""

    def __init__(self, *columns: str) -> None:
        self.columns, self.rows = columns, list[tuple[str, ...]]()
        print(f"\n{table(columns, [])}", flush=True)

    def add(self, *cells: str) -> None:
        """Print and keep a row."""
        self.rows.append(cells)
        print(_line(cells), flush=True)

    def keep(self, path: Path | None, title: str) -> None:
        """Write the result, where there is a path for it."""
        if path is not None:
            write_result(path, title, self.columns, self.rows)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare where a benchmark writes its result."""
    parser.add_argument("--json", type=Path, help="file for the result, such as ../docs/results/NAME.json")


def store_result(path: Path, result: Result) -> None:
    """Write a result, with one row per line, so that a changed figure is a changed line."""
    fields = dataclasses.asdict(result)
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in fields.pop("rows"))
    head = json.dumps(fields, ensure_ascii=False, indent=2).removesuffix("\n}")
    path.write_text(f'{head},\n  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def markdown(result: Result) -> str:
    """Show a result: title, table, note, and how it was measured, folded."""
    parts = [f"**{result.title}**", table(result.columns, result.rows)]
    parts += [result.note] if result.note else []
    code = f"commit `{result.commit}`" if result.commit else ""
    measured = ", ".join(filter(None, [result.date, code, result.processor]))
    if result.command is None:
        parts.append(f"*{measured}.*")
    else:
        shown = "$ " + result.command.replace("\\\n", "\0").replace("\n", "\n$ ").replace("\0", "\\\n")
        summary = measured.replace("`", "")
        parts.append(f"<details><summary>{summary}: the command</summary>\n\n```console\n{shown}\n```\n\n</details>")
    return "\n\n".join(parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    return "\n".join([_line(columns), "|---" * len(columns) + "|", *(_line(row) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _without_path(words: list[str]) -> list[str]:
    """Leave out where the result itself goes."""
    if "--json" not in words:
        return words
    place = words.index("--json")
    return words[:place] + words[place + 2 :]


def current_commit() -> str:
    """Return the commit of the code, marked where tracked files differ from it.

    COMMIT in the environment says it where the code was copied without its history.
    """
    if "COMMIT" in os.environ:
        return os.environ["COMMIT"]
    root = Path(__file__).parent
    try:
        commit = _git(root, "rev-parse", "--short", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(f"{root}: no git history tells the commit here; say it: COMMIT=… before the command") from None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "../src", ".")
    return f"{commit} with changes" if changed else commit


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    """Name the processor, as Linux does where it can be asked, and the GPU where one was used."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(names)} × {names[0]}" if names else platform.processor() or platform.machine()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return f"{torch.cuda.get_device_name()}, {processor}"
    return processor
