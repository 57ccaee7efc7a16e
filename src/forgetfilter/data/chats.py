"""Hold a row as a chat: who says what, which turns are trained on, and what else the chat template is given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# A row of plain text is one message with this role; it has no prompt and is trained on as a whole.
TEXT_ROLE = "text"
ASSISTANT, TOOL = "assistant", "tool"
FUNCTION_CALL = "function_call"
# The roles by all the names that files have for them: OpenAI's, ShareGPT's and Gemma's.
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
# The names that OpenAI and others have for the arguments of a call.
_ARGUMENTS = ("arguments", "parameters", "input", "args")
# JSON that is nested deeper than any data is made to exhaust its reader.
DEEPEST = 100


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks: `system`, `user`, `assistant`, `tool`, or `text`.
        content: What is said, as text; empty where an answer is nothing but tool calls.
        trained: Whether the turn is trained on.
        extra: What else the chat template is given of it: `tool_calls`, `reasoning_content`, `name` and so on.
    """

    role: str
    content: str
    trained: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasoning(self) -> str:
        """Return what was thought before the answer."""
        return next((self.extra[name] for name in REASONING if isinstance(self.extra.get(name), str)), "")

    @property
    def parts(self) -> list[str]:
        """Return all that the turn says, in order: reasoning, content, and each tool call as JSON."""
        calls = [json.dumps(called(call), ensure_ascii=False) for call in self.extra.get(TOOL_CALLS, ())]
        return [part for part in (self.reasoning, self.content, *calls) if part.strip()]

    @property
    def text(self) -> str:
        """Return all that the turn says, as one text."""
        return "\n".join(self.parts)


@dataclass(frozen=True)
class Chat:
    """The chat that a row holds.

    Attributes:
        messages: The turns, in order.
        tools: What the model may call, as JSON schemas; empty for none.
        template_kwargs: Further variables for the chat template.
        rejected: The turns with the rejected answer, where the row is a preference; else None.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    rejected: Sequence[Message] | None = None

    @classmethod
    def of(cls, prompt: str, completion: str) -> Chat:
        """Make a chat of a question and its answer."""
        return cls([Message("user", prompt), Message(ASSISTANT, completion, trained=True)])

    @property
    def is_text(self) -> bool:
        """Tell whether it is plain text, without a prompt."""
        return self.messages[0].role == TEXT_ROLE

    @property
    def first_answer(self) -> int:
        """Return the position of the first message that is trained on."""
        return next(i for i, message in enumerate(self.messages) if message.trained)

    @property
    def prompt(self) -> str:
        """Return the messages that are only context, as text."""
        return "\n".join(message.text for message in self.messages if not message.trained)

    @property
    def completion(self) -> str:
        """Return the messages that are trained on, as text."""
        return "\n".join(message.text for message in self.messages if message.trained)

    @property
    def size(self) -> int:
        """Count its characters, roughly."""
        turns = (*self.messages, *(self.rejected or ()))
        beside = [turn.extra for turn in turns if turn.extra] + list(self.tools)
        return sum(len(turn.content) for turn in turns) + sum(len(text) for text in texts_in(beside))

    @property
    def other_side(self) -> Chat | None:
        """Return the row with the rejected answer in place of the chosen one; None where there is no preference."""
        return None if self.rejected is None else replace(self, messages=self.rejected, rejected=None)

    def with_messages(self, messages: Sequence[Message]) -> Chat:
        """Return the same chat with other turns."""
        return replace(self, messages=messages)


class FieldError(Exception):
    """Says why a field of a row, or the whole row where `field` is empty, cannot be used, as a BadRow does."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field + ': ' if field else ''}found {found}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


def text_of(value: Any, field: str, *, filled: bool = True) -> str:
    """Return the text that a field holds.

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
    """Describe a value, for a message that says what was found."""
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
    """Return the value of a column.

    Raises:
        FieldError: There is no such column.
    """
    if column not in row:
        raise FieldError(column, "no such field", "it in every row")
    return row[column]


def called(call: Any) -> dict[str, Any]:
    """Return name and arguments of a tool call, whether in OpenAI's wrapping or bare."""
    bare: Mapping[str, Any] = call if isinstance(call, Mapping) else {}
    if isinstance(bare.get("function"), Mapping):
        bare = bare["function"]
    arguments: Any = next((bare[name] for name in _ARGUMENTS if bare.get(name) is not None), {})
    return {"name": bare.get("name", ""), "arguments": arguments}


def is_missing(value: Any) -> bool:
    """Tell whether an optional field is missing: tables have null or NaN for it, CSV nothing."""
    return value is None or value == "" or value != value


def parsed(value: Any) -> Any:
    """Parse a value that tables and CSV files may hold as JSON text; return any other as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _filled(value: Any) -> Any:
    """Remove the nulls that a table puts where an object lacks a field that others have."""
    if isinstance(value, Mapping):
        return {name: _filled(item) for name, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, (list, tuple)) else value


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in a value, names of fields included."""
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
    """Tell whether lists and objects are nested deeper than any data has them, or contain themselves."""
    level = _holders([value])
    for _ in range(DEEPEST):
        level = _holders(
            item for held in level.values() for item in (held.values() if isinstance(held, Mapping) else held)
        )
        if not level:
            return False
    return True


def _holders(values: Iterable[Any]) -> dict[int, Any]:
    """Return the lists and objects among some values, each once."""
    return {id(value): value for value in values if isinstance(value, (Mapping, list, tuple))}


def usable(value: Any, field: str) -> Any:
    """Check a value for the chat template and return it without nulls.

    Raises:
        FieldError: It is not plain JSON, is nested too deep, or has a text that cannot be used.
    """
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
