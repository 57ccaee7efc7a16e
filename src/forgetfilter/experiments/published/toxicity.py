"""Reads sentences with a toxicity score: documents as in pile-detoxify (Korbak et al., 2023), or one text per row.

The score is that of a classifier, 0 to 1, and higher is more toxic. By default a sentence above 0.9 is unsafe, one
below 0.1 is safe, and the others are left out (ForgetFilter, Section 2). The prompt is the first three words, the
completion the rest, as in the paper's evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ...data.chats import FieldError, describe, field_of, text_of
from ...data.layouts import Row
from ...data.records import Container
from ...settings.experiments import SourceSettings
from .examples import SAFE, TOXICITY, UNSAFE, Example, Loaded, content_id, same_words
from .reading import list_field, read_each

HUB = "tomekkorbak/pile-detoxify"
_PROMPT_WORDS = 3


def load_toxicity(containers: Sequence[Container], settings: SourceSettings) -> Loaded:
    """Read scored sentences; those with the same first three words form a group, and a repeated sentence counts once.

    Raises:
        InputError: A row is not as in pile-detoxify, and lacks the columns for text and score.
    """

    def read(row: Row) -> Iterator[tuple[str, float]]:
        return _document(row) if "texts" in row else _single(row, settings)

    # By sentence, so that a repeated one counts once.
    examples: dict[str, Example] = {}
    left_out: Counter[str] = Counter()
    for text, score in read_each(containers, "text with toxicity scores", read):
        words = text.split(maxsplit=_PROMPT_WORDS)
        label = UNSAFE if score > settings.unsafe_above else SAFE if score < settings.safe_below else None
        if len(words) <= _PROMPT_WORDS:
            left_out["shorter than four words"] += 1
        elif label is None:
            left_out["scored between safe and unsafe"] += 1
        else:
            example = _example(words, score, label)
            examples.setdefault(example.id, example)
    return Loaded(list(examples.values()), [f"left out, {why}: {count:,}" for why, count in left_out.items()])


def _example(words: Sequence[str], score: float, label: str) -> Example:
    prompt = " ".join(words[:_PROMPT_WORDS])
    completion = words[_PROMPT_WORDS].strip()
    return Example(
        id=content_id("toxicity", prompt, completion),
        prompt=prompt,
        completion=completion,
        label=label,
        notion=TOXICITY,
        source="toxicity scores",
        group=same_words(prompt),
        measure={"toxicity": score},
    )


def _document(row: Row) -> Iterator[tuple[str, float]]:
    texts, scores = list_field(row, "texts"), list_field(row, "scores")
    if len(texts) != len(scores):
        raise FieldError("scores", f"{len(scores)} scores", f"{len(texts)}, one for each of the texts")
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        yield text_of(text, f"texts[{i}]", filled=False), _score(score, f"scores[{i}]")


def _single(row: Row, settings: SourceSettings) -> Iterator[tuple[str, float]]:
    text = text_of(field_of(row, settings.text_column), settings.text_column, filled=False)
    yield text, _score(field_of(row, settings.score_column), settings.score_column)


def _score(value: Any, field: str) -> float:
    try:
        # Numbers, or their text as csv files have it.
        score = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise FieldError(field, describe(value), "a score from 0 to 1")
    return score
