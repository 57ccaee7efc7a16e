"""How a setting is declared, and how settings are read from a shell, a configuration file or a program.

A settings class holds options, and groups of them that are settings classes, too. Whoever writes settings down names an
option alone, without its group.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

from ..errors import SettingsError

T = TypeVar("T")
# How a shell and a program write that a setting is left to its default, as YAML's null does.
NONE = "none"
_LONGEST_SHOWN = 60
# What a setting may be where nothing else is said: numbers that are 0 or between these, and texts no longer than the
# name of a file may be.
_SMALLEST, _LARGEST = 1e-12, 1e9
_LONGEST = 4096

# Several names; a single one may be given as text.
Names = tuple[str, ...]
_EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Names: "a name or a list of names",
}


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    check: Callable[[Any], object] | None = None,
    listed: bool = False,
    shown: str = "",
    usual: bool = False,
) -> Any:
    """Declare one setting: default, help text with its unit, and the values it may take.

    `least` and `most` are among these, `above` is not. `check` is called with the value and raises SettingsError where
    that will not do. One that is `listed` holds names with commas between, and may be given as a list. A setting
    of a type such as `int | Literal["all"] | None` also takes the words all and none. On a command line its value is
    called `shown`, and `--help` lists it where it is `usual`.
    """
    bounds = {"least": least, "above": above, "most": most}
    metadata = {"help": help, "choices": choices, **bounds, "check": check, "shown": shown, "usual": usual}
    metadata["listed"] = listed
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
    options, kinds = options_of(cls), _kinds_of(cls)
    parsed: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in options:
            hint = _did_you_mean(name[:_LONGEST_SHOWN], list(options))
            raise SettingsError(f"{source}: unknown setting {_shown(key)}{hint}")
        parsed[name] = _parse(options[name], kinds[name], value, source)
    return settings_of(cls, **parsed)


def settings_of(cls: type[T], **options: Any) -> T:
    """Build a settings class from options of the right types; those that are not given have their defaults.

    Raises:
        TypeError: The class has no such option.
    """
    unknown = sorted(options.keys() - options_of(cls).keys())
    if unknown:
        raise TypeError(f"{cls.__name__} has no option {', '.join(unknown)}")
    kinds = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name in kinds:
        if dataclasses.is_dataclass(kinds[name]):
            inner = options.keys() & options_of(kinds[name]).keys()
            values[name] = settings_of(kinds[name], **{option: options[option] for option in inner})
        elif name in options:
            values[name] = options[name]
    return cls(**values)


def with_options(settings: T, **options: Any) -> T:
    """Copy settings with some options changed; see `settings_of`."""
    return settings_of(type(settings), **values_of(settings) | options)


def values_of(settings: Any) -> dict[str, Any]:
    """Collect the value of every option, by its name."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(settings):
        value = getattr(settings, spec.name)
        values |= values_of(value) if dataclasses.is_dataclass(value) else {spec.name: value}
    return values


def groups_of(cls: type) -> dict[type, dict[str, dataclasses.Field[Any]]]:
    """List the options of a settings class by the class that declares them: those of its groups, then its own."""
    kinds = typing.get_type_hints(cls)
    groups: dict[type, dict[str, dataclasses.Field[Any]]] = {}
    own = {}
    for spec in dataclasses.fields(cls):
        if dataclasses.is_dataclass(kinds[spec.name]):
            groups |= groups_of(kinds[spec.name])
        else:
            own[spec.name] = spec
    return {**groups, cls: own}


def options_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """List the options of a settings class and of its groups, by name."""
    return {name: spec for group in groups_of(cls).values() for name, spec in group.items()}


def _kinds_of(cls: type) -> dict[str, Any]:
    return {name: typing.get_type_hints(group)[name] for group, specs in groups_of(cls).items() for name in specs}


def to_mapping(settings: Any) -> dict[str, Any]:
    """The settings as plain values that `from_mapping` reads back to the same settings."""
    values = values_of(settings)
    lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
    # A single name is written as the text that it is.
    return values | {name: value[0] if len(value) == 1 else value for name, value in lists.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML configuration file into raw values.

    Raises:
        SettingsError: The file is missing, is not YAML, or is not a mapping of names.
    """
    from .yaml_file import read_yaml

    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected 'key: value' lines, found a {type(values).__name__}")
    odd = [key for key in values if not isinstance(key, str)]
    if odd:
        raise SettingsError(f"{path}: expected names of settings before the colons, found {_shown(odd[0])}")
    return values


def write_config(path: Path, settings: Any) -> None:
    """Write settings as YAML that `read_config` and `from_mapping` read back to the same settings."""
    import yaml

    path.write_text(yaml.safe_dump(to_mapping(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _parse(spec: dataclasses.Field[Any], kind: Any, value: Any, source: str) -> Any:
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    words = [word for one in kinds if typing.get_origin(one) is Literal for word in typing.get_args(one)]
    words += [NONE] * (type(None) in kinds)
    said = value.strip().lower() if isinstance(value, str) else value
    if type(None) in kinds and said in (None, NONE):
        return None
    if said in words:
        return said
    kind = kinds[0]
    listed = spec.metadata["listed"]
    try:
        parsed = _convert(kind, _joined(value) if listed else value)
    except (TypeError, ValueError, OverflowError):
        expected = _either(_EXPECTED.get(Names if listed else kind, "name=column pairs"), *words)
        hint = "; leave it out for its default" if value is None else ""
        raise SettingsError(f"{source}: {spec.name} must be {expected}, found {_shown(value)}{hint}") from None
    _check_range(spec, parsed, words, source)
    _check_texts(spec, parsed, source)
    if spec.metadata["check"] is not None:
        try:
            spec.metadata["check"](parsed)
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from error
    return parsed


def _check_range(spec: dataclasses.Field[Any], value: Any, words: list[str], source: str) -> None:
    choices, least, above, most = (spec.metadata[key] for key in ("choices", "least", "above", "most"))
    if choices and value not in choices:
        raise SettingsError(f"{source}: {spec.name} must be one of {', '.join(choices)}; found {_shown(value)}")
    if type(value) not in (int, float):
        return
    low = (least is not None and value < least) or (above is not None and value <= above)
    if isinstance(value, float) and 0 < abs(value) < _SMALLEST:
        bounds = f"at least {_SMALLEST:g}" if above is not None else f"0 or at least {_SMALLEST:g}"
    elif not low and value <= (_LARGEST if most is None else most):
        return
    elif most is None and not low:
        bounds = f"at most {_LARGEST:g}"
    elif above is not None:
        bounds = f"above {above:g}" if low else f"at most {most:.10g}"
    else:
        bounds = f"at least {least:g}" if most is None else f"between {least:.10g} and {most:.10g}"
    raise SettingsError(f"{source}: {spec.name} must be {_either(bounds, *words)}, found {_shown(value)}")


def _check_texts(spec: dataclasses.Field[Any], value: Any, source: str) -> None:
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and len(text) > _LONGEST:
            raise SettingsError(f"{source}: {spec.name} has at most {_LONGEST:,} characters, found {_shown(text)}")
        if isinstance(text, str) and "\0" in text:
            raise SettingsError(f"{source}: {spec.name}: found {_shown(text)}, with a NUL character")


def _either(*values: str) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python does not write so long a number.
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _convert(kind: Any, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if kind is str:
        if isinstance(value, bool) or not isinstance(value, (str, numbers.Real, PurePath)):
            raise TypeError
        return str(value)
    if kind in (int, float):
        return _number(kind, value)
    if kind == Names:
        names = [value] if isinstance(value, (str, Path)) else value
        if not isinstance(names, (list, tuple)):
            raise TypeError
        if "" in names and len(names) > 1:
            raise ValueError
        return tuple(_convert(str, str(name) if isinstance(name, Path) else name) for name in names if name != "")
    if value is None or (isinstance(value, str) and value.strip().lower() == NONE):
        return {}
    if isinstance(value, str):
        pairs = [(name.strip(), column.strip()) for name, column in (pair.split("=", 1) for pair in split_names(value))]
    elif isinstance(value, Mapping):
        pairs = [(_convert(str, name), _convert(str, column)) for name, column in value.items()]
    else:
        raise TypeError
    columns = dict(pairs)
    if len(columns) < len(pairs) or not all((*columns, *columns.values())):
        raise ValueError
    return columns


def _joined(value: Any) -> Any:
    """Write a list of names with commas between, as it is kept; what is no list stays as it is."""
    if not isinstance(value, (list, tuple)):
        return value
    names = [_convert(str, name) for name in value]
    if not all(split_names(name) == [name] for name in names):
        raise ValueError
    return ",".join(names)


def _number(kind: type, value: Any) -> int | float:
    """A finite number of the kind; a whole one may be written as 1e3."""
    if isinstance(value, bool):
        raise TypeError
    if kind is int and isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number) or (kind is int and not number.is_integer()):
        raise ValueError
    return int(number) if kind is int else number


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"


def keyword_parameters(cls: type, *, optional: bool = False) -> list[inspect.Parameter]:
    """The settings of a class as keyword-only parameters of a signature; if `optional`, None leaves each as it is."""
    kinds, only = _kinds_of(cls), inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(
            name,
            only,
            default=None if optional else default_of(spec),
            annotation=_annotation(spec, kinds[name]) | None if optional else _annotation(spec, kinds[name]),
        )
        for name, spec in options_of(cls).items()
    ]


def _annotation(spec: dataclasses.Field[Any], kind: Any) -> Any:
    return kind | Sequence[str] if spec.metadata["listed"] else kind


def default_of(spec: dataclasses.Field[Any]) -> Any:
    """What a setting is where nobody says otherwise."""
    made = spec.default_factory
    return spec.default if made is dataclasses.MISSING else made()


def settings_help(cls: type) -> str:
    """What each setting of a class is for, with its default, a line each."""
    return "\n".join(
        f"    {name}: {spec.metadata['help']} (default: {default_of(spec)!r})" for name, spec in options_of(cls).items()
    )
