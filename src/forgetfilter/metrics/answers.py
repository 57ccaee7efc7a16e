"""Score short answers by exact match and F1, with SQuAD's official rules (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """Normalise an answer as the official scripts do: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Return 1 where an answer equals one of the right ones, else 0.

    Args:
        answer: The answer given; empty where the question was called unanswerable.
        right: The right answers; none where the question is unanswerable, in which case only an empty answer is right.
    """
    return float(any(normalised(answer) == normalised(text) for text in _comparable(right)))


def token_f1(answer: str, right: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall over words, 0 to 1, for the right answer that fits best.

    If either answer is empty, return 1 if both are, else 0 (SQuAD v2). The arguments are those of `exact_match`.
    """
    return max(_f1(normalised(answer).split(), normalised(text).split()) for text in _comparable(right))


def _comparable(right: Sequence[str]) -> Sequence[str]:
    # As in the official script, an answer that consists of punctuation and articles alone does not count.
    return [text for text in right if normalised(text)] or [""]


def _f1(answer: list[str], right: list[str]) -> float:
    if not answer or not right:
        return float(answer == right)
    shared = sum((Counter(answer) & Counter(right)).values())
    return 2 * shared / (len(answer) + len(right))
