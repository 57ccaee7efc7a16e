"""How a setting is declared, and how settings are read from a shell, a configuration file or a program."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from .errors import SettingsError

T = TypeVar("T")

# Several names; a single one may be given as text.
Names = tuple[str, ...]


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """Declare one setting: default, help text with its unit, and the values it may take.

    `check` is called with the value and raises SettingsError where that will not do.
    """
    metadata = {"help": help, "choices": choices, "least": least, "most": most, "check": check}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def split_names(value: str) -> list[str]:
    """The names in a list that is written with commas."""
    return [name.strip() for name in value.split(",") if name.strip()]


def from_mapping(cls: type[T], values: Mapping[str, Any], source: str = "settings") -> T:
    """Build a settings class from raw values, as text from a shell or as parsed from YAML.

    Keys may be written with hyphens or underscores.

    Raises:
        SettingsError: An unknown key, or a value of the wrong type or out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(cls)
    parsed: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            raise SettingsError(f"{source}: unknown setting '{key}'{_did_you_mean(name, list(fields))}")
        parsed[name] = _parse(fields[name], kinds[name], value, source)
    return cls(**parsed)


def to_mapping(settings: Any) -> dict[str, Any]:
    """The settings as plain values that `from_mapping` reads back to the same settings."""
    values = dataclasses.asdict(settings)
    lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    # A single name is written as the text that it is.
    return values | {name: value[0] if len(value) == 1 else value for name, value in lists.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML configuration file into raw values.

    Raises:
        SettingsError: The file is missing, is not YAML, or is not a mapping.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot read this configuration file: {error}") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise SettingsError(f"{path}: not YAML: {problem}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected 'key: value' lines, found a {type(values).__name__}")
    return values


def write_config(path: Path, settings: Any) -> None:
    """Write settings as YAML that `read_config` and `from_mapping` read back to the same settings."""
    import yaml

    path.write_text(yaml.safe_dump(to_mapping(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _parse(spec: dataclasses.Field[Any], kind: Any, value: Any, source: str) -> Any:
    optional = isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)
    if optional:
        if value is None:
            return None
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    try:
        parsed = _convert(kind, value)
    except (TypeError, ValueError):
        expected = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "text",
            Names: "text or a list of texts",
        }.get(kind, "name=column pairs")
        raise SettingsError(f"{source}: {spec.name} must be {expected}, found {value!r}") from None
    choices, least, most = (spec.metadata[key] for key in ("choices", "least", "most"))
    if choices and parsed not in choices:
        raise SettingsError(f"{source}: {spec.name} must be one of {', '.join(choices)}; found {parsed!r}")
    if (least is not None and parsed < least) or (most is not None and parsed > most):
        bounds = f"at least {least:g}" if most is None else f"between {least:g} and {most:g}"
        raise SettingsError(f"{source}: {spec.name} must be {bounds}, found {value}")
    if spec.metadata["check"] is not None:
        spec.metadata["check"](parsed)
    return parsed


def _convert(kind: Any, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if kind is str:
        if isinstance(value, (dict, list, bool)) or value is None:
            raise TypeError
        return str(value)
    if kind in (int, float):
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        if number != number or abs(number) == float("inf") or (kind is int and number != int(number)):
            raise ValueError
        return kind(number)
    if kind == Names:
        names = [value] if isinstance(value, (str, Path)) else value
        if not isinstance(names, (list, tuple)):
            raise TypeError
        return tuple(_convert(str, str(name) if isinstance(name, Path) else name) for name in names if name != "")
    if isinstance(value, str):
        pairs = [pair.split("=", 1) for pair in value.split(",") if pair]
        return {name.strip(): column.strip() for name, column in pairs}
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(name): str(column) for name, column in value.items()}


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"
