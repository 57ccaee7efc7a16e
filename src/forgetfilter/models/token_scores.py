"""Read back the scores of every completion token that scoring wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import RunError
from ..runs.layout import SHARDS

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class TokenScores:
    """Holds the scores that `models.scoring.Likelihood` gave the tokens of some rows, row after row.

    Attributes:
        lengths: Completion tokens of each row, shape (n,).
        logprobs: Log-probabilities of all their tokens, in nats, shape (tokens,).
        greedy: Whether each token was the model's first choice, same shape.
    """

    lengths: NDArray[np.int64]
    logprobs: FloatArray
    greedy: NDArray[np.bool_]

    @classmethod
    def read(cls, folder: Path, ids: pa.ChunkedArray) -> TokenScores:
        """Read the scores of the rows with these ids, in this order.

        Raises:
            RunError: The folder holds the scores of other rows.
        """
        scored = pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob(SHARDS)))
        if not scored.column("id").equals(ids):
            raise RunError(f"{folder}: these scores are not of the rows that were tokenised; pass --overwrite")
        logprobs, greedy = scored.column("logprobs"), scored.column("greedy")
        return cls(
            pc.list_value_length(logprobs).to_numpy().astype(np.int64),
            pc.list_flatten(logprobs).to_numpy().astype(np.float64),
            pc.list_flatten(greedy).to_numpy(zero_copy_only=False).astype(bool),
        )

    def row_means(self, values: NDArray[np.generic]) -> FloatArray:
        """Average over each row's tokens, shape (n,)."""
        starts = np.cumsum(self.lengths) - self.lengths
        means: FloatArray = np.add.reduceat(values.astype(np.float64), starts) / self.lengths
        return means


def read_vectors(folder: Path, column: str) -> FloatArray:
    """Read a column of equally long lists that scoring wrote, shape (n, length)."""
    parts = (pq.read_table(file, columns=[column]).column(column) for file in sorted(folder.glob(SHARDS)))
    return np.concatenate([np.stack(part.to_numpy()) for part in parts])
