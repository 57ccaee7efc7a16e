"""Suspect rows by their text alone: no model is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.draw import random_numbers
from ..forgetting.sharing import RIDGE
from ..metrics.text import words
from ..runs.layout import KNOWN_UNSAFE, TRUSTED
from ..suspicion.ridge import cross_fitted, folds
from ..suspicion.word_table import word_table
from .context import FloatArray, RivalContext


def texts(context: RivalContext) -> Iterator[tuple[str, str]]:
    """Yield prompt and completion of every row of the context's table."""
    for part in context.material.parts:
        yield from context.material.texts(part)


def random(context: RivalContext) -> FloatArray:
    """Draw suspicion at random, 0 to 1, from the row's id, so that the order of the file does not matter."""
    return random_numbers(context.table.ids.to_pylist(), context.runner.settings.training.seed)


def bag_of_words(context: RivalContext) -> FloatArray:
    """Compare the row's words with those of rows known to be unsafe, and of safe and trusted ones; larger = unsafe."""
    parts = context.material.parts
    data = [" ".join(text) for text in texts(context)]
    safe = [" ".join(text) for part in context.material.safe_parts for text in context.material.texts(part)]
    kinds = np.concatenate([
        *(np.full(len(context.material.tokens(part)), _KINDS.get(part, 0)) for part in parts), np.full(len(safe), -1)
    ])  # fmt: skip
    ids = [*context.table.ids.to_pylist(), *(f"safe {i}" for i in range(len(safe)))]
    return known_by_words(data + safe, kinds, ids)[: len(data)]


_KINDS = {KNOWN_UNSAFE: 1, TRUSTED: -1}


def known_by_words(texts: Sequence[str], kinds: NDArray[np.integer], ids: Sequence[str]) -> FloatArray:
    """Compare each text's words with those of unsafe ones, by ridge regression; larger = more alike, 0 is undecided.

    Both kinds have equal weight, whatever their sizes, and no text takes part in what is said of itself.

    Args:
        texts: All texts, shape (n,).
        kinds: 1 for those known to be unsafe, -1 for those known to be harmless, 0 for those not known.
        ids: Their ids, from which the folds are drawn.
    """
    values = np.zeros(len(texts))
    for kind in (1, -1):
        values[kinds == kind] = kind / max(1, int((kinds == kind).sum()))
    known = kinds != 0
    values *= known.sum()
    table = word_table(words(text) for text in texts)
    return cross_fitted(values, known.astype(float), table, folds(ids), RIDGE)
