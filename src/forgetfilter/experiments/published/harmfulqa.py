"""Reads HarmfulQA (Bhardwaj and Poria, 2023): rows with a question and its "red" and "blue" conversations.

Red conversations end in a harmful answer and are unsafe, blue ones in a harmless answer and are safe (ForgetFilter,
Section 2). The paper does not say how it splits them. Here the completion is the last answer, and the prompt is
everything before it, because the harmful question comes last and refers to what precedes it. A prompt that is a single
question is text, any other is messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...data.chats import ROLES, FieldError, describe, field_of, text_of
from ...data.layouts import Row
from ...data.records import Container
from .examples import HARMFULNESS, SAFE, UNSAFE, Example, Loaded, Prompt, same_words
from .reading import object_field, read_each, text_field

HUB = "declare-lab/HarmfulQA"
_LABELS = {"red_conversations": UNSAFE, "blue_conversations": SAFE}


def load_harmfulqa(containers: Sequence[Container]) -> Loaded:
    """Read HarmfulQA; examples of one question form a group.

    Raises:
        InputError: A row is not as published.
    """
    conversations = list(read_each(containers, "HarmfulQA", _conversations))
    examples = [example for example in conversations if example is not None]
    without = len(conversations) - len(examples)
    return Loaded(examples, [f"left out, conversations in which an answer is missing: {without:,}"] if without else [])


def _conversations(row: Row) -> Iterator[Example | None]:
    question, topic = text_field(row, "question"), text_field(row, "topic")
    id = str(field_of(row, "id"))
    for column, label in _LABELS.items():
        for name, turns in object_field(row, column).items():
            if turns is None:
                # In a table, every row has the conversation names of all rows.
                continue
            messages = _messages(turns, f"{column}.{name}")
            if not messages:
                yield None
                continue
            yield Example(
                id=f"harmfulqa-{id}-{column.split('_')[0]}-{name}",
                prompt=_prompt(messages[:-1]),
                completion=messages[-1]["content"],
                label=label,
                notion=HARMFULNESS,
                source=f"HarmfulQA/{topic}",
                group=same_words(question),
                measure={"question": question, "topic": topic, "subtopic": text_field(row, "subtopic", filled=False)},
            )


def _messages(turns: Any, place: str) -> list[dict[str, str]]:
    """Convert the turns up to the last answer to messages; empty if nothing was asked, or an answer is missing."""
    if not isinstance(turns, list):
        raise FieldError(place, describe(turns), "a list of turns")
    messages = []
    for i, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise FieldError(f"{place}[{i}]", describe(turn), "an object with 'from' and 'value'")
        speaker = turn.get("from")
        if not isinstance(speaker, str) or speaker not in ROLES:
            raise FieldError(f"{place}[{i}].from", describe(speaker), "human or gpt")
        content = text_of(turn.get("value"), f"{place}[{i}].value", filled=False).strip()
        messages.append({"role": ROLES[speaker], "content": content})
    while messages and not (messages[-1]["role"] == "assistant" and messages[-1]["content"]):
        messages.pop()
    # The filter takes no answer without text, be it only context.
    whole = all(message["content"] for message in messages if message["role"] == "assistant")
    return messages if len(messages) > 1 and whole else []


def _prompt(messages: list[dict[str, str]]) -> Prompt:
    return messages[0]["content"] if len(messages) == 1 and messages[0]["role"] == "user" else messages
