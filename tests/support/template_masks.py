"""What is trained on of a row, as text: the one place where the tests of templates call the code under test."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jinja2

from forgetfilter.data.chats import FieldError
from forgetfilter.data.columns import find_layout
from forgetfilter.data.templates import without_clock
from forgetfilter.data.tokens import Encoder
from forgetfilter.errors import InputError

LONGEST = 1 << 20


@cache
def _encoder(tokenizer: Any, template: str) -> Encoder:
    return Encoder(tokenizer, template, LONGEST)


def encoded(row: Any, tokenizer: Any, template: str = "chat") -> Any:
    """One row as tokens, or None where it is refused."""
    try:
        chat = find_layout(row, "auto", {}, "data").chat(row)
        (tokens,) = _encoder(tokenizer, template).encode([("x", 0, chat)])
    except (FieldError, InputError):
        return None
    return tokens


def unshown(row: Any, tokenizer: Any) -> tuple[str, ...]:
    """What the template leaves out of a row, by name, in order."""
    (tokens,) = Encoder(tokenizer, "chat", LONGEST).encode([("x", 0, find_layout(row, "auto", {}, "data").chat(row))])
    return tuple(sorted(set(tokens.unshown)))


class Span(NamedTuple):
    """One answer as it is trained on: its text, and the text of all tokens before it."""

    text: str
    before: str


def spans(row: Any, tokenizer: Any, template: str = "chat") -> list[Span] | None:
    """The decoded spans of one row, or None where the row is refused."""
    tokens = encoded(row, tokenizer, template)
    if tokens is None:
        return None
    ids = tokens.input_ids.tolist()
    return [Span(tokenizer.decode(ids[a:b]), tokenizer.decode(ids[:a])) for a, b in tokens.spans]


def masked(row: Any, tokenizer: Any, template: str = "chat") -> list[str] | None:
    """The decoded text of each span of one row, or None where the row is refused."""
    found = spans(row, tokenizer, template)
    return None if found is None else [span.text for span in found]


def shown(tokenizer: Any, messages: list[dict[str, Any]], tools: Any = None, **more: Any) -> str | None:
    """The chat as the template itself shows it on the day that it always is, or None where it refuses it."""
    try:
        source = without_clock(tokenizer.get_chat_template(tools=tools))
        return str(tokenizer.apply_chat_template(messages, chat_template=source, tools=tools, tokenize=False, **more))
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None
