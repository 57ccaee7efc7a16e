"""Read a configuration file: names of settings and their values, and nothing of what else YAML has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..console import printable
from ..errors import SettingsError
from ..limits import bounded

# A run keeps the names of all its files in such a file.
_MOST_BYTES = 1 << 23
_MEMORY, _SECONDS = 1 << 30, 60.0
_PROBLEM_WIDTH = 300


class _Loader(yaml.SafeLoader):
    """Refuses anchors, by which a short file holds what fills any memory, and keys that are there twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"anchors (& and *) are not read here, found one in line {event.start_mark.line + 1}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            # Names of settings may be written with hyphens.
            name = str(key.value).replace("-", "_")
            if name in names:
                raise yaml.YAMLError(f"'{key.value}' is there twice, again in line {key.start_mark.line + 1}")
            names.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read plain values from a file.

    Raises:
        SettingsError: The file is missing, is too large, or is not YAML of plain values.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read this configuration file: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise SettingsError(f"{path}: a configuration file has at most {_MOST_BYTES >> 20} MB; this is more")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: cannot read this configuration file: {error}") from error
    try:
        with bounded(_MEMORY, _SECONDS):
            return yaml.load(text, _Loader)
    except Exception as error:
        # Beside its own errors the parser raises whatever a date or a number that is none made Python raise.
        raise SettingsError(f"{path}: not YAML: {printable(str(error), _PROBLEM_WIDTH)}") from error
