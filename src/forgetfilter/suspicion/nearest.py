"""Check, before anything is trained, that the safe examples are of the kinds of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# Rows of each side that are compared, and the fewest that tell anything.
MOST_COMPARED, _FEWEST = 500, 50
_NEIGHBOURS = 5
# Two rows this much alike are copies: their cosine.
_COPY = 0.999
# Between what was measured with safe examples of the data's kind and with others, on draws of which none to half of the
# rows are unsafe (benchmarks/estimates.py --draws prints it). With four fifths, both look the same.
_LEAST_NEAREST, _MOST_UNCOVERED = 0.2, 0.3


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
        return self.nearest < _LEAST_NEAREST and not self.is_covered

    @property
    def is_covered(self) -> bool:
        """Tell whether most of the data lies near rows known to be harmless."""
        return self.uncovered <= _MOST_UNCOVERED

    @property
    def alike(self) -> float:
        """The degree to which the safe examples are like the data, 0 to 1: `nearest` from a tenth to a fifth."""
        return float(np.clip(2 * self.nearest / _LEAST_NEAREST - 1, 0.0, 1.0))

    def __str__(self) -> str:
        return (
            f"of the rows most like a safe example, only {self.nearest:.1%} are rows of the data (expected: "
            f"{_LEAST_NEAREST:.0%} to 50%), and {self.uncovered:.0%} of the rows of the data are like no row known to "
            "be harmless"
        )


def measure_overlap(data: FloatArray, safe: Sequence[FloatArray], ordinary: FloatArray) -> Overlap | None:
    """Measure how far the rows known to be harmless lie among those of the data.

    Args:
        data: Hidden states of the rows of the data, in random order, shape (n, k).
        safe: The same of each set of safe examples, each of shape (m, k). The set that is most like the data counts.
        ordinary: The same of other rows known to be harmless, shape (l, k).

    Returns:
        The overlap; None where the data, or each safe set, has too few rows.
    """
    enough = [states for states in safe if min(len(data), len(states)) >= _FEWEST]
    if not enough:
        return None
    nearest = max(float(_others_nearest(states, data).mean()) for states in enough) / _NEIGHBOURS
    uncovered = _others_nearest(data, _in_turn([*safe, ordinary])) == 0
    return Overlap(nearest, float(uncovered.mean()))


def _in_turn(groups: Sequence[FloatArray]) -> FloatArray:
    """Join groups of rows so that the first rows are of all of them alike."""
    turn = np.concatenate([np.arange(len(group)) for group in groups])
    return np.concatenate(groups)[np.argsort(turn, kind="stable")]


def _others_nearest(rows: FloatArray, others: FloatArray) -> NDArray[np.intp]:
    """Count for each row how many of its five nearest neighbours are others; as many of either side are compared."""
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
