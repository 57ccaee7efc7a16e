"""Looking at some rows along a session: when it has done its work, and how it went."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.tokens import TokenTable
from ...runs.run import POINTS, commit
from ..scoring import Likelihood, score_in_memory
from ..trainable_model import Session
from ..training import Step

# A pass that gains less than this share of all that was gained since the first pass adds little to what is known.
_LEAST_GAIN = 0.25
_FEWEST_PASSES = 3
# Steps between two looks at the ranking, the rows that are looked at, and how alike two rankings are from which on
# little changes (docs/evidence.md).
_INTERVAL = 10
_SAMPLE = 64
_MOST_LOOKS = 10
_ALIKE = 0.95


class LevelledOff:
    """Whether the rows are learned: the loss of the last pass over them fell little further.

    A function of the history alone, so that a session that was killed stops where it would have stopped.

    Args:
        per_pass: Optimizer steps in one pass.
    """

    def __init__(self, per_pass: int) -> None:
        self._per_pass = per_pass

    def __call__(self, history: list[Step]) -> bool:
        passes, rest = divmod(len(history), self._per_pass)
        if rest or passes < _FEWEST_PASSES:
            return False
        losses = np.array([step.loss for step in history]).reshape(passes, self._per_pass).mean(axis=1)
        return bool(losses[-2] - losses[-1] < _LEAST_GAIN * (losses[0] - losses[-1]))


class Looks:
    """What the model makes of some rows of the data, along a session: their mean log-probability in nats per token.

    What was seen is kept in the session's folder, for a session that goes on and for the report.

    Args:
        session: The model that is being trained.
        table: The data; some of its rows are looked at.
        folder: The session's folder.
        seed: Seed of the choice of rows.
    """

    def __init__(self, session: Session, table: TokenTable, folder: Path, seed: int) -> None:
        self._session, self._table, self._path = session, table, folder / POINTS
        self._rows = np.sort(table.shuffled(table.scorable, seed)[:_SAMPLE])
        self._points = self._read()
        if not self._points:
            self._write()

    def look(self, step: int) -> NDArray[np.floating]:
        """The rows after so many steps, which the session has just done or did before it was killed, shape (rows,)."""
        if step not in self._points:
            scorer = Likelihood(self._session, self._session.token_budget(None))
            results = score_in_memory(self._session, scorer, self._table, self._rows)
            self._points[step] = [float(result["logprobs"].mean()) for result in results]
            self._write()
        return np.array(self._points[step])

    def _write(self) -> None:
        if self._session.accelerator.is_main_process:
            beside = self._path.with_suffix(".partial")
            said = {"rows": self._table.rows[self._rows].tolist(), "mean_logprob": self._points}
            beside.write_text(json.dumps(said), encoding="utf-8")
            commit(beside, self._path)
        self._session.accelerator.wait_for_everyone()

    def _read(self) -> dict[int, list[float]]:
        if not self._path.exists():
            return {}
        points = json.loads(self._path.read_text(encoding="utf-8"))["mean_logprob"]
        return {int(step): values for step, values in points.items()}


class Settled:
    """Whether more review would no longer change which rows are forgotten most.

    Looks at some rows every ten steps: the rank correlation (Spearman) of their forgetting with that of ten
    steps before.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._before = looks.look(0)

    def __call__(self, history: list[Step]) -> bool:
        step = len(history)
        if step % _INTERVAL:
            return False
        now = self._before - self._looks.look(step)
        if step < 2 * _INTERVAL:
            return False
        earlier = self._before - self._looks.look(step - _INTERVAL)
        return bool(np.corrcoef(_ranks(earlier), _ranks(now))[0, 1] >= _ALIKE)


class Watched:
    """Looks at some rows every ten steps of a session of fixed length, or every tenth of a long one; never ends it.

    Args:
        looks: Which rows, and what was seen.
        steps: Of the session.
        ends: Whether to look before the first step and after the last, too.
    """

    def __init__(self, looks: Looks, steps: int, *, ends: bool) -> None:
        self._looks = looks
        between = set(range(0, steps, max(_INTERVAL, -(-steps // _MOST_LOOKS)))) - {0}
        self._steps = between | {0, steps} if ends else between
        self([])

    def __call__(self, history: list[Step]) -> bool:
        if len(history) in self._steps:
            self._looks.look(len(history))
        return False


def _ranks(values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
