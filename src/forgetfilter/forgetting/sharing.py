"""Forgetting shared among rows that say alike.

A row's own scores are noisy: a review of some dozen steps shifts a few tokens more or less at random. Unsafe
rows have words in common, though, and rows with the same words tell how those are forgotten. So a row's score
is averaged with what the *other* rows predict for it from its words, by ridge regression, cross-fitted: no
row takes part in its own prediction. No label is involved, and the scores stay linear in the rows' scores, so
that forgetting remains s(M1) - s(M2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..suspicion.ridge import cross_fitted
from ..suspicion.word_table import WordTable

FloatArray = NDArray[np.floating]
# The ratio of the variances of noise and signal that ridge regression assumes, and how much a prediction that
# is always right would weigh against a row's own score. The bench is flat around both (docs/evidence.md).
RIDGE = 5.0
_OTHERS = 4.0


def smoothed(scores: FloatArray, table: WordTable, fold_of: NDArray[np.integer]) -> FloatArray:
    """Each row's scores averaged with what the other rows' scores predict from its words.

    The prediction, which varies less than the scores do, is stretched so that forgetting, the first column
    less the second, varies as much as the row's own. It weighs the more, the better it goes with that over all
    rows; where words tell nothing, the scores stay as they are.

    Args:
        scores: s(M1) and s(M2), shape (n, 2).
        table: The words of these rows.
        fold_of: In which of the folds each row is, shape (n,); from the rows' ids, so that order does not matter.

    Returns:
        The same shape and unit.
    """
    centre = scores.mean(axis=0)
    alike = np.ones(len(scores))
    columns = [cross_fitted(column, alike, table, fold_of, RIDGE) for column in (scores - centre).T]
    predicted = np.stack(columns, axis=1)
    own, others = (values[:, 0] - values[:, 1] for values in (scores, predicted))
    if min(own.std(), others.std()) <= 1e-9:
        return scores
    stretch = own.std() / others.std()
    weight = _OTHERS * max(0.0, float(np.corrcoef(own, others)[0, 1]))
    shared: FloatArray = (scores + weight * (centre + stretch * predicted)) / (1 + weight)
    return shared
