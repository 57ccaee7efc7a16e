"""Draw rows at random by their ids and a seed, so that the order of the file does not matter.

Runs go on with the rows that they drew, so that what these functions return for given ids and a seed never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ids: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
# A generator serves several draws, one after the other.
Seed: TypeAlias = int | np.random.Generator


def by_id(ids: Ids) -> NDArray[np.intp]:
    """Sort rows by id: return their indices, shape (n,), without those of rows that have no id."""
    if not isinstance(ids, (pa.Array, pa.ChunkedArray)):
        return np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.intp)
    order: NDArray[np.intp] = pc.sort_indices(ids).to_numpy()[: len(ids) - ids.null_count].astype(np.intp)
    return order


def in_random_order(ids: Ids, seed: Seed) -> NDArray[np.intp]:
    """Shuffle rows: return their indices, shape (n,), without those of rows that have no id.

    The first k are a sample of k rows.
    """
    order = by_id(ids)
    return order[np.random.default_rng(seed).permutation(len(order))]


def random_ranks(ids: Ids) -> NDArray[np.int64]:
    """Draw each row's rank in a random order, from 0, shape (n,); every row has an id."""
    ranks: NDArray[np.int64] = np.empty(len(ids), dtype=np.int64)
    ranks[by_id(ids)] = np.random.default_rng(0).permutation(len(ids))
    return ranks


def ranks_of_copies(ids: Ids) -> NDArray[np.int64]:
    """Draw ranks as `random_ranks` does, but give copies of a row the rank of the first, shape (n,).

    They have its id with `#2`, `#3` and so on behind it. By their ranks rows are dealt into folds, and of the same text
    should come the same prediction.
    """
    ranks = random_ranks(ids)
    names = ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else pa.array(ids, pa.string())
    first = pc.index_in(pc.replace_substring_regex(names, "#[0-9]+$", ""), value_set=names)
    places = pc.fill_null(first, pa.array(np.arange(len(names)), first.type)).to_numpy()
    copied: NDArray[np.int64] = ranks[places]
    return copied


def random_numbers(ids: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Draw a number from 0 to 1 for each id, shape (n,), whatever the other ids are."""
    digests = (blake2b(f"{seed} {id}".encode(), digest_size=6).digest() for id in ids)
    return np.array([int.from_bytes(digest, "big") / 2**48 for digest in digests])


def evenly_by_id(ids: Ids, count: int) -> NDArray[np.intp]:
    """Choose up to `count` rows at equal distances in the order of the ids: return their indices."""
    order = by_id(ids)
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.intp)]
