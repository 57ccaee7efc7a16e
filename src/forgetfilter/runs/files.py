"""Files and folders that are there whole or not at all, whenever the process was killed; and one process at a time.

What is written has a hidden name beside its own, is flushed to disk, and then takes its name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from ..errors import RunError
from .layout import LOCK, PARTIAL


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a place to write a file or folder to; it gets its name once it is written, replacing what had it."""
    beside = path.with_name(f"{PARTIAL}{path.name}")
    remove(beside)
    try:
        yield beside
        commit(beside, path)
    except BaseException:
        remove(beside)
        raise


def write_text(text: str, path: Path) -> None:
    """Write text, whole or not at all; what is no text is replaced."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="replace")


def write_json(value: Any, path: Path) -> None:
    """Write readable JSON, of finite numbers only, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with written_whole(path) as beside:
        # Half a character becomes the escape that JSON has for it.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, default: Any = None) -> Any:
    """What is in a file of JSON that this program wrote; the default where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def keep_once(path: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder that several processes may want, unless one of them did; returns it."""
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        # Another process may have written it while this one waited.
        if not path.is_dir():
            with written_whole(path) as beside:
                write(beside)
    return path


def commit(partial: Path, final: Path) -> None:
    """Flush a file or folder to disk and give it its final name, replacing what had it."""
    for file in sorted(partial.rglob("*")) if partial.is_dir() else [partial]:
        if file.is_file():
            _flush(file)
    replaced = final.with_name(final.name + ".replaced")
    remove(replaced)
    if final.is_dir():
        final.rename(replaced)
    partial.replace(final)
    _flush(final.parent)
    remove(replaced)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def start_afresh(folder: Path) -> None:
    """Make an empty folder, whatever a killed attempt left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Make a folder if need be, and keep other processes out of it; one that was made for nothing goes again.

    Raises:
        RunError: Another process works in it, or it cannot be written to.
    """
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{path}: another forgetfilter process is working in this folder; let it end first") from None
    except OSError as error:
        raise RunError(f"{path}: cannot write here: {error.strerror or error}") from error
    try:
        yield
    finally:
        if made and [entry.name for entry in path.iterdir()] == [LOCK]:
            # While it is held, nobody else works here.
            (path / LOCK).unlink()
            with suppress(OSError):
                path.rmdir()
        lock.release()
