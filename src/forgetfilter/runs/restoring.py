"""Files that change together: where changing them fails, or is cut short, all are put back as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .files import read_json, remove, write_json, written_whole
from .layout import BEFORE, BEFORE_NAMES


@contextmanager
def restoring(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Put files and folders back as they were, or that there were none, where what is done meanwhile fails.

    They must be replaced and never written into, as what is kept of them are links where the disk has such.

    Args:
        folder: Where they are.
        names: Their names in it. The last is put back last: it tells readers that the others belong together.
    """
    before = folder / BEFORE
    with written_whole(before) as beside:
        beside.mkdir()
        there = [name for name in names if (folder / name).exists()]
        for name in there:
            _double(folder / name, beside / name)
        write_json(
            {"names": list(names), "absent": [name for name in names if name not in there]}, beside / BEFORE_NAMES
        )
    try:
        yield
        (before / BEFORE_NAMES).unlink()
    except BaseException:
        restore(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def restore(folder: Path) -> None:
    """Put back what `restoring` kept, if a process that was killed left it; this may be cut short and called again."""
    before = folder / BEFORE
    kept = read_json(before / BEFORE_NAMES)
    if kept is not None:
        *_, last = kept["names"]
        if (before / last).exists():
            remove(folder / last)
        for name in kept["absent"]:
            remove(folder / name)
        for name in kept["names"]:
            if (before / name).exists():
                if (folder / name).is_dir():
                    remove(folder / name)
                (before / name).replace(folder / name)
        (before / BEFORE_NAMES).unlink()
    shutil.rmtree(before, ignore_errors=True)


def _double(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has links.
        shutil.copy2(source, target)
