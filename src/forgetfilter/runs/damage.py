"""Name the damaged file once reading a folder has failed, whatever error its reader raised.

Files with checksums are checked before they are read. This is for those of earlier versions, and for those that a
process was killed beside before it had noted theirs.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ForgetFilterError, RunError, first_line
from .layout import MODEL, STAGES

# What the system says of a file that is missing or cannot be read; readers' own errors have no number.
_OF_WHAT_IS_READ = (None, errno.ENOENT, errno.EIO)


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Raise one error of one line where something fails because a file of a folder is damaged or missing.

    Raises:
        RunError: It failed, and a file cannot be read; names it, and what to delete.
    """
    try:
        yield
    except ForgetFilterError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in _OF_WHAT_IS_READ:
            # The system refused something, such as room on the disk, which leaves files half written.
            raise
        for path, problem in _missing(folder, error) or _unreadable(folder):
            raise RunError(f"{path}: {problem}; {_mend(folder, path)}") from error
        raise


def _missing(folder: Path, error: Exception) -> list[tuple[Path, str]]:
    """Find which file of the folder was not there; Arrow's errors name it in their text alone."""
    if not isinstance(error, FileNotFoundError):
        return []
    names = re.escape(str(folder)), re.escape(str(folder.absolute()))
    found = re.search(rf"(?:{'|'.join(names)})/[^'\"\n]+", f"{error.filename or ''}\n{error}")
    return [(Path(found[0]), "missing")] if found else []


def _unreadable(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        read = _READERS.get(path.suffix)
        if read is None or not path.is_file():
            continue
        try:
            read(path)
        except Exception as error:
            # Each kind of file has errors of its own; whichever it is, nobody can read this one.
            yield path, f"damaged: {first_line(error)}"


def _mend(folder: Path, path: Path) -> str:
    first, *more = path.absolute().relative_to(folder.absolute()).parts
    if first == STAGES and len(more) > 1:
        return f"delete {folder / STAGES / more[0]} and run the command that made it again"
    if more and first.split(".")[0] == MODEL:
        return f"delete {folder / first} and run the command that made it again"
    return "delete it and run the command that made it again"


def _read_json(path: Path) -> None:
    json.loads(path.read_bytes())


def _read_arrow(path: Path) -> None:
    with pa.memory_map(str(path)) as file:
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            # Some tables are kept as streams, which have no end of their own.
            file.seek(0)
            reader = pa.ipc.open_stream(file)
        reader.read_all().validate(full=True)


def _read_parquet(path: Path) -> None:
    with pq.ParquetFile(path) as file:
        for _ in file.iter_batches():
            pass


def _read_tensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        file.keys()


def _read_array(path: Path) -> None:
    np.load(path, mmap_mode="r")


def _read_arrays(path: Path) -> None:
    with path.open("rb") as file, np.load(file) as arrays:
        for name in arrays:
            arrays[name]


_READERS: dict[str, Callable[[Path], None]] = {
    ".json": _read_json,
    ".arrow": _read_arrow,
    ".parquet": _read_parquet,
    ".safetensors": _read_tensors,
    ".npy": _read_array,
    ".npz": _read_arrays,
}
