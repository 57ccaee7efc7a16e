"""What every loader makes: labelled examples that know which others they must not be parted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

UNSAFE, SAFE, TASK = "unsafe", "safe", "task"
LABELS = (UNSAFE, SAFE, TASK)
BIAS, TOXICITY, HARMFULNESS = "bias", "toxicity", "harmfulness"
NOTIONS = (BIAS, TOXICITY, HARMFULNESS)

# A question, or the turns of a conversation as OpenAI's messages have them.
Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class Example:
    """One prompt and its completion, as published.

    Attributes:
        id: The same for the same example, wherever it stands in its file.
        label: `unsafe`, `safe` or `task`.
        notion: `bias`, `toxicity` or `harmfulness`; `task` for task examples.
        source: The data set, with its category where it has some.
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
        """The example as a row, with the fields for an evaluation beside the others."""
        row = {name: value for name, value in vars(self).items() if name != "measure"}
        return {**row, **self.measure}


@dataclass(frozen=True)
class Loaded:
    """The examples of one source, and what there is to say about the rest of it.

    Attributes:
        examples: In the order of the file.
        remarks: One sentence each: what was left out, how much of it, and why.
    """

    examples: Sequence[Example]
    remarks: Sequence[str] = ()


def content_id(kind: str, *texts: str) -> str:
    """An id for an example that has none of its own."""
    return f"{kind}-{blake2b(chr(0).join(texts).encode('utf-8'), digest_size=8).hexdigest()}"


def same_words(text: str) -> str:
    """A text without the case and spaces that tell copies of it apart."""
    return " ".join(text.casefold().split())
