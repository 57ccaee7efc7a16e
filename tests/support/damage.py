"""Damage the files of a run folder one by one, as disks and people do, and see what a command makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forgetfilter.cli import main

# What a run is for; a report shows all of it.
RESULTS = ("kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "summary.json", "examples.jsonl")
RESULTS += ("model/adapter_model.safetensors",)


class Killed(BaseException):
    """Ends a run where no code of ours catches it."""


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "empty": empty, "delete": Path.unlink}


def files_of(run: Path) -> list[str]:
    """Every file of a run that has something in it, but for its lock and its log, which nobody reads."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size)
    return [str(path.relative_to(run)) for path in files if path.name not in (".lock", "log.txt")]


def results_of(run: Path) -> dict[str, bytes]:
    """What a finished run ended with. A report names the folder that it is of."""
    found = {name: (run / name).read_bytes() for name in RESULTS if (run / name).is_file()}
    return found | {"report.html": (run / "report.html").read_bytes()}


def complaint(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str | None:
    """Run a command: None where it ends well, else what is wrong with how it failed; empty if that is one line."""
    capfd.readouterr()
    try:
        status = main(arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("forgetfilter: ")]
    return None if status == 0 else "" if status == 2 and len(lines) == 1 else f"status {status}, {lines}"


def stop_at(count: int, monkeypatch: pytest.MonkeyPatch, *, of: str) -> None:
    """Let a run die at the commit of the `count`-th file or folder whose path has `of` in it."""
    import forgetfilter.runs.files as files

    left, commit = count, files.commit

    def deadly(partial: Path, final: Path) -> None:
        nonlocal left
        commit(partial, final)
        left -= of in str(final)
        if not left:
            raise Killed

    monkeypatch.setattr("forgetfilter.runs.files.commit", deadly)
    monkeypatch.setattr("forgetfilter.runs.run.commit", deadly)


def fresh(run: Path, place: Path) -> Path:
    """A copy of a run at the place that a report names."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    return place


def damaged(run: Path, place: Path, files: list[str], kinds: dict[str, Callable[[Path], None]] = DAMAGES) -> Iterator:
    """Copies of a run with one damage each: its kind and the file."""
    for name in files:
        for kind, damage in kinds.items():
            damage(fresh(run, place) / name)
            yield kind, name
