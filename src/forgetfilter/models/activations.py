"""Store the activations of the frozen blocks in a memory-mapped file, and read rows together with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.tokens import Tokens, TokenTable

# NumPy has no bfloat16.
_STORED = {torch.float32: torch.float32, torch.bfloat16: torch.int16}
_NUMPY = {torch.float32: np.float32, torch.bfloat16: np.int16}


class States:
    """Stores the hidden states of every token of some rows in a file, row after row.

    Args:
        path: The file, which must have the size that `size` returns.
        lengths: Tokens of each row, shape (n,).
        width: Width of a hidden state.
        dtype: Number format of the hidden states.
        writable: Whether `write` will be called.
    """

    def __init__(
        self, path: Path, lengths: NDArray[np.integer], width: int, dtype: torch.dtype, *, writable: bool = False
    ) -> None:
        self._ends, self._dtype = np.cumsum(lengths, dtype=np.int64), dtype
        shape = int(self._ends[-1]), width
        self._numbers = np.memmap(path, dtype=_NUMPY[dtype], mode="r+" if writable else "r", shape=shape)
        self._lengths = lengths

    @staticmethod
    def size(lengths: NDArray[np.integer], width: int, dtype: torch.dtype) -> int:
        """Compute how many bytes the hidden states of such rows take."""
        return int(lengths.sum()) * width * dtype.itemsize

    def __len__(self) -> int:
        return len(self._lengths)

    def _place(self, i: int) -> slice:
        return slice(int(self._ends[i] - self._lengths[i]), int(self._ends[i]))

    def end(self, i: int) -> int:
        """Compute where the hidden states of a row end in the file, in bytes."""
        return int(self._ends[i]) * int(self._numbers.strides[0])

    def read(self, i: int) -> Tensor:
        """Read the hidden states of a row, shape (length, width)."""
        return torch.from_numpy(np.array(self._numbers[self._place(i)])).view(self._dtype)

    def write(self, i: int, states: Tensor) -> None:
        """Write the hidden states of a row, shape (length, width)."""
        self._numbers[self._place(i)] = states.view(_STORED[self._dtype]).numpy()

    def flush(self) -> None:
        """Flush what was written to the disk."""
        self._numbers.flush()


class Readable(Protocol):
    """Gives the hidden states of rows: a file of them, or what computes them."""

    def __len__(self) -> int: ...

    def read(self, i: int, /) -> Tensor:
        """Return the hidden states of a row, shape (length, width)."""


@dataclass(frozen=True)
class KnownTokens(Tokens):
    """Adds to a row's tokens where their hidden states come from.

    Attributes:
        states: What gives them.
        place: Which of its rows this is.
    """

    states: Readable
    place: int


class KnownTable(TokenTable):
    """Reads the tokens of one or more data sets together with their cached hidden states.

    Args:
        paths: Files of tokens.
        states: The hidden states of each file's rows.
    """

    def __init__(self, paths: Sequence[Path], states: Sequence[Readable]) -> None:
        super().__init__(*paths)
        self._states = states
        # The position of each file's first row in the table.
        self._firsts = np.cumsum([0, *(len(part) for part in states[:-1])])

    def __getitem__(self, i: int) -> KnownTokens:
        part = int(np.searchsorted(self._firsts, i, side="right")) - 1
        return KnownTokens(**vars(super().__getitem__(i)), states=self._states[part], place=i - int(self._firsts[part]))
