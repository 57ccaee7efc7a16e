"""Measure some rows along a session: to end a review whose ranking has settled, or to show how forgetting grew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.tokens import TokenTable
from ...runs.files import read_json, write_text
from ...runs.layout import POINTS
from ..scoring import Likelihood, score_in_memory
from ..trainable_model import TrainableModel
from ..training import Step

# Steps between two measurements, the rows that are measured, and how alike two rankings are from which on little
# changes (docs/appendix.md).
_INTERVAL = 10
_SAMPLE = 64
_MOST_POINTS = 10
_ALIKE = 0.95


class RankingProbe:
    """Measures some rows of the data along a session: their mean log-probability in nats per token.

    The measurements stay in the session's folder, for a session that goes on and for the report.

    Args:
        model: The model that is being trained.
        table: The data; a sample of its rows is measured.
        folder: The session's folder.
        seed: Seed of the sample.
    """

    def __init__(self, model: TrainableModel, table: TokenTable, folder: Path, seed: int) -> None:
        self._model, self._table, self._path = model, table, folder / POINTS
        self._rows = np.sort(table.shuffled(table.scorable, seed)[:_SAMPLE])
        self._points = self._read()
        if not self._points:
            self._write()

    def measure(self, step: int) -> NDArray[np.floating]:
        """Return the rows' mean log-probabilities after this many steps, shape (rows,).

        Args:
            step: The step that the session has just done, or one that was measured before, maybe by a killed process.
        """
        if step not in self._points:
            scorer = Likelihood(self._model, self._model.token_budget(None))
            results = score_in_memory(self._model, scorer, self._table, self._rows)
            self._points[step] = [float(result["logprobs"].mean()) for result in results]
            self._write()
        return np.array(self._points[step])

    def _write(self) -> None:
        if self._model.accelerator.is_main_process:
            points = {"rows": self._table.rows[self._rows].tolist(), "mean_logprob": self._points}
            write_text(json.dumps(points), self._path)
        self._model.accelerator.wait_for_everyone()

    def _read(self) -> dict[int, list[float]]:
        points = read_json(self._path, {}).get("mean_logprob", {})
        return {int(step): values for step, values in points.items()}


class RankingSettled:
    """Ends a review when more of it would no longer change which rows are forgotten most.

    Every ten steps it compares the rows' forgetting with that of ten steps before, by rank correlation (Spearman).

    Args:
        probe: Measures the rows; the model must be as it was before the first step, or the probe have measured it.
    """

    def __init__(self, probe: RankingProbe) -> None:
        self._probe = probe
        self._before = probe.measure(0)

    def __call__(self, history: list[Step]) -> bool:
        step = len(history)
        if step % _INTERVAL:
            return False
        now = self._before - self._probe.measure(step)
        if step < 2 * _INTERVAL:
            return False
        earlier = self._before - self._probe.measure(step - _INTERVAL)
        if len(now) < 2:
            # A single row has no ranking that could settle.
            return False
        return bool(np.corrcoef(_ranks(earlier), _ranks(now))[0, 1] >= _ALIKE)


class ProbeAlong:
    """Measures some rows every ten steps of a session of fixed length, or every tenth of a long one; never ends it.

    Args:
        probe: Measures the rows.
        steps: Optimizer steps of the session.
        ends: Whether to measure before the first step and after the last, too.
    """

    def __init__(self, probe: RankingProbe, steps: int, *, ends: bool) -> None:
        self._probe = probe
        between = set(range(0, steps, max(_INTERVAL, -(-steps // _MOST_POINTS)))) - {0}
        self._steps = between | {0, steps} if ends else between
        self([])

    def __call__(self, history: list[Step]) -> bool:
        if len(history) in self._steps:
            self._probe.measure(len(history))
        return False


def _ranks(values: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
