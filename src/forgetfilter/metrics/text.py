"""Compute ROUGE for texts in any script (Lin 2004); ROUGE-1 is the similarity s of the paper's Eq. 3."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import regex
import snowballstemmer

# In scripts written without spaces, each character counts as a word, and so does every symbol (an emoji, say).
# Any other word is a run of letters, marks and digits.
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|\p{So}|[\p{L}\p{M}\p{N}]+"
)
_STEMMER = snowballstemmer.stemmer("porter")


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    # The stemmer is made for English. It leaves short words alone, as ROUGE's reference code does. Numbers have no
    # endings, and every row may hold a different one.
    return str(_STEMMER.stemWord(word)) if len(word) > 3 and word.isascii() and not word.isdigit() else word


def words(text: str) -> list[str]:
    """Split a text into its lower-cased, stemmed words, in order; a text of punctuation alone has none."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


def rouge1(prediction: str, reference: str) -> float:
    """Return the ROUGE-1 F-measure with stemming: unigram overlap of two texts, 0 (nothing shared) to 1 (same words).

    The score is 0 where either text has no words.
    """
    predicted, expected = Counter(words(prediction)), Counter(words(reference))
    shared = sum((predicted & expected).values())
    total = sum(predicted.values()) + sum(expected.values())
    return 2 * shared / total if total else 0.0


def rouge_l(prediction: str, reference: str) -> float:
    """Return the ROUGE-L F-measure with stemming, 0 to 1 (the same words in the same order).

    It rests on the longest common subsequence of the two texts' words. The score is 0 where either text has no words.
    """
    predicted, expected = words(prediction), words(reference)
    total = len(predicted) + len(expected)
    return 2 * _common_subsequence(predicted, expected) / total if total else 0.0


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """Return the length of the longest sequence of words that occurs in both in this order, gaps allowed."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for i, other_word in enumerate(other, start=1):
            above = lengths[i]
            lengths[i] = diagonal + 1 if word == other_word else max(above, lengths[i - 1])
            diagonal = above
    return lengths[-1]
