"""A row as a chat: who says what, what of it is trained on, and what the chat template is given beside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# A row of plain text is one message with this role; it has no prompt and is trained on as a whole.
TEXT_ROLE = "text"
ASSISTANT, TOOL = "assistant", "tool"
FUNCTION_CALL = "function_call"
# Who speaks, by all the names that files have for it: OpenAI's, ShareGPT's and Gemma's.
ROLES = {
    **{role: role for role in ("system", "developer", "user", ASSISTANT, TOOL)},
    "human": "user",
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "function": TOOL,
    "observation": TOOL,
    FUNCTION_CALL: ASSISTANT,
}
# Where messages keep what the model thought before its answer.
REASONING = ("reasoning_content", "thinking", "reasoning")
TOOL_CALLS = "tool_calls"
# What the arguments of a call are called, by OpenAI and by others.
_ARGUMENTS = ("arguments", "parameters", "input", "args")
# JSON that goes deeper than any data is made to exhaust what reads it.
DEEPEST = 100


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks: `system`, `user`, `assistant`, `tool`, or `text`.
        content: What, as text; empty where an answer is nothing but tool calls.
        trained: Whether the turn is trained on.
        extra: What else the chat template is given: `tool_calls`, `reasoning_content`, `name` and so on.
    """

    role: str
    content: str
    trained: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasoning(self) -> str:
        """What was thought before the answer."""
        return next((self.extra[name] for name in REASONING if isinstance(self.extra.get(name), str)), "")

    @property
    def parts(self) -> list[str]:
        """All that the turn says, in order: reasoning, content, and each tool call as JSON."""
        calls = [json.dumps(called(call), ensure_ascii=False) for call in self.extra.get(TOOL_CALLS, ())]
        return [part for part in (self.reasoning, self.content, *calls) if part.strip()]

    @property
    def text(self) -> str:
        """All that the turn says, as one text."""
        return "\n".join(self.parts)


@dataclass(frozen=True)
class Chat:
    """What a row says.

    Attributes:
        messages: The turns, in order.
        tools: What the model may call, as JSON schemas; empty for none.
        template_kwargs: Further variables for the chat template.
        rejected: Of preference data, the chat with the answer that was not chosen; else None.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    rejected: Sequence[Message] | None = None

    @classmethod
    def of(cls, prompt: str, completion: str) -> Chat:
        """A question and its answer."""
        return cls([Message("user", prompt), Message(ASSISTANT, completion, trained=True)])

    @property
    def is_text(self) -> bool:
        """Whether it is plain text, without a prompt."""
        return self.messages[0].role == TEXT_ROLE

    @property
    def first_answer(self) -> int:
        """Which message is the first that is trained on."""
        return next(i for i, message in enumerate(self.messages) if message.trained)

    @property
    def prompt(self) -> str:
        """What is only context, as text."""
        return "\n".join(message.text for message in self.messages if not message.trained)

    @property
    def completion(self) -> str:
        """What is trained on, as text."""
        return "\n".join(message.text for message in self.messages if message.trained)

    @property
    def size(self) -> int:
        """Characters of it, roughly."""
        return sum(len(message.content) for message in (*self.messages, *(self.rejected or ())))

    @property
    def other_side(self) -> Chat | None:
        """Of preference data, the row with the answer that was not chosen in place of the other; else None."""
        return None if self.rejected is None else replace(self, messages=self.rejected, rejected=None)

    def with_messages(self, messages: Sequence[Message]) -> Chat:
        """The same chat with other turns."""
        return replace(self, messages=messages)


class FieldError(Exception):
    """One field of a row, or the row as a whole where `field` is empty, cannot be used. Carries what a BadRow needs."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field + ': ' if field else ''}found {found}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


def text_of(value: Any, field: str, *, filled: bool = True) -> str:
    """The text that a field holds.

    Raises:
        FieldError: It is no text, holds characters that cannot be used, or has to say something and does not.
    """
    if not isinstance(value, str):
        raise FieldError(field, describe(value), "text")
    if filled and not value.strip():
        raise FieldError(field, "nothing" if not value else "only white space", "text")
    if "\0" in value:
        raise FieldError(field, f"a NUL character at position {value.index(chr(0))}", "text without control codes")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"a lone surrogate (half a character) at position {error.start}"
        raise FieldError(field, found, "valid Unicode text") from None
    return value


def describe(value: Any) -> str:
    """A value in words, for a message that says what was found."""
    if value is None:
        return "null"
    if isinstance(value, float) and value != value:
        return "NaN (a missing value?)"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    shown = repr(value)
    return f"the {type(value).__name__} {shown if len(shown) <= 40 else shown[:40] + '…'}"


def field_of(row: Mapping[str, Any], column: str) -> Any:
    """What stands in a column.

    Raises:
        FieldError: There is no such column.
    """
    if column not in row:
        raise FieldError(column, "no such field", "it in every row")
    return row[column]


def called(call: Any) -> dict[str, Any]:
    """Name and arguments of a tool call, whether in OpenAI's wrapping or bare."""
    bare: Mapping[str, Any] = call if isinstance(call, Mapping) else {}
    if isinstance(bare.get("function"), Mapping):
        bare = bare["function"]
    arguments: Any = next((bare[name] for name in _ARGUMENTS if bare.get(name) is not None), {})
    return {"name": bare.get("name", ""), "arguments": arguments}


def is_missing(value: Any) -> bool:
    """Whether a field that need not be there is not: tables have null or NaN for it, CSV nothing."""
    return value is None or value == "" or value != value


def parsed(value: Any) -> Any:
    """A value that tables and CSV files may hold as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _filled(value: Any) -> Any:
    """A value without the nulls that a table puts where an object lacks a field that others have."""
    if isinstance(value, Mapping):
        return {name: _filled(item) for name, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, (list, tuple)) else value


def texts_in(value: Any) -> Iterator[str]:
    """All texts of a value, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)


def is_deep(value: Any) -> bool:
    """Whether lists and objects stand within each other deeper than any data has them, or within themselves."""
    level = _holders([value])
    for _ in range(DEEPEST):
        level = _holders(
            item for held in level.values() for item in (held.values() if isinstance(held, Mapping) else held)
        )
        if not level:
            return False
    return True


def _holders(values: Iterable[Any]) -> dict[int, Any]:
    """Lists and objects among some values, each once."""
    return {id(value): value for value in values if isinstance(value, (Mapping, list, tuple))}


def usable(value: Any, field: str) -> Any:
    """A value that goes to the chat template: plain JSON, whose texts can be used."""
    if is_deep(value):
        raise FieldError(field, f"objects within each other more than {DEEPEST} deep", "fewer")
    value = _filled(value)
    for text in texts_in(value):
        text_of(text, field, filled=False)
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise FieldError(field, describe(value), "what JSON can hold") from None
    return value
