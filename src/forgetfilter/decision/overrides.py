"""Read and write a person's decisions, which override the filter's, as the report saves them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..console import printable
from ..errors import InputError, RunError
from ..runs.layout import SCORES
from ..settings.groups import DecisionSettings
from ..settings.option import NONE, from_mapping

KEPT, REMOVED = "kept", "removed"
FILTER = "filter"
_NAMED, _ID_SHOWN = 3, 60
# As `data.rows` makes them.
_HASHED = re.compile(r"[0-9a-f]{16}(#\d+)?")


def write_overrides(overrides: Overrides, path: Path) -> None:
    """Write overrides to a file that `read_overrides` reads."""
    content = {"reviewer": overrides.reviewer, **overrides.settings, "decisions": overrides.decisions}
    content |= {"by_group": list(overrides.by_group)} if overrides.by_group else {}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Overrides:
    """A person's decisions about single rows.

    Attributes:
        reviewer: The person's name.
        decisions: `kept` or `removed`, by the row's id.
        settings: The settings of the filter's decision that this person saw: `threshold`, `signal` and
            `drop_unscorable`; files of earlier versions, or from elsewhere, may lack them.
        by_group: Ids of the rows that were decided about together with a group of rows, which the report can undo
            together.
    """

    reviewer: str = "person"
    decisions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    by_group: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identify the decisions; empty where there are none."""
        if not self.decisions:
            return ""
        return blake2b(json.dumps(sorted(self.decisions.items())).encode(), digest_size=8).hexdigest()

    def find(self, ids: pa.ChunkedArray, where: Path) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Find the positions of the rows that were decided about, and whether each is to be removed.

        Raises:
            RunError: A row is not among `ids`, the ids of the run in the folder `where`.
        """
        names = list(self.decisions)
        indices = pc.index_in(ids, value_set=pa.array(names, pa.string()))
        positions: NDArray[np.intp] = np.flatnonzero(indices.is_valid().to_numpy())
        decisions = indices.drop_null().to_numpy()
        decided = set(decisions.tolist())
        unknown = [name for i, name in enumerate(names) if i not in decided]
        if unknown:
            elsewhere = "; were these decisions made about another run?" if not decided else ""
            raise RunError(f"{where}: has no row {_some(unknown)}: {_how_they_look(ids)}{elsewhere}")
        removed = np.array([decision == REMOVED for decision in self.decisions.values()], dtype=bool)
        return positions, removed[decisions]


def _some(names: list[str]) -> str:
    shown = ", ".join(printable(name, _ID_SHOWN) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" * (len(names) > _NAMED))


def _how_they_look(ids: pa.ChunkedArray) -> str:
    one: str = ids[0].as_py()
    why = " (a hash of the text, as there is no column 'id')" if _HASHED.fullmatch(one) else ""
    return f"ids here look like {printable(one, _ID_SHOWN)}{why}; {SCORES} lists them"


def given_overrides(place: Path | str | None) -> Overrides | None:
    """Read the file that a user named, as `read_overrides` does; the text `none` stands for nobody's decisions."""
    if isinstance(place, Path):
        return read_overrides(place)
    return Overrides() if place == NONE else None


def read_overrides(path: Path) -> Overrides:
    """Read the file that the report saves: `{"reviewer": NAME, "decisions": {ID: "kept" or "removed"}}`.

    The file may also hold the decision settings `threshold`, `signal` and `drop_unscorable`, and in `by_group` the ids
    of the rows that were decided about as groups.

    Raises:
        InputError: The file cannot be read or is not of this form; the message names the row.
        SettingsError: A setting has an invalid value.
    """
    expected = 'expected {"reviewer": NAME, "decisions": {ID: "kept" or "removed"}}, as the report saves it'
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON; {expected}") from error
    decisions = value.get("decisions") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(decisions, dict):
        raise InputError(f"{path}: no decisions in it; {expected}")
    reviewer = value.get("reviewer", "")
    if not isinstance(reviewer, str):
        raise InputError(f"{path}: reviewer must be text, found {str(reviewer)[:40]!r}; {expected}")
    for name, decision in decisions.items():
        if decision not in (KEPT, REMOVED):
            raise InputError(f"{path}: row {name}: found {str(decision)[:40]!r}, expected '{KEPT}' or '{REMOVED}'")
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise InputError(f"{path}: row {name!r}: half a character in its id, which no row of ours has")
    reviewer = reviewer.encode("utf-8", "replace").decode().strip()
    saved = {setting.name: value[setting.name] for setting in fields(DecisionSettings) if setting.name in value}
    parsed = from_mapping(DecisionSettings, saved, str(path))
    settings = {name: getattr(parsed, name) for name in saved}
    by_group = value.get("by_group") or []
    if not isinstance(by_group, list) or not all(isinstance(name, str) for name in by_group):
        raise InputError(f"{path}: by_group: found {str(by_group)[:40]!r}, expected a list of ids")
    known = tuple(name for name in by_group if name in decisions)
    # A name like the filter's own would hide that a person decided.
    return Overrides("person" if reviewer in ("", FILTER) else reviewer, decisions, settings, known)
