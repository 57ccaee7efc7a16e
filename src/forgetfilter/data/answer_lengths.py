"""How long the answers of a row are, whatever part of them is kept to be learned and scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def answer_lengths(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    says: NDArray[np.bool_],
    spans: Sequence[tuple[int, int]],
    max_length: int,
    max_completion: int | None,
) -> tuple[int, bool]:
    """Tokens of a row's longest answer, and whether any answer goes on beyond what is kept of it.

    Args:
        starts, ends: Where in its text each of the row's tokens stands, neither ever going back, shape (n,).
        says: Whether a token says something, unlike one that ends a turn, same shape.
        spans: Where in its text each answer stands.
        max_length: How many tokens of the row are kept, from the first on.
        max_completion: How many tokens of each answer are kept; None for all.
    """
    # How many tokens up to each say something.
    said = np.concatenate([[0], np.cumsum(says)])
    longest, cut = 0, False
    for start, end in spans:
        first, last = int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, end))
        length = int(said[last] - said[first])
        kept = int(said[min(last, max_length)] - said[min(first, max_length)])
        longest, cut = max(longest, length), cut or min(kept, max_completion or kept) < length
    return longest, cut
