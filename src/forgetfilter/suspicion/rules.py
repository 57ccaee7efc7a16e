"""Fit linear rules that separate unsafe rows from harmless ones by their words and hidden states, cross-fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import kinds as of_kind
from .ridge import Table, solve
from .word_table import WordTable, concatenate_on_disk

FloatArray = NDArray[np.floating]
FOLDS = 10
# The weight of both sides together, and the strength of the ridge penalty.
_WEIGHT, _RIDGE = 500.0, 50.0
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Features(Table):
    """The features of n rows, from which all rules are computed.

    Attributes:
        words: The words of each row's completion, and pairs of adjacent words.
        states: The row's projected hidden states under M0, of length about one, shape (n, k).
        embeddings: The row's projected embedding, of length about one, shape (n, j); None without an embedder.
    """

    words: WordTable
    states: FloatArray
    embeddings: FloatArray | None = None

    @property
    def width(self) -> int:
        return self.words.width + sum(int(matrix.shape[1]) for matrix in self._dense)

    @property
    def _dense(self) -> list[FloatArray]:
        return [self.states] if self.embeddings is None else [self.states, self.embeddings]

    def times(self, of_columns: FloatArray) -> FloatArray:
        return self.by_words(of_columns) + self.by_states(of_columns)

    def by_words(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the words to `times`."""
        return self.words.times(of_columns[: self.words.width])

    def by_states(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the states, and of the embeddings, to `times`."""
        product, first = np.zeros(len(self.states)), self.words.width
        for matrix in self._dense:
            coefficients = of_columns[first : first + matrix.shape[1]].astype(np.float32)
            # They are stored in half precision, and converting those of a million rows at once would take much memory.
            for start in range(0, len(product), _AT_ONCE):
                product[start : start + _AT_ONCE] += matrix[start : start + _AT_ONCE].astype(np.float32) @ coefficients
            first += matrix.shape[1]
        return product

    def take(self, rows: NDArray[np.integer]) -> Features:
        """Select rows by index."""
        return Features(self.words.take(rows), *(matrix[rows].astype(np.float32) for matrix in self._dense))

    def without_states(self) -> Features:
        """Leave states and embeddings out, so that rules go by words alone."""
        return Features(self.words, np.empty((self.words.count, 0), dtype=np.float32))

    def without_embeddings(self) -> Features:
        """Leave the embeddings out."""
        return replace(self, embeddings=None)

    def followed_by(self, other: Features, folder: Path) -> Features:
        """Append others of the same vocabulary and bases, in unnamed files in `folder`."""
        dense = [concatenate_on_disk(folder, *both) for both in zip(self._dense, other._dense, strict=True)]
        return Features(self.words.followed_by(other.words, folder), *dense)

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        exact = of_rows.astype(np.float32)
        return np.concatenate([self.words.transposed_times(of_rows), *(exact @ matrix for matrix in self._dense)])


@dataclass(frozen=True)
class Rule:
    """A rule, and its cross-fitted values for the rows that it was fitted to; larger = more like unsafe rows.

    Attributes:
        by_words, by_states: Contributions of words and states to the values, shape (n,); a value is their sum.
        solution: Coefficients of the columns of `Features`, shape (width,), for rows that it was not fitted to.
    """

    by_words: FloatArray
    by_states: FloatArray
    solution: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.by_words + self.by_states

    def predict(self, features: Features, fitted: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Return the contributions of words and states for all rows; those of `fitted` rows are cross-fitted."""
        if len(fitted) == features.words.count:
            return self.by_words, self.by_states
        by_words, by_states = features.by_words(self.solution), features.by_states(self.solution)
        by_words[fitted], by_states[fitted] = self.by_words, self.by_states
        return by_words, by_states


@dataclass(frozen=True)
class TrainingRows:
    """The rows that rules are fitted to: features, kinds and folds."""

    features: Features
    kinds: NDArray[np.integer]
    fold_of: NDArray[np.integer]

    def are(self, *kinds: int) -> NDArray[np.bool_]:
        """Mark the rows of these kinds, shape (n,)."""
        return np.isin(self.kinds, kinds)

    def without(self, *kinds: int) -> TrainingRows:
        """Let the rows of these kinds take no part in rules; they are still judged by them."""
        return replace(self, kinds=np.where(self.are(*kinds), of_kind.UNTRUSTED, self.kinds))

    def without_embeddings(self) -> TrainingRows:
        """Let rules go by words and states alone."""
        return replace(self, features=self.features.without_embeddings())

    def fit(self, weights_of: Mapping[int, float], suspected: FloatArray | float = 0.0) -> Rule:
        """Fit a rule with these weights of the kinds, counting untrusted rows as unsafe to the degree `suspected`."""
        degrees = np.broadcast_to(np.asarray(suspected, dtype=float), self.kinds.shape)
        values, weights = _targets_and_weights(self.kinds, weights_of, degrees)
        by_words, by_states = np.zeros(len(self.kinds)), np.zeros(len(self.kinds))
        for fold in np.unique(self.fold_of):
            here = self.fold_of == fold
            solution = solve(values, np.where(here, 0.0, weights), self.features, _RIDGE)
            by_words[here] = self.features.by_words(solution)[here]
            by_states[here] = self.features.by_states(solution)[here]
        return Rule(by_words, by_states, solve(values, weights, self.features, _RIDGE))


def _targets_and_weights(
    kinds: NDArray[np.integer], weights_of: Mapping[int, float], suspected: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return each row's target, -1 (harmless) to 1 (unsafe), and its weight; both sides weigh the same in total."""
    unsafe, harmless = suspected.copy(), np.zeros(len(kinds))
    for kind in of_kind.WEIGHT_OF_KIND:
        rows, weight = kinds == kind, weights_of.get(kind, 0.0)
        if kind in of_kind.ALIKE and not (kinds == of_kind.ALIKE[kind]).any():
            weight += weights_of.get(of_kind.ALIKE[kind], 0.0)
        side = unsafe if kind in of_kind.FAMILIES else harmless
        side[rows] = weight / max(1, int(rows.sum()))
    unsafe[kinds == of_kind.UNSAFE] = of_kind.WEIGHT_OF_KNOWN
    harmless[kinds == of_kind.HARMLESS] = of_kind.WEIGHT_OF_KNOWN
    unsafe, harmless = (_WEIGHT / 2 * side / max(side.sum(), 1e-9) for side in (unsafe, harmless))
    weights = unsafe + harmless
    return (unsafe - harmless) / np.where(weights > 0, weights, 1.0), weights
