"""Tell whether files are still as they were written, by their sizes and hashes, which a folder keeps in a file.

They are to find damage that disks and people do, not forgery: the hash is one of the fastest, and nobody's secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from ..errors import RunError
from .layout import ACTIVATIONS, CHECKSUMS

_AT_ONCE = 1 << 20
# May be far larger than all else, and changes as long as it is written to; `models.activation_cache` checks it.
_OF_KNOWN_SIZE = {ACTIVATIONS}


class Checksum(NamedTuple):
    """Records what a file should be.

    Attributes:
        size: In bytes.
        hash: XXH3 of 128 bits, in hexadecimal digits; empty where the size alone is known.
    """

    size: int
    hash: str

    @classmethod
    def of(cls, path: Path) -> Checksum:
        """Compute the checksum of a file, which is read once and not kept in memory."""
        size = path.stat().st_size
        return cls(size, "" if path.name in _OF_KNOWN_SIZE else hash_part(path, 0, size))


def hash_part(path: Path, start: int, end: int) -> str:
    """Compute the hash of the bytes of a file from one to before another."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end and (count := file.readinto(buffer[: end - start])):
            digest.update(buffer[:count])
            start += count
    return digest.hexdigest()


def checksums_below(path: Path, name: str) -> dict[str, Checksum]:
    """Compute the checksum of a file, or of each file in a folder, by names that begin with `name`."""
    if not path.is_dir():
        return {name: Checksum.of(path)}
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {(Path(name) / file.relative_to(path)).as_posix(): Checksum.of(file) for file in files}


def is_of(name: str, of: str) -> bool:
    """Tell whether a name in a folder is that of a file, or of one of the files in a folder of this name."""
    return name == of or name.startswith(f"{of}/")


def read_checksums(folder: Path) -> dict[str, Checksum]:
    """Read the checksums that a folder keeps, by name; none where it keeps none, as those of earlier versions.

    Raises:
        RunError: They are damaged.
    """
    path = folder / CHECKSUMS
    try:
        stored = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError):
        stored = None
    if not isinstance(stored, dict) or not all(map(_is_checksum, stored.values())):
        raise RunError(f"{path}: changed since it was written; delete it, and the files beside it are used unchecked")
    return {name: Checksum(*checksum) for name, checksum in stored.items()}


def _is_checksum(stored: Any) -> bool:
    return isinstance(stored, list) and [type(value) for value in stored] == [int, str]


def differences(folder: Path, of: str = "", *, contents: bool) -> Iterator[tuple[str, str]]:
    """Find the files that are not as they were written: the name of each, and what is wrong with it.

    Args:
        folder: What keeps their checksums.
        of: The file or folder in it that is looked at; all if empty.
        contents: Whether to read them; else their sizes alone are compared.
    """
    for name, expected in read_checksums(folder).items():
        looked_at = name != CHECKSUMS and (not of or is_of(name, of))
        problem = difference(folder / name, expected, contents=contents) if looked_at else ""
        if problem:
            yield name, problem


def difference(path: Path, expected: Checksum, *, contents: bool = True) -> str:
    """Say what is wrong with a file; empty where nothing is."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != expected.size:
        return f"changed since it was written: it has {size:,} bytes, and had {expected.size:,}"
    if contents and expected.hash and Checksum.of(path) != expected:
        return "changed since it was written: its checksum differs"
    return ""
