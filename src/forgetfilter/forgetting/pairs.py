"""Find preferences whose two answers look swapped: the chosen one was forgotten much more than the rejected one.

The filter decides about the chosen answer alone, because only that is trained on. The rejected one tells more about a
row that is removed: where it was forgotten as much, both answers are of the kind that the review undoes; where it was
forgotten little, somebody may have mistaken one for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# A difference is an outlier if it lies above the upper quartile by more than this many interquartile ranges (Tukey).
_WIDTHS = 1.5


@dataclass(frozen=True)
class Pairs:
    """How the rejected answers of n rows compare with the chosen ones.

    Attributes:
        rejected: Forgetting of the rejected answer, NaN where it has no score, shape (n,).
        swapped: Whether the chosen answer was forgotten more than the rejected one by more than `limit`, shape (n,).
        limit: How much more a chosen answer has to be forgotten than the rejected one for the two to look swapped.
        scored: How many pairs have a score of both answers.
    """

    rejected: FloatArray
    swapped: NDArray[np.bool_]
    limit: float
    scored: int


def compare_answers(chosen: FloatArray, rejected: FloatArray, cut: float | None) -> Pairs:
    """Find the pairs that look swapped.

    The difference in forgetting has to exceed the cut that removes a row. Only chosen answers were learned, so they may
    be forgotten more in all pairs; the median difference is therefore added to that limit. Where nothing is removed,
    the difference has to be an outlier among those of all pairs. A pair never looks swapped if its chosen answer was
    forgotten less.

    Args:
        chosen: Forgetting of the chosen answers, NaN where unscored, shape (n,).
        rejected: Forgetting of the rejected answers, likewise.
        cut: Rows forgotten more than this are removed; None removes nothing.
    """
    difference = chosen - rejected
    known = difference[~np.isnan(difference)]
    if not len(known):
        limit = np.inf
    elif cut is None:
        limit = max(0.0, _upper_fence(known))
    else:
        limit = max(0.0, cut) + max(0.0, float(np.median(known)))
    return Pairs(rejected, np.nan_to_num(difference, nan=-np.inf) > limit, limit, len(known))


def _upper_fence(values: FloatArray) -> float:
    """Return Tukey's upper fence, above which values are outliers."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high + _WIDTHS * (high - low))
