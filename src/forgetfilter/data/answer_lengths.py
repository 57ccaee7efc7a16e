"""How long the answers of a row are, whatever part of them is kept to be learned and scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def answer_lengths(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    special: Sequence[int],
    max_length: int,
    max_completion: int | None,
) -> tuple[int, bool]:
    """Tokens of a row's longest answer, and whether any answer goes on beyond what is kept of it.

    Args:
        ids: All tokens of the row.
        offsets: Where in its text each of them stands.
        spans: Where in its text each answer stands.
        special: Tokens that say nothing, such as the one that ends a turn.
        max_length: How many tokens of the row are kept, from the first on.
        max_completion: How many tokens of each answer are kept; None for all.
    """
    starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    wide, reached = ends > starts, np.maximum.accumulate(ends)
    begun = np.maximum.accumulate(np.where(wide, starts, reached))
    # How many tokens up to each say something.
    says = np.concatenate([[0], np.cumsum(wide & ~np.isin(np.array(ids), special))])
    longest, cut = 0, False
    for start, end in spans:
        first, last = int(np.searchsorted(reached, start, side="right")), int(np.searchsorted(begun, end))
        length = int(says[last] - says[first])
        kept = int(says[min(last, max_length)] - says[min(first, max_length)])
        longest, cut = max(longest, length), cut or min(kept, max_completion or kept) < length
    return longest, cut
