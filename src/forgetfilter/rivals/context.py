"""What a rival filter works with: the run's rows and tokens, the model in any of its states, a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.tokens import TokenTable
from ..models.stage_runner import Workbench
from ..runs.inputs import Material

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Desk:
    """One rival's place of work.

    Attributes:
        bench: The model.
        material: The data, the safe examples and the rows of known kind.
        folder: Where it may keep what a killed attempt should find again.
    """

    bench: Workbench
    material: Material
    folder: Path

    @cached_property
    def table(self) -> TokenTable:
        """The tokens of the data and of the rows of known kind, one part after the other."""
        return self.material.tokens(*self.material.parts)

    @cached_property
    def known(self) -> TokenTable:
        """The same for passes through the model, with what its frozen blocks make of them, where that can be kept."""
        return self.bench.tokens(self.material.files(*self.material.parts))

    def ids(self, rows: NDArray[np.intp]) -> pa.ChunkedArray:
        """The ids of some rows of the table."""
        return self.table.ids.take(pa.array(rows))

    def own_folder(self, name: str) -> Path:
        """A folder in its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


# A rival: suspicion of every row of the desk's table, shape (n,); NaN where it has no opinion.
Rival = Callable[[Desk], FloatArray]


def spread(values: FloatArray, rows: NDArray[np.intp], count: int) -> FloatArray:
    """Values of some rows among all, NaN elsewhere, shape (count,)."""
    whole = np.full(count, np.nan)
    whole[rows] = values
    return whole
