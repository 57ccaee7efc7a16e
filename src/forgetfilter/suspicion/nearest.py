"""Check, before anything is trained, that the safe examples are of the kinds of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# Rows of each side that are compared, and the fewest that tell anything.
MOST_COMPARED, _FEWEST = 500, 50
_NEIGHBOURS = 5
# Two rows this much alike are copies: their cosine.
_COPY = 0.999
# With safe examples of the data's kind 20% to 40% and 5% to 56% were measured, with others 0% to 19% and 46% to 86%, on
# draws with none to six tenths of the rows unsafe (benchmarks/cutoffs.py). With four fifths, both look the same.
_LEAST_NEAREST, _MOST_UNCOVERED = 0.2, 0.38


@dataclass(frozen=True)
class Overlap:
    """How far the rows known to be harmless lie among those of the data, by their hidden states.

    Attributes:
        nearest: How many of the five rows nearest to a safe example are rows of the data rather than other safe
            examples, as a share, 0 to 1; half, if the two are alike.
        uncovered: The share of the rows of the data that have no row known to be harmless among the nearest five, 0 to
            1.
    """

    nearest: float
    uncovered: float

    @property
    def is_of_another_kind(self) -> bool:
        """Tell whether the data has few rows like the safe examples and many like no row known to be harmless.

        Either alone is no sign of it: ordinary rows may cover what safe examples do not, and unsafe rows are like no
        harmless one.
        """
        return self.nearest < _LEAST_NEAREST and self.uncovered > _MOST_UNCOVERED

    def __str__(self) -> str:
        return (
            f"of the rows most like a safe example, only {self.nearest:.0%} are rows of the data (expected: "
            f"{_LEAST_NEAREST:.0%} to 50%), and {self.uncovered:.0%} of the rows of the data are like no row known to "
            "be harmless"
        )


def measure_overlap(data: FloatArray, safe: FloatArray, harmless: FloatArray) -> Overlap | None:
    """Compare as many rows of the data as of the other side; all are in random order.

    Args:
        data: Hidden states of the rows of the data, shape (n, k).
        safe: The same of the safe examples, shape (m, k).
        harmless: The same of all rows known to be harmless, safe examples among them, shape (l, k).

    Returns:
        The overlap; None where there are too few rows.
    """
    if min(len(data), len(safe)) < _FEWEST:
        return None
    nearest, uncovered = _others_nearest(safe, data), _others_nearest(data, harmless) == 0
    return Overlap(float(nearest.mean()) / _NEIGHBOURS, float(uncovered.mean()))


def _others_nearest(rows: FloatArray, others: FloatArray) -> NDArray[np.intp]:
    """Count the others among the five that are nearest to each row, of other rows of its own and of as many others."""
    size = min(len(rows), len(others), MOST_COMPARED)
    rows, others = _of_length_one(rows[:size]), _of_length_one(others[:size])
    within, across = rows @ rows.T, rows @ others.T
    # A copy says no more than the row itself.
    within[within > _COPY] = -np.inf
    nearest = np.argsort(-np.hstack([within, across]), axis=1, kind="stable")[:, :_NEIGHBOURS]
    counts: NDArray[np.intp] = (nearest >= size).sum(axis=1)
    return counts


def _of_length_one(states: FloatArray) -> FloatArray:
    # Read from the disk in half precision.
    exact = np.asarray(states, dtype=np.float32)
    scaled: FloatArray = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-9)
    return scaled
