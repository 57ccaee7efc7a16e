"""Cut where rows begin to look unsafe: more like the package's unsafe examples than like its harmless ones.

How many rows are unsafe follows from how they look (expectation maximisation; Saerens, Latinne and Decaestecker,
Adjusting the outputs of a classifier to new a priori probabilities, 2002). The cut has the largest F1 that is to be
expected (Ye et al., Optimizing F-measure: a tale of two approaches, 2012).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cuts import Cut, value_below

FloatArray = NDArray[np.floating]
# The log-odds that a row is unsafe, if half of the rows are and it is like the median unsafe example: .92 in 1.
_STEEPNESS = 2.5
# Fewer unsafe rows may look so by chance, and above a cut most rows have to be unsafe.
_FEWEST, _LEAST_PRECISION = 3.0, 0.5
_ROUNDS, _TOLERANCE = 200, 1e-5
_SMALLEST_SHARE = 1e-3
_TOO_FEW = "too few rows look unsafe"


def where_rows_look_unsafe(suspicion: FloatArray, to_prototypes: FloatArray, boundary: float, largest: float) -> Cut:
    """Return the cut of the largest expected F1, without a value where too few rows look unsafe.

    Args:
        suspicion: Suspicion of the rows, shape (n,), NaN where unscored.
        to_prototypes: How they look, shape (n,): above 0, more like unsafe examples than like harmless ones.
        boundary: The look of a row that is unsafe as likely as not, if half of the rows are.
        largest: The largest share of the rows that may be removed.
    """
    scored = np.flatnonzero(~np.isnan(suspicion))
    if not len(scored):
        return Cut(None, _TOO_FEW)
    order = scored[np.argsort(-suspicion[scored], kind="stable")]
    unsafe = _how_likely(to_prototypes[order] - boundary)
    expected, above = float(unsafe.sum()), np.cumsum(unsafe)
    best = int(np.argmax(2 * above / (np.arange(1, len(order) + 1) + expected)))
    removed = best + 1
    if expected < _FEWEST or above[best] < _LEAST_PRECISION * removed or removed > largest * len(order):
        return Cut(None, _TOO_FEW)
    explanation = f"where rows begin to look unsafe (about {expected:.0f} do)"
    return Cut(value_below(suspicion[order], removed), explanation)


def _how_likely(looks: FloatArray) -> FloatArray:
    """Return the probability that each row is unsafe, if the share of unsafe rows is their mean."""
    odds, share = np.exp(np.clip(_STEEPNESS * looks, -50, 50)), 0.5
    for _ in range(_ROUNDS):
        prior = odds * share / (1 - share)
        likely: FloatArray = prior / (1 + prior)
        before, share = share, float(np.clip(likely.mean(), _SMALLEST_SHARE, 1 - _SMALLEST_SHARE))
        if abs(share - before) < _TOLERANCE:
            break
    return likely
