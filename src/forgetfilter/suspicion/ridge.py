"""What some rows say of the others by what they have in common: ridge regression, cross-fitted.

Linear in the rows' values and in what they have in common, so that it takes a few passes over the table, whatever the
number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.draw import random_ranks

FloatArray = NDArray[np.floating]
_FOLDS = 20
# With so many rows, four fifths of them predict as well as nineteen in twenty, in a quarter of the time.
_MANY, _FEWER_FOLDS = 20_000, 5
_ROUNDS, _TOLERANCE = 100, 1e-4


class Table(Protocol):
    """What n rows have in common: a matrix of which only products are asked."""

    @property
    def width(self) -> int:
        """Its columns."""

    def times(self, of_columns: FloatArray) -> FloatArray:
        """The matrix times a vector of shape (width,), shape (n,)."""

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        """The transposed matrix times a vector of shape (n,), shape (width,)."""


def cross_fitted(
    values: FloatArray, weights: FloatArray, table: Table, fold_of: NDArray[np.integer], ridge: float
) -> FloatArray:
    """What the other rows say of each row, shape (n,).

    Args:
        values: Of the rows, of mean 0 over those that have a weight.
        weights: How much each row is learned from, at least 0; what rows of weight 0 have is not looked at.
        table: What the rows have in common.
        fold_of: In which of the folds each row is; no row takes part in its own prediction.
        ridge: The ratio of the variances of noise and signal that is assumed.
    """
    found = np.zeros(len(values))
    for fold in np.unique(fold_of):
        here = fold_of == fold
        found[here] = predict(values, np.where(here, 0.0, weights), table, ridge)[here]
    return found


def predict(values: FloatArray, weights: FloatArray, table: Table, ridge: float) -> FloatArray:
    """What the rows that have a weight say of all rows, shape (n,); see `cross_fitted`."""
    return table.times(solve(values, weights, table, ridge))


def solve(values: FloatArray, weights: FloatArray, table: Table, ridge: float) -> FloatArray:
    """The vector, shape (width,), whose product with the table predicts best, by conjugate gradients."""
    solution = np.zeros(table.width)
    residual = table.transposed_times(weights * values)
    direction, size = residual.copy(), float(residual @ residual)
    enough = _TOLERANCE**2 * size
    for _ in range(_ROUNDS):
        if size <= enough or size == 0:
            break
        image = table.transposed_times(weights * table.times(direction)) + ridge * direction
        step = size / float(direction @ image)
        solution += step * direction
        residual -= step * image
        size, before = float(residual @ residual), size
        direction = residual + (size / before) * direction
    return solution


def folds(ids: Sequence[str] | pa.ChunkedArray) -> NDArray[np.int64]:
    """A fold for each row, drawn from the order of the ids."""
    return random_ranks(ids) % (_FOLDS if len(ids) < _MANY else _FEWER_FOLDS)
