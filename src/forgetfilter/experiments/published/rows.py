"""Reads plain labelled rows: prompt and completion in any layout that the tool reads, with a column `label`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...data.chats import TEXT_ROLE, FieldError, Message, describe
from ...data.columns import find_layout, text_columns
from ...data.layouts import Layout, Row
from ...data.records import Container
from ...settings.experiments import SourceSettings
from .examples import LABELS, NOTIONS, TASK, Example, Loaded, Prompt, content_id, same_words
from .reading import choice_field, read_each

# Columns that become attributes of the example; all others are kept for an evaluation.
_ATTRIBUTES = {"id", "prompt", "completion", "label", "notion", "source", "group"}


def load_rows(containers: Sequence[Container], settings: SourceSettings) -> Loaded:
    """Read labelled rows; those with the same `group`, or without that column the same prompt, form a group.

    Columns `notion` and `source` are read if present. All other columns are kept for an evaluation.

    Raises:
        InputError: A row has no label, no notion, or does not fit the layout.
    """
    return Loaded([example for container in containers for example in _read(container, settings)])


def _read(container: Container, settings: SourceSettings) -> Iterator[Example]:
    layout: Layout | None = None

    def read(row: Row) -> Iterator[Example]:
        nonlocal layout
        layout = layout or find_layout(row, "auto", {}, container.name)
        yield _example(row, layout, settings)

    return read_each([container], "labelled rows", read)


def _example(row: Row, layout: Layout, settings: SourceSettings) -> Example:
    label = choice_field(row, "label", LABELS)
    messages = layout.chat(row).messages
    answer = max(i for i, message in enumerate(messages) if message.trained)
    prompt, completion = _prompt(messages[:answer]), _said(messages[answer])
    words = prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)
    taken = _ATTRIBUTES | text_columns(layout.name, layout.columns)
    return Example(
        id=str(row["id"]) if row.get("id") not in (None, "") else content_id("rows", words, completion),
        prompt=prompt,
        completion=completion,
        label=label,
        notion=TASK if label == TASK else _notion(row, settings.rows_notion),
        source=_text(row, "source") or "rows",
        group=_text(row, "group") or same_words(words or completion),
        measure={name: value for name, value in row.items() if name not in taken},
    )


def _prompt(messages: Sequence[Message]) -> Prompt:
    if not messages:
        return ""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return [{"role": message.role, "content": _said(message)} for message in messages if message.role != TEXT_ROLE]


def _said(message: Message) -> str:
    # A turn that is nothing but a tool call, or reasoning, has that as its text.
    return message.content if message.content.strip() else message.text


def _notion(row: Row, default: str) -> str:
    value: Any = row.get("notion") or default
    if value not in NOTIONS:
        raise FieldError("notion", describe(value), f"one of {', '.join(NOTIONS)}, or --rows-notion")
    return str(value)


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if value is not None and not isinstance(value, (str, int)):
        raise FieldError(column, describe(value), "text")
    return str(value) if value is not None else ""
