"""Tables of every command's options, as the parser of the command line has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from forgetfilter.cli import build_parser
from results import table

_Key = tuple[tuple[str, ...], str | None]


def option_tables() -> str:
    """Format a section for each command. Options that `filter` has as well are listed with `filter` alone."""
    parts, known = [], set[_Key]()
    for name, command in _commands(build_parser()):
        parts.append(f"## forgetfilter {name}\n\n{command.description}")
        own = [command._positionals, command._optionals]
        groups = [group for group in command._action_groups if group not in own]
        everything = [("", [action for group in own for action in group._group_actions])]
        everything += [(group.title or "", group._group_actions) for group in groups]
        for title, actions in everything:
            rows = [
                (_said(action), _help(action))
                for action in actions
                if _key(action) not in known and not _is_help(action)
            ]
            if rows:
                parts += [f"{title}:"] if title else []
                parts.append(table(("option", "what it does"), rows))
        if name == "filter":
            known = {_key(action) for group in groups for action in group._group_actions}
        elif known & {_key(action) for action in command._actions}:
            parts.append("It also takes options that are listed with `filter`; `--help` names them.")
    return "\n\n".join(parts)


def _is_help(action: argparse.Action) -> bool:
    return any(flag.startswith("--help") for flag in action.option_strings)


def _commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                inner = list(_commands(command, f"{before}{name} "))
                yield from inner or [(before + name, command)]


def _key(action: argparse.Action) -> _Key:
    return tuple(action.option_strings), action.help


def _said(action: argparse.Action) -> str:
    """Write an option as on the command line."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings)


def _help(action: argparse.Action) -> str:
    said = (action.help or "").replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")
    return said + (f"; one of {', '.join(map(str, action.choices))}" if action.choices else "")
