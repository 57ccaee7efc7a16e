"""Write scores or evaluations at some steps of a session, each into a folder of its own, and find them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.tokens import TokenTable
from ...runs.layout import WATCHED
from ..scoring import Likelihood, score
from ..trainable_model import TrainableModel
from ..training import Step


@dataclass(frozen=True)
class ResultsAlong:
    """Writes results at some steps of a session into its folder; never ends it.

    Attributes:
        folder: The session's folder. The results of a step go into a folder inside it, named by prefix and step.
        prefix: Begins the names of these folders.
        due: Whether to write after so many steps.
        write: Writes the results of the model's present state; goes on after what a killed process wrote there.
    """

    folder: Path
    prefix: str
    due: Callable[[int], bool]
    write: Callable[[Path], object]

    def __call__(self, history: list[Step]) -> bool:
        if self.due(len(history)):
            results = self.folder / f"{self.prefix}{len(history):06d}"
            results.mkdir(exist_ok=True)
            self.write(results)
        return False


def results_by_step(folder: Path, prefix: str) -> dict[int, Path]:
    """Find the folders of results that a `ResultsAlong` wrote into a session's folder, by step, in order."""
    return {int(path.name.removeprefix(prefix)): path for path in sorted(folder.glob(f"{prefix}*"))}


def scores_along(
    model: TrainableModel,
    table: TokenTable,
    rows: NDArray[np.intp],
    folder: Path,
    due: Callable[[int], bool],
    budget: int,
) -> ResultsAlong:
    """Make a callback that scores every completion token of some rows along a session.

    Args:
        model: The model that is being trained.
        table: The tokens of a data set.
        rows: Which of its rows to score; each needs a completion token.
        folder: The session's folder.
        due: Whether to score after so many steps.
        budget: Most tokens of a micro-batch that keeps no gradients.
    """
    scorer = Likelihood(model, budget)
    return ResultsAlong(folder, WATCHED, due, lambda results: score(model, scorer, table, rows, results))
