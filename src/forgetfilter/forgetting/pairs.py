"""Preferences whose two answers look swapped: the chosen one was forgotten much more than the rejected one.

The filter decides about the chosen answer alone, as that is what is trained on. The rejected one tells more of a row
that is removed: where it was forgotten as much, both answers are of the kind that the review undoes; where it was
forgotten little, somebody may have taken the one for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# Beyond the middle half of all differences by so many times its width, one is an outlier (Tukey).
_WIDTHS = 1.5


@dataclass(frozen=True)
class Pairs:
    """What became of the rejected answers of n rows.

    Attributes:
        rejected: Forgetting of the rejected answer, NaN where it has no score, shape (n,).
        swapped: Whether the chosen answer was forgotten more than the rejected one by more than `limit`, shape (n,).
        limit: By how much more a chosen answer has to be forgotten than the rejected one for the two to look swapped.
        scored: How many pairs have a score of both answers.
    """

    rejected: FloatArray
    swapped: NDArray[np.bool_]
    limit: float
    scored: int


def compare_answers(chosen: FloatArray, rejected: FloatArray, cut: float | None) -> Pairs:
    """Find the pairs that look swapped.

    The chosen answer has to be forgotten more than the rejected one by more than what removes a row. As chosen answers
    alone were learned, they may be forgotten more in all pairs; the difference of the middle pair comes on top, then.
    Where nothing is removed, the difference has to be an outlier among those of all pairs. Never does a pair look
    swapped whose chosen answer was forgotten less.

    Args:
        chosen: Forgetting of the chosen answers, NaN where unscored, shape (n,).
        rejected: Of the rejected ones, likewise.
        cut: Rows forgotten more than this are removed; None removes nothing.
    """
    more = chosen - rejected
    known = more[~np.isnan(more)]
    if not len(known):
        limit = np.inf
    elif cut is None:
        limit = max(0.0, _fence(known))
    else:
        limit = max(0.0, cut) + max(0.0, float(np.median(known)))
    return Pairs(rejected, np.nan_to_num(more, nan=-np.inf) > limit, limit, len(known))


def _fence(values: FloatArray) -> float:
    """Beyond it lie outliers."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high + _WIDTHS * (high - low))
