"""Predict values of rows from those of other rows with the same features, by cross-fitted ridge regression.

The system is solved by conjugate gradients, which read the feature matrix a few dozen times, whatever the number of
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.draw import ranks_of_copies

FloatArray = NDArray[np.floating]
_FOLDS = 20
# With this many rows, four fifths of them predict as well as nineteen in twenty, in a quarter of the time.
_MANY, _FEWER_FOLDS = 20_000, 5
_ROUNDS, _TOLERANCE = 100, 1e-4


class Table(Protocol):
    """The features of n rows: a matrix of shape (n, width) of which only products are needed."""

    @property
    def width(self) -> int:
        """Return the number of columns."""

    def times(self, of_columns: FloatArray) -> FloatArray:
        """Multiply the matrix by a vector of shape (width,); the result has shape (n,)."""

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        """Multiply the transposed matrix by a vector of shape (n,); the result has shape (width,)."""


def cross_fitted(
    values: FloatArray, weights: FloatArray, table: Table, fold_of: NDArray[np.integer], ridge: float
) -> FloatArray:
    """Predict the value of each row from the rows of other folds, shape (n,).

    Args:
        values: Values of the rows, shape (n,); 0 is what is predicted of a row without any feature.
        weights: How much each row counts in the fit, at least 0, shape (n,); values of rows of weight 0 are ignored.
        table: The features of the rows.
        fold_of: The fold of each row, shape (n,); no row takes part in its own prediction.
        ridge: The assumed ratio of the variance of the noise to that of the signal.
    """
    predictions = np.zeros(len(values))
    for fold in np.unique(fold_of):
        in_fold = fold_of == fold
        predictions[in_fold] = predict(values, np.where(in_fold, 0.0, weights), table, ridge)[in_fold]
    return predictions


def predict(values: FloatArray, weights: FloatArray, table: Table, ridge: float) -> FloatArray:
    """Predict the values of all rows from those that have a weight, shape (n,); see `cross_fitted`."""
    return table.times(solve(values, weights, table, ridge))


def solve(values: FloatArray, weights: FloatArray, table: Table, ridge: float) -> FloatArray:
    """Find the coefficients of the regression, shape (width,), by conjugate gradients."""
    solution = np.zeros(table.width)
    residual = table.transposed_times(weights * values)
    direction, squared_residual = residual.copy(), float(residual @ residual)
    enough = _TOLERANCE**2 * squared_residual
    for _ in range(_ROUNDS):
        if squared_residual <= enough or squared_residual == 0:
            break
        product = table.transposed_times(weights * table.times(direction)) + ridge * direction
        step = squared_residual / float(direction @ product)
        solution += step * direction
        residual -= step * product
        squared_residual, previous = float(residual @ residual), squared_residual
        direction = residual + (squared_residual / previous) * direction
    return solution


def folds(ids: Sequence[str] | pa.ChunkedArray) -> NDArray[np.int64]:
    """Draw a fold for each row, which depends on the order of the ids alone."""
    return ranks_of_copies(ids) % (_FOLDS if len(ids) < _MANY else _FEWER_FOLDS)
