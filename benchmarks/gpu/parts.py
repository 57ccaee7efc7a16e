"""Cut files into parts that are small enough to be carried to another machine, and put them together there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

LISTED = "parts.json"
_BLOCK = 1 << 20


def cut(file: Path, folder: Path, most: int) -> list[Path]:
    """Cut a file into parts of at most `most` bytes; return them in order."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Path] = []
    with file.open("rb") as whole:
        while (part := whole.read(most)) or not parts:
            parts.append(folder / f"{file.name}.part{len(parts):03}")
            parts[-1].write_bytes(part)
    return parts


def describe(files: list[Path], folder: Path, most: int) -> Path:
    """Write which files the parts in a folder make, in how many parts, and the SHA-256 of each; return the list."""
    listed = {file.name: {"parts": -(-file.stat().st_size // most), "sha256": digest(file)} for file in files}
    (folder / LISTED).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return folder / LISTED


def join(folder: Path, output: Path) -> dict[str, str]:
    """Put files together of which all parts have arrived; return how each listed file stands.

    Raises:
        SystemExit: The list of the files is missing, or what was put together is not what was cut.
    """
    if not (folder / LISTED).exists():
        raise SystemExit(f"{folder}: has no {LISTED}; carry it along with the parts")
    output.mkdir(parents=True, exist_ok=True)
    states = {}
    for name, listed in json.loads((folder / LISTED).read_text(encoding="utf-8")).items():
        parts = sorted(folder.glob(f"{name}.part*"))
        if (output / name).exists():
            states[name] = "there"
        elif len(parts) < listed["parts"]:
            states[name] = f"{len(parts)} of {listed['parts']} parts"
        else:
            partial = output / f"{name}.partial"
            with partial.open("wb") as whole:
                for part in parts:
                    with part.open("rb") as read:
                        shutil.copyfileobj(read, whole)
            if digest(partial) != listed["sha256"]:
                raise SystemExit(f"{name}: a part was damaged on its way; carry its parts again")
            partial.rename(output / name)
            states[name] = "put together"
    return states


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with file.open("rb") as read:
        while block := read.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
