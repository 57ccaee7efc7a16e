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
    """

    words: WordTable
    states: FloatArray

    @property
    def width(self) -> int:
        return self.words.width + int(self.states.shape[1])

    def times(self, of_columns: FloatArray) -> FloatArray:
        return self.by_words(of_columns) + self.by_states(of_columns)

    def by_words(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the words to `times`."""
        return self.words.times(of_columns[: self.words.width])

    def by_states(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the states to `times`."""
        coefficients = of_columns[self.words.width :].astype(np.float32)
        product = np.zeros(len(self.states))
        # States are stored in half precision, and converting those of a million rows at once would take much memory.
        for start in range(0, len(product), _AT_ONCE):
            product[start : start + _AT_ONCE] = self.states[start : start + _AT_ONCE].astype(np.float32) @ coefficients
        return product

    def take(self, rows: NDArray[np.integer]) -> Features:
        """Select rows by index."""
        return Features(self.words.take(rows), self.states[rows].astype(np.float32))

    def without_states(self) -> Features:
        """Leave the states out, so that rules go by words alone."""
        return Features(self.words, np.empty((self.words.count, 0), dtype=np.float32))

    def followed_by(self, other: Features, folder: Path) -> Features:
        """Append others of the same vocabulary and basis, in unnamed files in `folder`."""
        states = concatenate_on_disk(folder, self.states, other.states)
        return Features(self.words.followed_by(other.words, folder), states)

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        of_states = of_rows.astype(np.float32) @ self.states
        return np.concatenate([self.words.transposed_times(of_rows), of_states])


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
