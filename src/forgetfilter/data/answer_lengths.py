"""Measure how long the answers of a row are, whatever part of them is kept to be learned and scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def answer_lengths(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    holds_text: NDArray[np.bool_],
    spans: Sequence[tuple[int, int]],
    max_length: int,
    max_completion: int | None,
) -> tuple[int, bool]:
    """Return the tokens of a row's longest answer, and whether any answer goes on beyond what is kept of it.

    Args:
        starts, ends: Where each of the row's tokens begins and ends in its text, neither ever decreasing, shape (n,).
        holds_text: Which tokens hold text, unlike one that ends a turn, same shape.
        spans: The place of each answer in the text, as (start, end).
        max_length: How many tokens of the row are kept, from the first on.
        max_completion: How many tokens of each answer are kept; None for all.
    """
    # How many tokens before each hold text.
    counts = np.concatenate([[0], np.cumsum(holds_text)])
    longest, cut = 0, False
    for start, end in spans:
        first, last = int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, end))
        length = int(counts[last] - counts[first])
        kept = int(counts[min(last, max_length)] - counts[min(first, max_length)])
        longest, cut = max(longest, length), cut or min(kept, max_completion or kept) < length
    return longest, cut
