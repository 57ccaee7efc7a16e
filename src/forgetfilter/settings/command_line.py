"""Put settings on a command line: the usual options under `--help`, all of them under `--help-all`."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from ..console import fit_to_show, show
from ..interruption import speaks_for_all
from .option import Names, groups_of, options_of

_MOST_CHOICES_SHOWN = 4
_NAMES_OF_VALUES = {int: "N", float: "NUMBER", Names: "NAME", str: "TEXT"}
_STATUS_WRONG_USE = 2


class Parser(argparse.ArgumentParser):
    """Parses one command. A wrong option gets one line, and help shows the usual options alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The beginning of an option might come to stand for another one with the next version.
        super().__init__(*args, **kwargs | {"allow_abbrev": False})
        self.set_defaults(parser=self)
        self._unusual: list[argparse.Action] = []

    def hide(self, action: argparse.Action) -> None:
        """Show an option under `--help-all` alone."""
        if not self._unusual:
            self.add_argument(
                "--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help="show all options and exit"
            )
        self._unusual.append(action)

    def format_help(self) -> str:
        helps = [action.help for action in self._unusual]
        for action in self._unusual:
            action.help = argparse.SUPPRESS
        text = super().format_help()
        for action, help in zip(self._unusual, helps, strict=True):
            action.help = help
        return text

    def format_whole_help(self) -> str:
        """Describe all options."""
        return super().format_help()

    def parse(self, arguments: Sequence[str] | None, namespace: argparse.Namespace) -> argparse.Namespace:
        """Parse a command with its options into a namespace; ends the program where one is unknown."""
        options, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            parser: Parser = options.parser
            parser.refuse(unknown[0])
        return options

    def refuse(self, word: str) -> NoReturn:
        """End the program because of a word that is no option of this command."""
        flag = word.split("=")[0]
        known = [name for name in self._option_string_actions if name.startswith("--")]
        self.error(f"there is no option '{flag}'{_perhaps(flag, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            commands = list(action.choices)
            instead = _perhaps(str(value), commands) or f", only {', '.join(commands)}"
            self.error(f"there is no command '{value}'{instead}")
        super()._check_value(action, value)

    def _print_message(self, message: str, file: Any = None) -> None:
        # It may quote what was typed, which a terminal should not obey.
        if message:
            show(fit_to_show(message.removesuffix("\n")), file)

    def error(self, message: str) -> NoReturn:
        """End the program with one line."""
        if speaks_for_all():
            self._print_message(f"{self.prog}: {message}; for its usage: {self.prog} --help\n", sys.stderr)
        raise SystemExit(_STATUS_WRONG_USE)


def _perhaps(word: str, known: Sequence[str]) -> str:
    """Name the known word that a misspelt one is nearest to; empty where none is near."""
    close = difflib.get_close_matches(word, known, n=1)
    return f", perhaps {close[0]}" if close else ""


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, Parser)
        show(parser.format_whole_help().removesuffix("\n"))
        raise SystemExit(0)


def add_options(parser: Parser, cls: type, *, leave_out: set[str] | None = None, default: str | None = None) -> None:
    """Add one option for each setting of a class; values stay text, which `from_mapping` parses.

    Args:
        parser: The command that gets them.
        cls: The settings class.
        leave_out: Settings that get no option.
        default: What to say of all defaults, instead of what they are.
    """
    for group, fields in groups_of(cls).items():
        heading = parser.add_argument_group((group.__doc__ or "").strip().splitlines()[0].rstrip("."))
        kinds = typing.get_type_hints(group)
        for name, field in fields.items():
            if name in (leave_out or set()):
                continue
            action = _add_option(heading, cls, name, field, kinds[name], default or _shown_default(field))
            if not field.metadata["usual"]:
                parser.hide(action)


def _add_option(
    heading: argparse._ArgumentGroup, cls: type, name: str, field: dataclasses.Field[Any], kind: Any, default: str
) -> argparse.Action:
    flag, help = "--" + name.replace("_", "-"), help_of(cls, name)
    common: dict[str, Any] = {"default": argparse.SUPPRESS}
    if isinstance(field.default, bool):
        return heading.add_argument(flag, action=argparse.BooleanOptionalAction, help=help, **common)
    choices = field.metadata["choices"]
    if len(choices) > _MOST_CHOICES_SHOWN:
        help += f"; one of {', '.join(choices)}"
    return heading.add_argument(
        flag,
        action="append" if isinstance(field.default, tuple) else "store",
        metavar=_name_of_value(field, kind),
        help=help + (f" (default: {default})" if default else ""),
        **common,
    )


def _name_of_value(field: dataclasses.Field[Any], kind: Any) -> str:
    choices = field.metadata["choices"]
    if field.metadata["shown"]:
        return str(field.metadata["shown"])
    if choices:
        return "{" + ",".join(choices) + "}" if len(choices) <= _MOST_CHOICES_SHOWN else "NAME"
    kinds = (kind,) if kind in _NAMES_OF_VALUES else typing.get_args(kind)
    return next((_NAMES_OF_VALUES[one] for one in kinds if one in _NAMES_OF_VALUES), "TEXT")


def _shown_default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING or field.default is None:
        return "none"
    return "" if field.default == () else str(field.default).replace("%", "%%")


def help_of(cls: type, name: str) -> str:
    """The help text of a setting, as argparse takes it."""
    return str(options_of(cls)[name].metadata["help"]).replace("%", "%%")
