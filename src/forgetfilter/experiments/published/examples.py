"""Defines what every loader returns: labelled examples, with the group that must stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

UNSAFE, SAFE, TASK = "unsafe", "safe", "task"
LABELS = (UNSAFE, SAFE, TASK)
BIAS, TOXICITY, HARMFULNESS = "bias", "toxicity", "harmfulness"
NOTIONS = (BIAS, TOXICITY, HARMFULNESS)

# A question, or the turns of a conversation in the form of OpenAI's messages.
Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class Example:
    """One prompt and its completion, as published.

    Attributes:
        id: The same for the same example, whatever its position in the file.
        label: `unsafe`, `safe` or `task`.
        notion: `bias`, `toxicity` or `harmfulness`; `task` for task examples.
        source: The data set, with the category if it has any.
        group: Examples of one group are never split between two parts of a mix.
        measure: Further fields that an evaluation needs.
    """

    id: str
    prompt: Prompt
    completion: str
    label: str
    notion: str
    source: str
    group: str
    measure: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Convert the example to a row, with the fields for an evaluation next to the others."""
        row = {name: value for name, value in vars(self).items() if name != "measure"}
        return {**row, **self.measure}


@dataclass(frozen=True)
class Loaded:
    """The examples of one source, and remarks on what was left out.

    Attributes:
        examples: The examples, in the order of the file.
        remarks: One sentence each: what was left out, how much of it, and why.
    """

    examples: Sequence[Example]
    remarks: Sequence[str] = ()


def content_id(kind: str, *texts: str) -> str:
    """Make an id, from its texts, for an example that has none of its own."""
    return f"{kind}-{blake2b(chr(0).join(texts).encode('utf-8'), digest_size=8).hexdigest()}"


def same_words(text: str) -> str:
    """Normalise case and spaces, so that copies of a text become equal."""
    return " ".join(text.casefold().split())
