"""What the work in a folder was made from: whether it is ours, and what differs from what is asked for now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import RunError
from .checksums import read_checksums
from .files import write_json, write_text
from .layout import LOCK, MANIFEST, PARTIAL, PREVIOUS


@dataclass(frozen=True)
class Manifest:
    """What the work in a folder was made from.

    Attributes:
        version: The version of this program.
        fingerprints: Hashes of inputs, by name.
        settings: What was chosen, by name, as JSON has it.
    """

    version: str
    fingerprints: Mapping[str, str]
    settings: Mapping[str, Any]

    @classmethod
    def now(cls, fingerprints: Mapping[str, str], settings: Mapping[str, Any]) -> Manifest:
        """What work that begins now is made from; settings become what JSON reads back."""
        return cls(__version__, dict(fingerprints), json.loads(json.dumps(dict(settings))))

    @classmethod
    def find(cls, path: Path) -> Manifest | None:
        """Read a manifest; None where the file is none of ours: many a folder of other things has one of that name."""
        try:
            found = json.loads(path.read_bytes()) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        version, fingerprints, settings = (found.get(name) for name in ("version", "fingerprints", "settings"))
        if not isinstance(fingerprints, dict) or not isinstance(settings, dict):
            return None
        return cls(str(version), fingerprints, settings)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest that has to be there.

        Raises:
            RunError: It is not, or it is no manifest.
        """
        found = cls.find(path)
        if found is None:
            raise RunError(f"{path}: not a manifest that forgetfilter wrote; name another folder")
        return found

    def write(self, path: Path, keeper: Path | None = None) -> None:
        """Write it, whole or not at all; `keeper` is that of `files.written_whole`."""
        write_json(asdict(self), path, keeper)

    def differences(self, now: Manifest) -> dict[str, str]:
        """Tell what is not so now: name to description."""
        names = [*now.fingerprints, *(name for name in self.fingerprints if name not in now.fingerprints)]
        differences = {
            name: f"{name}: its content is not what the run was made from"
            for name in names
            if self.fingerprints.get(name) != now.fingerprints.get(name)
        }
        for name, value in now.settings.items():
            if value != self.settings.get(name):
                differences[name] = f"{name}: was {self.settings.get(name)!r}, is now {value!r}"
        if now.version != self.version:
            differences["version"] = f"forgetfilter: was {self.version}, is now {now.version}"
        return differences

    def claim(self, path: Path, what: str) -> None:
        """Begin work in a folder, or go on with it where it was made from the same.

        Args:
            path: The folder's manifest, which is written unless it is there.
            what: What to say of work that was not: "this evaluation was started differently".

        Raises:
            RunError: It was made from something else; names what differs.
        """
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(path)
            return
        differences = Manifest.read(path).differences(self)
        if differences:
            raise RunError(f"{path.parent}: {what}. {'; '.join(differences.values())}. Name another --output")


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or what is left of one that was to be replaced."""
    return any(Manifest.find(folder / MANIFEST) is not None or was_run(folder) for folder in (path, path / PREVIOUS))


def was_run(path: Path) -> bool:
    """Tell whether a folder held a run, by the checksums that it keeps, whatever happened to its manifest."""
    try:
        return MANIFEST in read_checksums(path)
    except RunError:
        # Somebody has a file of this name that is none of ours.
        return False


def refuse_others(path: Path, what: str, *, ours: bool) -> None:
    """Leave alone what somebody else put where something is to be written.

    Args:
        path: The folder.
        what: What it should hold: "not a run".
        ours: Whether it does.

    Raises:
        RunError: It holds something else.
    """
    if not ours and path.exists() and not is_free(path):
        raise RunError(f"{path}: there is something here already, and it is {what}; name another folder")


def is_free(path: Path) -> bool:
    """Whether nothing is in a folder but what work may leave that was killed at its very start."""
    return path.is_dir() and not any(_others(entry.name for entry in path.iterdir()))


def _others(names: Iterable[str]) -> Iterable[str]:
    return (name for name in names if name != LOCK and not name.startswith(PARTIAL))


def made_of(path: Path, key: str) -> bool:
    """Whether a file that `note_made_of` wrote is there and says this."""
    return path.is_file() and path.read_bytes() == key.encode("utf-8", "replace")


def note_made_of(path: Path, key: str) -> None:
    """Keep, beside work, what it was made from, where one value tells that."""
    write_text(key, path)
