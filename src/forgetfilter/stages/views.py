"""What models make of rows before anything is trained: hidden states of M0, and embeddings where there is an embedder.

Each is a view of the rows. It is written part by part, in shards, by which a killed attempt goes on; then it is reduced
to few numbers per row.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from ..data.draw import evenly_by_id
from ..runs.files import written_whole
from ..runs.layout import SHARDS, WITNESS_BASIS, WITNESS_EMBEDDING_BASIS, WITNESS_EMBEDDINGS, WITNESS_STATES
from ..suspicion.basis import Basis

# Depths in the model, as shares of its blocks, at which hidden states of each answer's beginning are taken.
DEPTHS = (0.5, 0.75)
# Rows that a basis is fitted to.
_SAMPLE = 2048


@dataclass(frozen=True)
class View:
    """What one model made of all rows.

    Attributes:
        folders: The shards of the rows, one part after the other.
        depths: How many vectors a row has, side by side.
        basis: The file of what they are projected on.
        projected: The file of the result.
    """

    folders: list[Path]
    depths: int
    basis: str
    projected: str

    def fit_basis(self, ids: pa.ChunkedArray) -> Basis:
        """Fit what the rows are projected on to some of them, spread evenly over the order of their ids."""
        count = len(ids)
        chosen = np.zeros(count, dtype=bool)
        chosen[evenly_by_id(ids, _SAMPLE)] = True
        sample, start = [], 0
        for states in self._shards():
            sample.append(states[chosen[start : start + len(states)]])
            start += len(states)
        return Basis.fit(np.concatenate(sample), self.depths)

    def keep(self, basis: Basis, count: int, folder: Path) -> None:
        """Project all `count` rows, write the result into a folder, and delete the shards."""
        number = np.dtype(np.float16)
        header = {"descr": dtype_to_descr(number), "fortran_order": False, "shape": (count, basis.size)}
        # Written and not mapped, as a full disk ends a process that writes to a mapped file.
        with written_whole(folder / self.projected) as beside, beside.open("wb") as file:
            write_array_header_1_0(file, header)
            for states in self._shards():
                file.write(basis.project(states).astype(number).tobytes())
        for of_part in self.folders:
            shutil.rmtree(of_part)

    def _shards(self) -> Iterator[NDArray[np.float32]]:
        for folder in self.folders:
            for file in sorted(folder.glob(SHARDS)):
                column = pq.read_table(file, columns=["states"]).column("states").combine_chunks()
                yield column.values.to_numpy().reshape(len(column), -1)


def views_of(parts: Sequence[str], folder: Path, *, embedded: bool) -> list[View]:
    """Name the views of some parts in a folder: by M0, and by the embedder where they are embedded."""
    views = [View([states_in(folder, part) for part in parts], len(DEPTHS), WITNESS_BASIS, WITNESS_STATES)]
    if embedded:
        folders = [embeddings_in(folder, part) for part in parts]
        views.append(View(folders, 1, WITNESS_EMBEDDING_BASIS, WITNESS_EMBEDDINGS))
    return views


def states_in(folder: Path, part: str) -> Path:
    """Where the hidden states of a part are written."""
    return folder / part


def embeddings_in(folder: Path, part: str) -> Path:
    """Where the embeddings of a part are written."""
    return folder / f"{part}-embedded"
