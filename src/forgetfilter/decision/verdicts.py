"""Combine the filter's decision about each row with a person's. Pure functions of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..forgetting.cuts import Cut
from ..forgetting.signals import Scores
from .overrides import KEPT, REMOVED

UNSCORABLE = "unscorable"
# A row's decision is stored as its index in this tuple.
DECISIONS = (KEPT, REMOVED, UNSCORABLE)
# Positions of the rows that a person decided about, and whether each is to be removed.
ByHand = tuple[NDArray[np.intp], NDArray[np.bool_]]
NOBODY: ByHand = (np.empty(0, dtype=np.intp), np.empty(0, dtype=bool))


@dataclass(frozen=True)
class Measured:
    """Measurements of n rows.

    Attributes:
        rows: Position in the input, shape (n,).
        scores: Scores under both models; NaN where a row has none.
        never_learned: Whether the learned model does not know the row, shape (n,).
        truncated: Whether tokens of the row were cut off, shape (n,).
    """

    rows: NDArray[np.int64]
    scores: Scores
    never_learned: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """The decisions about n rows.

    Attributes:
        by_filter: The filter's decision, as an index in `DECISIONS`, shape (n,).
        decisions: The final decision, likewise.
        by_person: Whether a person decided, shape (n,).
        overridden: Whether the person's decision moved the row to the other file, shape (n,).
        gone: Whether the row goes with the removed rows, shape (n,).
        covered: Whether the row was forgotten no more than safe examples set aside, shape (n,).
    """

    by_filter: NDArray[np.int8]
    decisions: NDArray[np.int8]
    by_person: NDArray[np.bool_]
    overridden: NDArray[np.bool_]
    gone: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    def are(self, decision: str) -> NDArray[np.bool_]:
        """Mark the rows with this decision, shape (n,)."""
        equal: NDArray[np.bool_] = self.decisions == DECISIONS.index(decision)
        return equal


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
        forgetting: Forgetting or suspicion of each row, NaN where unscored, shape (n,).
        cut: Rows above it are removed.
        covered: The attribute of `Verdicts`.
        by_hand: A person's decisions.
        drop_unscorable: Whether rows without a score go with the removed ones.
    """
    by_person_at, to_remove = by_hand
    removed, unscorable = cut.removes(forgetting), np.isnan(forgetting)
    by_filter = np.where(unscorable, DECISIONS.index(UNSCORABLE), removed.astype(np.int8)).astype(np.int8)
    gone_by_filter = removed | (unscorable & drop_unscorable)
    decisions, by_person, gone = by_filter.copy(), np.zeros(len(forgetting), dtype=bool), gone_by_filter.copy()
    decisions[by_person_at], by_person[by_person_at], gone[by_person_at] = to_remove.astype(np.int8), True, to_remove
    return Verdicts(by_filter, decisions, by_person, gone != gone_by_filter, gone, covered)
