"""Find the columns that hold the fields of a layout, by their names or as the user named them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import product

from ..errors import InputError
from .chats import is_missing
from .layouts import Layout, Row, is_turn, turn_list

PREFERENCE = "preference"
# The fields of each layout, in the order in which layouts are recognised. `?` marks an optional one.
FIELDS = {
    PREFERENCE: ("prompt?", "input?", "chosen", "rejected", "system?", "tools?", "history?"),
    "messages": ("messages", "system?", "tools?"),
    "sharegpt": ("conversations", "system?", "tools?"),
    "kto": ("prompt", "completion", "label", "system?", "tools?"),
    "prompt-completion": ("prompt", "completion", "system?", "tools?"),
    "alpaca": ("instruction", "input?", "output", "system?", "history?"),
    "text": ("text",),
}
# Other names of a field, in files of other tools.
_ALSO = {
    "messages": ("conversations", "conversation", "chat", "dialog", "dialogue"),
    "conversations": ("conversation",),
    "prompt": ("question", "query", "instruction", "input"),
    "completion": ("response", "answer", "output"),
    "output": ("response", "answer", "completion"),
    "input": ("context",),
    "instruction": ("question", "prompt", "query"),
    "system": ("system_prompt",),
    "tools": ("functions",),
    "chosen": ("preferred_output", "chosen_response", "preferred"),
    "rejected": ("non_preferred_output", "rejected_response", "non_preferred"),
}
# Columns in which preferences keep the turns before both answers.
_TURNS_BEFORE = ("messages", "conversations", "conversation")
# What a row says about itself, which is not read.
_UNREAD = {"label"}
# Layouts whose column names have other meanings, too.
_PREFERENCES = (PREFERENCE, "kto")
# Names of the same thing. Where a file has several of them, only its user knows which one is meant.
_ALIKE = ({"prompt", "question", "query", "instruction"}, {"completion", "response", "answer", "output"})


def find_layout(row: Row, name: str, columns: Mapping[str, str], source: str) -> Layout:
    """Choose the layout for a data set, from one of its rows.

    Args:
        row: The first row that is an object.
        name: The layout that the user named, or `auto`.
        columns: Where fields are, as far as the user named them: field to column.
        source: What to call the data set in messages.

    Raises:
        InputError: No layout fits, a named column is not there, or a named field belongs to no layout.
    """
    known = {f.rstrip("?") for fields in FIELDS.values() for f in fields}
    for field, column in columns.items():
        if field not in known:
            raise InputError(f"{source}: '{field}' is no field of any layout; fields are {', '.join(sorted(known))}")
        if column not in row:
            raise InputError(f"{source}: there is no column '{column}'; columns are {', '.join(map(str, row))}")
    candidates = list(FIELDS) if name == "auto" else [name]
    for layout in candidates:
        where = _exactly(layout, row, columns, looks=name == "auto")
        if where is not None:
            return Layout(layout, where)
    # A prompt and its completion come last, as everything else in a row would be left out.
    for layout in sorted(candidates, key=("kto", "prompt-completion").__contains__):
        where = _by_other_names(layout, row, columns)
        if where is not None:
            return Layout(layout, where)
    if name == "auto" and (where := _exactly(PREFERENCE, row, columns, looks=False)) is not None:
        # Nothing else fits: both answers of this pair are missing.
        return Layout(PREFERENCE, where)
    raise InputError(_unknown(row, name, columns, source))


def text_columns(layout: str, columns: Mapping[str, str] | None) -> set[str]:
    """Return the columns that hold a row's texts and its id, in a layout with these columns."""
    read = (field for field, _ in _fields(layout) if field not in _UNREAD)
    return {"id", *((columns or {}).get(field, field) for field in read)}


def _fields(layout: str) -> Iterator[tuple[str, bool]]:
    """Yield each field of a layout, and whether it is optional."""
    return ((field.rstrip("?"), field.endswith("?")) for field in FIELDS[layout])


def _exactly(layout: str, row: Row, columns: Mapping[str, str], *, looks: bool) -> dict[str, str] | None:
    """Find a layout's fields, if the required ones are where the user said or in columns of their own name.

    Args:
        layout, row, columns: As in `find_layout`.
        looks: Whether the values have to be those of a preference, too, as nobody named the layout.
    """
    fields = dict(_fields(layout))
    if any(column not in fields for column in columns):
        return None
    required = {field: columns.get(field, field) for field, optional in fields.items() if not optional}
    if any(column not in row for column in required.values()):
        return None
    if looks and layout in _PREFERENCES and not _fits_all(row, required):
        return None
    return _with_optional(layout, row, columns, required)


def _with_optional(
    layout: str, row: Row, columns: Mapping[str, str], required: Mapping[str, str]
) -> dict[str, str] | None:
    """Find the optional fields, too, once the required ones are found; None where that is ambiguous."""
    where = dict(required)
    for field, optional in _fields(layout):
        if not optional:
            continue
        if field in columns:
            where[field] = columns[field]
            continue
        taken = {*where.values(), *columns.values()}
        names = [name for name in (field, *_other_names(layout, field)) if name in row and name not in taken]
        if layout == PREFERENCE:
            if field == "prompt" and names[:1] != ["prompt"] and len(_ALIKE[0] & {*names}) > 1:
                return None
            if field in ("input", "history") and where["prompt"] != "instruction":
                # Only Alpaca's instructions have an input below them, and turns before.
                continue
        where[field] = names[0] if names else field
    return where


def _other_names(layout: str, field: str) -> tuple[str, ...]:
    """Return the other names of a field in a layout."""
    if layout == PREFERENCE and field == "prompt":
        return (*_ALSO[field], *_TURNS_BEFORE)
    return _ALSO.get(field, ())


def _by_other_names(layout: str, row: Row, columns: Mapping[str, str]) -> dict[str, str] | None:
    """Find a layout's fields by the names that other tools give them; None where that is impossible or ambiguous."""
    fields = dict(_fields(layout))
    if any(field not in fields for field in columns):
        return None
    if layout == "alpaca" and "input" not in columns and not {"input", "context"} & set(row):
        # A prompt and its completion, by Alpaca's names.
        return None
    required = [field for field, optional in fields.items() if not optional]
    names = [
        [columns[field]] if field in columns else [name for name in (field, *_ALSO.get(field, ())) if name in row]
        for field in required
    ]
    for chosen in product(*names):
        if len(set(chosen)) < len(chosen) or not all(map(_fits, required, (row[name] for name in chosen))):
            continue
        unnamed = set(chosen) - set(columns.values())
        if any(unnamed & alike and len(alike & set(row)) > 1 for alike in _ALIKE):
            return None
        return _with_optional(layout, row, columns, dict(zip(required, chosen, strict=True)))
    return None


def _fits(field: str, value: object) -> bool:
    """Tell whether a column's value suits a field, where its name alone does not show it."""
    if field in ("messages", "conversations"):
        return isinstance(turn_list(value), list)
    if field == "label":
        return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
    if field in ("chosen", "rejected"):
        # One of the two answers may be missing in a row; a number or a flag is no answer.
        return is_missing(value) or isinstance(value, (str, list, Mapping))
    return True


def _fits_all(row: Row, required: Mapping[str, str]) -> bool:
    """Tell whether the required columns hold what a preference has there; one answer may be missing, not both."""
    answers = [row[column] for field, column in required.items() if field in ("chosen", "rejected")]
    empty = bool(answers) and all(map(is_missing, answers))
    return not empty and all(_fits(field, row[column]) for field, column in required.items())


def _unknown(row: Row, name: str, columns: Mapping[str, str], source: str) -> str:
    """Say why no layout fits, which one is closest and how to name its columns."""
    there = [str(column) for column in row]
    wanted = "any known layout" if name == "auto" else f"the layout '{name}' ({', '.join(FIELDS[name])})"
    problem = f"{source}: the columns {', '.join(there) or '(none)'} do not fit {wanted}"
    layout, guessed = _closest(row, name, columns)
    if not guessed:
        return f"{problem}. A row needs a prompt and a completion, messages, or a text, each in a column of its own"
    pairs = ",".join(f"{field}={column}" for field, column in guessed.items())
    option = f"--columns {shlex.quote(pairs)}"
    if layout == name:
        return f"{problem}. Leave --layout out to have it found by looking, or say where the fields are: {option}"
    return f"{problem}. The closest is {layout}: if these are its columns, pass {option}"


def _closest(row: Row, name: str, columns: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Guess the layout of a row and its columns; no columns where there is no good guess."""
    for column, value in row.items():
        turns = turn_list(value)
        if isinstance(turns, list) and turns and is_turn(turns[0]):
            return "messages", {"messages": str(column)}
    prompts = sorted(_ALIKE[0] & set(row))
    if {"chosen", "rejected"} <= set(row) and prompts and name in ("auto", PREFERENCE):
        return PREFERENCE, {"prompt": prompts[0]}
    texts = [str(column) for column, value in row.items() if isinstance(value, str) and column != "id"]
    layout = name if name in FIELDS else "prompt-completion"
    required = [field for field, optional in _fields(layout) if not optional]
    if len(texts) < len(required):
        layout, required = "text", ["text"]
    guessed = dict(columns) if set(columns) <= set(required) else {}
    for field in required:
        left = [column for column in texts if column not in guessed.values()]
        if field not in guessed and left:
            guessed[field] = _likest(field, left)
    return layout, guessed if len(guessed) == len(required) else {}


def _likest(field: str, columns: list[str]) -> str:
    """Return the column whose name is most like a field's, else the first."""
    names = (field, *_ALSO.get(field, ()))
    for column in columns:
        if any(name in column.lower() for name in names):
            return column
    lowered = {column.lower(): column for column in columns}
    close = (match for name in names for match in get_close_matches(name, lowered, 1))
    return lowered[next(close, columns[0].lower())]
