"""Looking at rows while a session trains: what each token of their completions is worth at some of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.tokens import TokenTable
from ...runs.layout import WATCHED
from ..scoring import Likelihood, score
from ..trainable_model import Session
from ..training import Step


class Watch:
    """Scores rows at some steps of a session, into the session's folder; goes on after what is there.

    Called after every step, as `finetune` calls its `stop`; it never stops a session.

    Args:
        session: The model that is being trained.
        table: The tokens of a data set.
        rows: Which of its rows to look at; each needs a completion token.
        folder: The session's folder.
        at: Whether to look after so many steps.
        budget: Most tokens of a scoring pass.
    """

    def __init__(
        self,
        session: Session,
        table: TokenTable,
        rows: NDArray[np.intp],
        folder: Path,
        at: Callable[[int], bool],
        budget: int,
    ) -> None:
        self._session, self._table, self._rows = session, table, rows
        self._folder, self._at, self._budget = folder, at, budget

    def __call__(self, history: Sequence[Step]) -> bool:
        if self._at(len(history)):
            folder = self._folder / f"{WATCHED}{len(history):06d}"
            folder.mkdir(exist_ok=True)
            score(self._session, Likelihood(self._session, self._budget), self._table, self._rows, folder)
        return False


def watched(folder: Path) -> dict[int, Path]:
    """Where the scores of each step at which a session was looked at lie, in the order of the steps."""
    return {int(path.name.removeprefix(WATCHED)): path for path in sorted(folder.glob(f"{WATCHED}*"))}
