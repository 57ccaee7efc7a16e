"""Files and folders that are there whole or not at all, whenever the process was killed; and one process at a time.

What is written has a hidden name beside its own, is flushed to disk, and then takes its name. A folder of a run keeps
the checksums of what is in it, an unfinished stage already while it is worked on.
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
from .checksums import Checksum, checksums_below, is_of, read_checksums
from .damage import damage_named
from .layout import CHECKSUMS, LOCK, MODEL, PARTIAL, STAGES, UNFINISHED

# The folders that this process holds, and which they were then: a name may come to stand for another folder.
_held: dict[Path, tuple[int, int] | None] = {}


@contextmanager
def written_whole(path: Path, keeper: Path | None = None, *, changes: bool = False) -> Iterator[Path]:
    """Give a place to write a file or folder to; it gets its name once it is written, replacing what had it.

    Args:
        path: Its place.
        keeper: The folder, at or above its own, that keeps its checksum; None for the unfinished stage that it is in,
            if it is in one.
        changes: Whether it is written to in place later, so that no checksum of it holds.
    """
    beside = path.with_name(f"{PARTIAL}{path.name}")
    remove(beside)
    try:
        yield beside
        keeper = keeper or _unfinished_stage(path)
        if keeper is None or changes:
            commit(beside, path)
        else:
            commit_noted(beside, path, keeper)
    except BaseException:
        remove(beside)
        raise


def _unfinished_stage(path: Path) -> Path | None:
    stages = (folder for folder in path.parents if folder.suffix == UNFINISHED)
    return next((folder for folder in stages if folder.parent.name == STAGES or folder.stem == MODEL), None)


def commit_noted(beside: Path, path: Path, keeper: Path) -> None:
    """Give a file or folder its name, and note its checksum; a process that is killed meanwhile leaves none."""
    name = path.relative_to(keeper).as_posix()
    checksums = checksums_below(beside, name)
    forget(keeper, name)
    commit(beside, path)
    _write_checksums(read_checksums(keeper) | checksums, keeper)


def forget(keeper: Path, name: str) -> None:
    """Drop the checksum of a file, or of those in a folder, that is to be replaced or deleted."""
    checksums = read_checksums(keeper)
    others = {other: checksum for other, checksum in checksums.items() if not is_of(other, name)}
    if len(others) < len(checksums):
        _write_checksums(others, keeper)


def seal(folder: Path) -> None:
    """Write the checksums of all files of a folder that is written whole; that they are all is told by their own."""
    (folder / CHECKSUMS).unlink(missing_ok=True)
    checksums = {CHECKSUMS: Checksum(0, "")}
    for path in sorted(folder.iterdir()):
        checksums |= checksums_below(path, path.name)
    _write_checksums(checksums, folder)


def _write_checksums(checksums: dict[str, Checksum], folder: Path) -> None:
    lines = (f"{json.dumps(name)}: {json.dumps(checksum)}" for name, checksum in sorted(checksums.items()))
    with written_whole(folder / CHECKSUMS, changes=True) as beside:
        beside.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_text(text: str, path: Path) -> None:
    """Write text, whole or not at all; what is no text is replaced."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="replace")


def write_json(value: Any, path: Path, keeper: Path | None = None) -> None:
    """Write readable JSON, of finite numbers only, whole or not at all; `keeper` is that of `written_whole`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with written_whole(path, keeper) as beside:
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
    """Flush a file or folder to disk and give it its final name, replacing what had it.

    Raises:
        RunError: The folder that this process holds is another one now.
    """
    refuse_moved(final)
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


@contextmanager
def _moving_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Whatever fails then, fails of that.
        if _place(path) != _held[path]:
            raise _moved(path) from error
        raise
    refuse_moved(path)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def start_afresh(folder: Path) -> None:
    """Make an empty folder, whatever a killed attempt left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def refuse_moved(path: Path) -> None:
    """Check that the folder which this process holds, and in which a path is, is still the one that it was.

    Raises:
        RunError: It was deleted, renamed or replaced.
    """
    for folder, place in _held.items():
        if path.absolute().is_relative_to(folder) and _place(folder) != place:
            raise _moved(folder)


def _moved(folder: Path) -> RunError:
    return RunError(
        f"{folder}: was deleted, renamed or replaced while this command worked in it, and nothing is written there "
        "now; run the same command again, with the place where the folder is"
    )


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Make a folder if need be, and keep other processes out of it; one that was made for nothing goes again.

    Raises:
        RunError: Another process works in it, nothing can be made there, its name is not UTF-8, or it was moved while
            this one worked in it.
        OSError: It cannot be written to.
    """
    given, path = path, path.absolute()
    if str(path) != str(path).encode(errors="replace").decode():
        # Arrow opens no file there.
        raise RunError(f"{given}: this name is not UTF-8; rename the folder, or name another one")
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{path}: another forgetfilter process is working in this folder; let it end first") from None
    except FileNotFoundError:
        raise RunError(f"{path}: no folder can be made here; name another one") from None
    _held[path] = _place(path)
    try:
        with _moving_named(path), damage_named(given):
            yield
    finally:
        still_there = _place(path) == _held.pop(path)
        # Whatever ended the work is what matters.
        with suppress(OSError):
            if made and still_there and [entry.name for entry in path.iterdir()] == [LOCK]:
                # While it is held, nobody else works here.
                (path / LOCK).unlink()
                path.rmdir()
        lock.release()
