"""Decide which rows go through the model together, by pure functions of lengths and seeds.

An optimizer step averages over `batch_size` random rows, as in any trainer. What varies is how its rows
are dealt into forward passes: by length, so that little is padding, under a budget of tokens, one pass after the other
or several side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
# What passes are for: scores, scores of rows that have to be padded, answers, or gradients.
Work = Literal["score", "pad", "write", "train"]

# How much of their speed side by side the cores of a processor keep within one pass; from a trial on two cores.
_TOGETHER = 0.8
_MOST_PASSES_A_LANE = 4


@dataclass(frozen=True)
class Machine:
    """What passes of one kind of work cost, and how many can be made at once.

    Attributes:
        overhead: What starting a pass costs, as a number of tokens.
        lanes: How many passes can be made at once.
        processes: How many processes share the passes.
    """

    overhead: int
    lanes: int
    processes: int


@dataclass(frozen=True)
class Passes:
    """Rows, dealt into forward passes.

    Attributes:
        rows: The rows of each pass, in the order in which the passes are best made.
        side_by_side: Whether they are best made in several lanes at once.
    """

    rows: list[Indices]
    side_by_side: bool


def optimizer_batches(count: int, batch_size: int, steps: int, seed: int, start: int = 0) -> Iterator[Indices]:
    """Yield the rows of each optimizer step from step `start` to `steps`, shuffled anew in every epoch.

    The same arguments give the same rows, so a session that goes on sees what it would have seen.
    """
    per_epoch = -(-count // batch_size)
    order: Indices = np.empty(0, dtype=np.intp)
    shuffled = -1
    for step in range(start, steps):
        current, position = divmod(step, per_epoch)
        if current != shuffled:
            order, shuffled = np.random.default_rng((seed, current)).permutation(count), current
        yield order[position * batch_size : (position + 1) * batch_size]


def by_length(indices: Indices, lengths: NDArray[np.integer], token_budget: int, pass_overhead: int) -> list[Indices]:
    """Deal rows into forward passes, shortest first, at the least total cost.

    A pass costs its tokens, padding included, and an overhead for starting it. The best places to cut the
    rows, sorted by length, are found by dynamic programming.

    Args:
        indices: The rows to deal.
        lengths: Tokens of every row there is.
        token_budget: Most tokens of a pass, padding included; a row that is longer gets a pass of its own.
        pass_overhead: What starting a pass costs, in tokens.
    """
    # Ties are broken by the row itself, so that the passes do not depend on the order of `indices`.
    ordered = indices[np.lexsort((indices, lengths[indices]))]
    sizes = lengths[ordered].astype(np.int64)
    cost = np.zeros(len(ordered) + 1)
    cuts = np.zeros(len(ordered) + 1, dtype=np.intp)
    for end in range(1, len(ordered) + 1):
        longest = int(sizes[end - 1])
        first = max(0, end - max(1, token_budget // longest))
        starts = np.arange(first, end)
        costs = cost[first:end] + (end - starts) * longest + pass_overhead
        best = int(np.argmin(costs))
        cost[end], cuts[end] = costs[best], starts[best]
    passes, end = [], len(ordered)
    while end > 0:
        passes.append(ordered[cuts[end] : end])
        end = int(cuts[end])
    return passes[::-1]


def end_to_end(indices: Indices, lengths: NDArray[np.integer], token_budget: int, processes: int = 1) -> list[Indices]:
    """Deal rows into passes in which they lie end to end.

    Args:
        indices, lengths, token_budget: As in `by_length`, except that nothing is padded.
        processes: How many processes share the passes. One fills pass after pass, the shortest rows first; several get
            the same number of passes each, all of similar size.
    """
    ordered = indices[np.lexsort((indices, lengths[indices]))]
    if processes > 1 and len(ordered):
        # A pass may have a row more than its share.
        room = max(1, token_budget - int(lengths[ordered[-1]]))
        count = processes * -(-int(lengths[ordered].sum()) // (processes * room))
        return [ordered[i::count] for i in range(min(count, len(ordered)))]
    passes: list[list[int]] = []
    room = 0
    for i in ordered.tolist():
        if lengths[i] > room or not passes:
            passes.append([])
            room = token_budget
        passes[-1].append(i)
        room -= int(lengths[i])
    return [np.array(rows, dtype=np.intp) for rows in passes]


def deal(indices: Indices, lengths: NDArray[np.integer], token_budget: int, pass_overhead: int, lanes: int) -> Passes:
    """Deal rows into forward passes for a number of lanes, which share the budget of tokens.

    Side by side, passes take as long as the busiest lane; one after the other, each pass has all cores, which wait for
    one another at times. Whichever takes less time is chosen.

    Args:
        indices, lengths, token_budget, pass_overhead: As in `by_length`.
        lanes: How many passes can be made at once.
    """
    passes = by_length(indices, lengths, token_budget, pass_overhead)
    if lanes == 1 or not len(indices):
        return Passes(passes, side_by_side=False)
    best = sum(_costs(passes, lengths, pass_overhead)) / (lanes * _TOGETHER), passes, False
    longest, tokens = int(lengths[indices].max()), int(lengths[indices].sum())
    for each in range(1, _MOST_PASSES_A_LANE + 1):
        size = max(longest, min(token_budget // lanes, -(-tokens // (lanes * each))))
        if size * lanes <= token_budget:
            passes = by_length(indices, lengths, size, pass_overhead)
            costs = _costs(passes, lengths, pass_overhead)
            passes = [passes[i] for i in np.argsort(costs, kind="stable")[::-1]]
            best = min(best, (_longest_lane(costs, lanes), passes, True), key=lambda choice: choice[0])
    return Passes(best[1], best[2])


def _costs(passes: list[Indices], lengths: NDArray[np.integer], pass_overhead: int) -> list[int]:
    return [len(rows) * int(lengths[rows].max()) + pass_overhead for rows in passes]


def _longest_lane(costs: list[int], lanes: int) -> int:
    """Compute the cost of the busiest lane, where each lane takes the most expensive pass that is left."""
    busy = [0] * lanes
    for cost in sorted(costs, reverse=True):
        busy[busy.index(min(busy))] += cost
    return max(busy)
