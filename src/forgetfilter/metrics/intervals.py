"""Compute confidence intervals of means of a few values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054
# The expansion below is inaccurate here; these come from the closed forms of the distribution.
_FEW = {1: 12.706204736, 2: 4.302652730}
# With fewer values an interval is too wide to be of use.
FEWEST = 4


def mean_interval(values: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the means of columns, and half the widths of their 95% intervals by Student's t.

    Args:
        values: Shape (n, k); each column is treated on its own.

    Returns:
        Two arrays of shape (k,); the second is NaN where n is below `FEWEST`.
    """
    n = len(values)
    if n < FEWEST:
        return values.mean(axis=0), np.full(values.shape[1], np.nan)
    return values.mean(axis=0), student_t(n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)


def student_t(freedom: int) -> float:
    """Return the 97.5% point of Student's t for `freedom` degrees of freedom, at least 1.

    The expansion is equation 26.7.5 of Abramowitz and Stegun.
    """
    if freedom in _FEW:
        return _FEW[freedom]
    z, v = _Z, float(freedom)
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return sum(terms)
