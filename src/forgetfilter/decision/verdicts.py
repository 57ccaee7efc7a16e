"""What becomes of each row: what the filter says, and what a person says against it. Pure functions of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..forgetting.signals import Scores
from ..forgetting.thresholds import Cut
from .overrides import KEPT, REMOVED

UNSCORABLE = "unscorable"
# A row's decision is kept as its place among these.
DECISIONS = (KEPT, REMOVED, UNSCORABLE)
# Places of the rows that a person decided about, and whether each is to be removed.
ByHand = tuple[NDArray[np.intp], NDArray[np.bool_]]
NOBODY: ByHand = (np.empty(0, dtype=np.intp), np.empty(0, dtype=bool))


@dataclass(frozen=True)
class Measured:
    """The numbers of each of n rows, as they were measured.

    Attributes:
        rows: Position in the input, shape (n,).
        scores: Under both models; NaN where a row has none.
        never_learned: Whether the learned model does not know it, shape (n,).
        truncated: Whether tokens of it were cut off, shape (n,).
    """

    rows: NDArray[np.int64]
    scores: Scores
    never_learned: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """What becomes of each of n rows.

    Attributes:
        by_filter: What the filter decides, as places in `DECISIONS`, shape (n,).
        decisions: What holds, likewise.
        by_person: Whether a person decided, shape (n,).
        overridden: Whether the row would be in the other file but for that person, shape (n,).
        gone: Whether it goes with the removed rows, shape (n,).
        covered: Whether it was forgotten no more than safe examples set aside, shape (n,).
    """

    by_filter: NDArray[np.int8]
    decisions: NDArray[np.int8]
    by_person: NDArray[np.bool_]
    overridden: NDArray[np.bool_]
    gone: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    def are(self, decision: str) -> NDArray[np.bool_]:
        """Which rows are decided so, shape (n,)."""
        there: NDArray[np.bool_] = self.decisions == DECISIONS.index(decision)
        return there


def judge(
    forgetting: NDArray[np.floating],
    cut: Cut,
    covered: NDArray[np.bool_],
    by_hand: ByHand,
    *,
    drop_unscorable: bool,
) -> Verdicts:
    """Decide about every row.

    Args:
        forgetting: Of each row, NaN where unscored, shape (n,).
        cut: Rows above it are removed.
        covered: As `Verdicts` has it.
        by_hand: What a person decided.
        drop_unscorable: Whether rows without a score go with the removed.
    """
    theirs, remove = by_hand
    removed, unscorable = cut.removes(forgetting), np.isnan(forgetting)
    by_filter = np.where(unscorable, DECISIONS.index(UNSCORABLE), removed.astype(np.int8)).astype(np.int8)
    gone_by_filter = removed | (unscorable & drop_unscorable)
    decisions, by_person, gone = by_filter.copy(), np.zeros(len(forgetting), dtype=bool), gone_by_filter.copy()
    decisions[theirs], by_person[theirs], gone[theirs] = remove.astype(np.int8), True, remove
    return Verdicts(by_filter, decisions, by_person, gone != gone_by_filter, gone, covered)
