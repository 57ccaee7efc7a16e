"""Damage the files of a run folder one by one, as disks and people do, and see what a command makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forgetfilter.runs.run
from forgetfilter.cli import main
from forgetfilter.runs import files

# What a run is for; a report shows all of it.
RESULTS = ("kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "summary.json", "examples.jsonl")
RESULTS += ("model/adapter_model.safetensors",)


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
    found = (path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size)
    return [str(path.relative_to(run)) for path in found if path.name not in (".lock", "log.txt")]


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


def copy_along(run: Path, copies: dict[Path, tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy a run, as a kill would leave it, after the so manieth commit of something whose path has a word in it."""
    left, commit = {copy: count for copy, (_, count) in copies.items()}, files.commit

    def copying(partial: Path, final: Path) -> None:
        commit(partial, final)
        for copy, (word, _) in copies.items():
            left[copy] -= word in str(final)
            if not left[copy] and not copy.exists():
                shutil.copytree(run, copy)

    patch_commit(copying, monkeypatch)


def patch_commit(commit: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another function make files and folders final."""
    for module in (files, forgetfilter.runs.run):
        monkeypatch.setattr(module, "commit", commit)


def fresh(run: Path, place: Path) -> Path:
    """A copy of a run at the place that a report names."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    return place


def damaged(
    run: Path, place: Path, names: list[str], kinds: dict[str, Callable[[Path], None]]
) -> Iterator[tuple[str, str]]:
    """Copies of a run with one damage each: its kind and the file."""
    for name in names:
        for kind, damage in kinds.items():
            damage(fresh(run, place) / name)
            yield kind, name


def without_checksums(run: Path, copy: Path) -> Path:
    """A copy of a run as a version left it that kept no checksums."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    forget_checksums(copy)
    return copy


def forget_checksums(run: Path) -> None:
    """Make a run one of a version that kept no checksums, or one that may be changed by hand."""
    for path in run.rglob("checksums.json"):
        path.unlink()
