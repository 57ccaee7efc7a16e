"""Give a rival what it works with: the run's rows and tokens, the model in any of its states, a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.tokens import TokenTable
from ..models.stage_runner import StageRunner
from ..runs.inputs import Material

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class RivalContext:
    """Holds the model and the data for one rival.

    Attributes:
        runner: Holds the model and runs its stages.
        material: The data, the safe examples and the rows of known kind.
        folder: Where it may keep what a killed attempt should find again.
    """

    runner: StageRunner
    material: Material
    folder: Path

    @cached_property
    def table(self) -> TokenTable:
        """Read the tokens of the data and of the rows of known kind, one part after the other."""
        return self.material.tokens(*self.material.parts)

    @cached_property
    def known(self) -> TokenTable:
        """Read the same tokens for forward passes, with the frozen blocks' activations where these can be cached."""
        return self.runner.tokens(self.material.files(*self.material.parts))

    def ids(self, rows: NDArray[np.intp]) -> pa.ChunkedArray:
        """Return the ids of some rows of the table."""
        return self.table.ids.take(pa.array(rows))

    def own_folder(self, name: str) -> Path:
        """Make a folder within the rival's own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


@dataclass(frozen=True)
class Opinion:
    """What a rival that tells more than suspicion makes of the n rows of the context's table.

    Attributes:
        suspicion: Its suspicion, shape (n,); NaN where it has no opinion.
        categories: What it finds in each row that it holds to be unsafe, in words; n lists.
    """

    suspicion: FloatArray
    categories: list[list[str]]


# Measures a rival's suspicion of every row of the context's table, shape (n,); NaN where it has no opinion.
Measure = Callable[[RivalContext], FloatArray | Opinion]


def spread(values: FloatArray, rows: NDArray[np.intp], count: int) -> FloatArray:
    """Put the values of some rows in a column of all rows, NaN elsewhere, shape (count,)."""
    column = np.full(count, np.nan)
    column[rows] = values
    return column
