"""Reads Alpaca (Taori et al., 2023): rows of instruction, input and output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...data.layouts import Layout, Row
from ...data.records import Container
from .examples import TASK, Example, Loaded, content_id, same_words
from .reading import read_each, text_field

HUB = "tatsu-lab/alpaca"
_LAYOUT = Layout("alpaca", {name: name for name in ("instruction", "input", "output")})


def load_alpaca(containers: Sequence[Container]) -> Loaded:
    """Read Alpaca; examples of one instruction form a group.

    Raises:
        InputError: A row is not as published.
    """
    rows = list(read_each(containers, "Alpaca", _example))
    examples = {example.id: example for example in rows if example is not None}
    without = sum(example is None for example in rows)
    return Loaded(list(examples.values()), [f"left out, rows without an output: {without:,}"] if without else [])


def _example(row: Row) -> Iterator[Example | None]:
    # The published file has a few rows without an output.
    if not text_field(row, "output", filled=False):
        yield None
        return
    prompt, answer = _LAYOUT.chat(row).messages
    yield Example(
        id=content_id("alpaca", prompt.content, answer.content),
        prompt=prompt.content,
        completion=answer.content,
        label=TASK,
        notion=TASK,
        source="Alpaca",
        group=same_words(text_field(row, "instruction")),
    )
