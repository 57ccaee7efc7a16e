"""Check, before anything is trained, that the safe examples are of the kinds of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# Rows of each side that are compared, and the fewest that tell anything.
MOST_COMPARED, _FEWEST = 500, 50
_NEIGHBOURS = 5
# Two safe examples this much alike are copies: their cosine.
_COPY = 0.999
# The geometric mean of the largest share with a safe set of another kind and the least with one of the data's kind:
# 4% to 7%, and 20% to 38%, in the runs of benchmarks/panel.py, half `chosen`.
_LEAST_SHARE = 0.12


def share_of_data_nearest(data: FloatArray, safe: FloatArray) -> float | None:
    """Measure how many of the rows nearest to a safe example are rows of the data: half, if the two are alike.

    As many rows of either side are compared.

    Args:
        data: Hidden states of the rows of the data, in random order, shape (n, k).
        safe: The same of the safe examples, shape (m, k).

    Returns:
        The mean share among the nearest five of a safe example, 0 to 1; None where there are too few rows.
    """
    size = min(len(data), len(safe), MOST_COMPARED)
    if size < _FEWEST:
        return None
    data, safe = _of_length_one(data[:size]), _of_length_one(safe[:size])
    within, across = safe @ safe.T, safe @ data.T
    # A copy of an example says no more than the example itself.
    within[within > _COPY] = -np.inf
    nearest = np.argsort(-np.hstack([within, across]), axis=1, kind="stable")[:, :_NEIGHBOURS]
    return float((nearest >= size).mean())


def safe_examples_are_unlike(data: FloatArray, safe: FloatArray) -> str | None:
    """Check that safe examples are like some rows of the data; the arguments are those of `share_of_data_nearest`.

    Returns:
        What is wrong, or None; also None where there are too few rows.
    """
    share = share_of_data_nearest(data, safe)
    if share is None or share >= _LEAST_SHARE:
        return None
    return (
        f"the safe examples are hardly like the data: of the rows most like a safe example, only {share:.0%} are rows "
        f"of the data (expected: {_LEAST_SHARE:.0%} to 50%). Harmless rows of kinds that no safe example has may be "
        "removed with the unsafe ones. Give safe examples like the harmless rows of the data, or --safe self"
    )


def _of_length_one(states: FloatArray) -> FloatArray:
    # Read from the disk in half precision.
    exact = np.asarray(states, dtype=np.float32)
    scaled: FloatArray = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-9)
    return scaled
