"""Rate toxicity with a word list that works offline, or with a sequence-classification model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import regex
from numpy.typing import NDArray

from ..errors import SettingsError

WORDS, DETOXIFY = "words", "detoxify"
# Detoxify's "original" model as its authors give it on the hub. Their package downloads the same weights pickled.
_DETOXIFY_MODEL = "unitary/toxic-bert"
_LIST_PACKAGE, _LIST_FILE = "glin_profanity", "data/dictionaries/english.json"
# Signs that stand for letters (a$$, b!tch) are part of a word; at its ends most of them are punctuation.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}$@!*'’]+")
_ENDS = "'’!*"


class Classifier(Protocol):
    """Rates how toxic texts are.

    Attributes:
        name: Its name in results.
    """

    name: str

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Rate how toxic each text is, 0 to 1, larger = more toxic, shape (len(texts),); 0 for an empty text."""


class WordList:
    """Rates toxicity by listed words: 0 without any, else 0.5 plus half the share of the text's words that are listed.

    So half is the line between texts with and without a listed word, and above it the denser text is the more toxic
    one. A word list sees neither context nor intent. Plurals of listed words count, and phrases word by word.
    """

    name = WORDS

    def __init__(self, listed: Iterable[str]) -> None:
        """Take words and phrases, in any case."""
        self._phrases: dict[str, list[tuple[str, ...]]] = {}
        for phrase in listed:
            words = tuple(_split(phrase))
            if words:
                self._phrases.setdefault(words[0], []).append(words)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([self._score(text) for text in texts], dtype=np.float64)

    def _score(self, text: str) -> float:
        words = _split(text)
        listed = sum(self._found(words))
        return 0.5 + 0.5 * listed / len(words) if listed else 0.0

    def _found(self, words: list[str]) -> Iterator[int]:
        """Yield how many words each listed phrase in the text has, the longest that begins at a place."""
        i = 0
        while i < len(words):
            longest = max((len(phrase) for phrase in self._beginning(words[i]) if _stands(phrase, words, i)), default=0)
            yield longest
            i += max(1, longest)

    def _beginning(self, word: str) -> list[tuple[str, ...]]:
        """Find listed phrases that begin with this word, or are its singular."""
        phrases = list(self._phrases.get(word, ()))
        for ending in ("s", "es"):
            if word.endswith(ending):
                phrases += [phrase for phrase in self._phrases.get(word.removesuffix(ending), ()) if len(phrase) == 1]
        return phrases


def toxicity_classifier(name: str, device: str = "auto") -> Classifier:
    """Make the classifier that a name stands for: `words`, `detoxify`, or a model as MODEL or MODEL#LABEL.

    Args:
        name: A model is a hub id or a folder. LABEL is the class that means toxic, where its name does not tell.
        device: Where a model runs; see the setting of that name.

    Raises:
        ModelError: There is no such model, or it classifies no sequences.
        SettingsError: No class of the model is the toxic one, or the word list is not installed.
    """
    if name == WORDS:
        return WordList(_listed_words())
    from .sequence import SequenceClassifier

    return SequenceClassifier(name, *_model_and_label(name), device)


def check_toxicity_classifier(name: str) -> None:
    """Refuse what is no classifier before the work that it is to judge; no weights are read but for headers.

    Raises:
        ModelError, SettingsError: As `toxicity_classifier`.
    """
    if name == WORDS:
        _listed_words()
        return
    from .sequence import check_classifier

    check_classifier(*_model_and_label(name))


def _model_and_label(name: str) -> tuple[str, str]:
    model, _, label = (_DETOXIFY_MODEL if name == DETOXIFY else name).partition("#")
    return model, label


@cache
def _listed_words() -> tuple[str, ...]:
    # Read as data: the package itself is found without running any of it.
    spec = importlib.util.find_spec(_LIST_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / _LIST_FILE
        if file.is_file():
            return tuple(json.loads(file.read_text(encoding="utf-8"))["words"])
    raise SettingsError(
        f"toxicity_classifier: the word list is not there; install glin-profanity 4, or name a model ({DETOXIFY}, …)"
    )


def _split(text: str) -> list[str]:
    return [word.strip(_ENDS) or word for word in _WORD.findall(text.lower())]


def _stands(phrase: tuple[str, ...], words: list[str], i: int) -> bool:
    return len(phrase) == 1 or tuple(words[i : i + len(phrase)]) == phrase
