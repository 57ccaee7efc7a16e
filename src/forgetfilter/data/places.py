"""Find the files that a name stands for: a file, all files of a folder, or what a glob matches."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..runs.layout import MIX, MIX_FILES
from ..runs.manifest import is_run
from .records import is_valid_text

# The files in a folder that `datasets` saved.
_SAVED = ("dataset_dict.json", "state.json")


@dataclass
class Location:
    """The files and folders that a name stands for.

    Attributes:
        paths: Files, and folders that `datasets` saved, in order, each once.
        listed: Whether they were found by looking into a folder or by a glob, rather than named by the user.
        runs: Folders of runs that lie there, too; their files are made from such data, and change with every run.
    """

    paths: list[Path] = field(default_factory=list)
    listed: bool = False
    runs: list[Path] = field(default_factory=list)


def find_paths(source: str) -> Location | None:
    """Find the files and saved data sets that a name stands for; None where nothing on this machine has that name.

    Folders are searched with all their subfolders, in the order of names; hidden files and run folders are left out.

    Raises:
        InputError: There is no name, a folder cannot be read or is that of a run, a glob matches nothing, or a file's
            name is no text.
    """
    if not source.strip():
        raise InputError(
            "a name of nothing but blanks; expected a file or a folder (was a variable of the shell empty?)"
        )
    location = _find(source)
    for path in location.paths if location else []:
        if not is_valid_text(str(path)):
            raise InputError(f"{path}: the name is not valid UTF-8, so that no report can show it; rename it")
    return location


def _find(source: str) -> Location | None:
    try:
        path = Path(source).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{source[:80]}: cannot be read: {getattr(error, 'strerror', error)}") from error
    if is_folder and is_run(path):
        raise InputError(f"{source}: this is the folder of a run; name the file or folder in it that is meant")
    if is_folder and all((path / name).is_file() for name in (MIX, *MIX_FILES)):
        raise InputError(f"{source}: this is the folder of a mix; name one of its files: {', '.join(MIX_FILES)}")
    if is_folder:
        return Location([path]) if is_saved(path) else _below(path)
    if exists:
        return Location([path])
    if not glob.has_magic(source):
        return None
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    if not matches:
        raise InputError(f"{source}: no file has such a name")
    saved = {match for match in matches if match.is_dir() and is_saved(match)}
    runs = {match for match in matches if match.is_dir() and is_run(match)}
    if "**" in source:
        # A pattern that names what is in a run means it; one that goes down to any depth does not.
        runs |= {*filter(is_run, {parent for match in matches for parent in match.parents})}
    outside = [
        match
        for match in matches
        if not runs.intersection((match, *match.parents)) and (match in saved or not saved.intersection(match.parents))
    ]
    above = {parent for match in outside for parent in match.parents}
    unique: dict[Path, None] = {}
    for match in outside:
        if match in saved or not match.is_dir():
            unique[match] = None
        elif match not in above:
            below = _below(match)
            unique |= dict.fromkeys(below.paths)
            runs |= {*below.runs}
    return Location(list(unique), listed=True, runs=sorted(runs))


def is_saved(path: Path) -> bool:
    """Tell whether a folder is one that `datasets` saved."""
    return any((path / name).is_file() for name in _SAVED)


def _below(folder: Path) -> Location:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error

    paths: list[Path] = []
    runs: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        if (run := is_run(here)) or is_saved(here):
            (runs if run else paths).append(here)
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [here / name for name in files if not name.startswith(".")]
    return Location(sorted(paths), listed=True, runs=sorted(runs))
