"""Share forgetting among rows of similar words.

A row's own scores are noisy: a review of a few dozen steps shifts a few tokens more or less at random. Unsafe
rows have words in common, though, and rows with the same words show how those are forgotten. So a row's score
is averaged with what the *other* rows predict for it from its words, by cross-fitted ridge regression: no
row takes part in its own prediction. No label is involved, and the result is linear in the rows' scores, so
forgetting remains s(M1) - s(M2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..suspicion.ridge import cross_fitted
from ..suspicion.word_table import WordTable

FloatArray = NDArray[np.floating]
# The ratio of noise to signal variance that ridge regression assumes, and the weight of a perfect prediction relative
# to a row's own score. Results hardly change around either value (docs/appendix.md).
RIDGE = 5.0
_OTHERS = 4.0


def smoothed(scores: FloatArray, table: WordTable, fold_of: NDArray[np.integer]) -> FloatArray:
    """Average each row's scores with those that the other rows' scores predict from its words.

    Predictions vary less than scores, so they are stretched until their forgetting (the first column minus the
    second) varies as much as the rows' own. A prediction weighs more the better it correlates with the rows' own
    forgetting; where words predict nothing, the scores stay as they are.

    Args:
        scores: s(M1) and s(M2), shape (n, 2).
        table: The words of these rows.
        fold_of: The fold of each row, shape (n,); drawn from the rows' ids, so that their order does not matter.

    Returns:
        Scores of the same shape and unit.
    """
    centre = scores.mean(axis=0)
    equal_weights = np.ones(len(scores))
    columns = [cross_fitted(column, equal_weights, table, fold_of, RIDGE) for column in (scores - centre).T]
    predicted = np.stack(columns, axis=1)
    own, others = (values[:, 0] - values[:, 1] for values in (scores, predicted))
    if min(own.std(), others.std()) <= 1e-9:
        return scores
    stretch = own.std() / others.std()
    weight = _OTHERS * max(0.0, float(np.corrcoef(own, others)[0, 1]))
    shared: FloatArray = (scores + weight * (centre + stretch * predicted)) / (1 + weight)
    return shared
