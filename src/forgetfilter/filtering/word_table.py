"""Which words each row has, for rows that share words to speak for one another (`smoothing`).

What is held in memory is a few numbers for each row and each word there is. What grows with the length of the
texts lies in files without a name, which are mapped into memory and gone when nobody looks at them any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# So many entries are looked at together.
_ENTRIES = 1 << 18


@dataclass(frozen=True)
class WordTable:
    """Which words each of n rows has: a sparse matrix whose rows have length one at most, rarer words weighing more.

    Attributes:
        count: n.
        vocabulary: Words are numbered below this.
        rows, words: Row and word of each entry, shape (entries,).
        weights: Its value.
    """

    count: int
    vocabulary: int
    rows: NDArray[np.int32]
    words: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def width(self) -> int:
        """Its columns: the vocabulary."""
        return self.vocabulary

    def times(self, of_words: FloatArray) -> FloatArray:
        """The matrix times a vector of shape (vocabulary,), shape (n,)."""
        product = np.zeros(self.count)
        for part in _parts(self.words):
            np.add.at(product, self.rows[part], self.weights[part] * of_words[self.words[part]])
        return product

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        """The transposed matrix times a vector of shape (n,), shape (vocabulary,)."""
        product = np.zeros(self.vocabulary)
        for part in _parts(self.words):
            np.add.at(product, self.words[part], self.weights[part] * of_rows[self.rows[part]])
        return product

    def take(self, rows: NDArray[np.integer]) -> WordTable:
        """The table of some rows, in this order; words keep their numbers and weights."""
        places = np.full(self.count, -1, dtype=np.int32)
        places[rows] = np.arange(len(rows), dtype=np.int32)
        there = places[self.rows] >= 0
        return WordTable(len(rows), self.vocabulary, places[self.rows[there]], self.words[there], self.weights[there])

    def save(self, folder: Path) -> None:
        """Keep the table in a folder, for `load`."""
        for name in _SAVED:
            np.save(folder / f"{name}.npy", getattr(self, name))
        np.save(folder / "shape.npy", np.array([self.count, self.vocabulary]))

    @classmethod
    def load(cls, folder: Path) -> WordTable:
        """The table that `save` kept, mapped into memory."""
        count, vocabulary = np.load(folder / "shape.npy").tolist()
        return cls(count, vocabulary, *(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _SAVED))


_SAVED = ("rows", "words", "weights")


def word_table(documents: Iterable[list[str]], folder: Path | None = None) -> WordTable:
    """Find the words that rows share; words of a single row, or of most rows, tell nothing and are left out.

    Args:
        documents: The words of each row.
        folder: Where the files lie; the system's place for temporary files if None.
    """
    count, all_rows, all_words = _numbered(documents, folder)
    vocabulary = max((int(all_words[part].max(initial=-1)) + 1 for part in _parts(all_words)), default=0)
    frequency = np.zeros(vocabulary, dtype=np.int64)
    for part in _parts(all_words):
        np.add.at(frequency, all_words[part], 1)
    shared = (frequency > 1) & (frequency <= count / 2)
    weight, norm = np.log(count / np.maximum(frequency, 1)), np.zeros(count)
    rows, words, weights = (_Spool(kind, folder) for kind in (np.int32, np.int32, np.float32))
    for part in _parts(all_words):
        there = shared[all_words[part]]
        rows.append(all_rows[part][there])
        words.append(all_words[part][there])
        np.add.at(norm, all_rows[part][there], weight[all_words[part][there]] ** 2)
    norm = np.sqrt(norm)
    # A row with one common word must not weigh as much in that word as others do in all of theirs.
    norm = np.maximum(norm, np.median(norm) if count else 0)
    of_rows, of_words = rows.mapped(), words.mapped()
    for part in _parts(of_words):
        weights.append(weight[of_words[part]] / norm[of_rows[part]])
    return WordTable(count, int(np.flatnonzero(shared).max(initial=-1)) + 1, of_rows, of_words, weights.mapped())


def _numbered(documents: Iterable[list[str]], folder: Path | None) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """How many rows there are, and row and word of each entry, words numbered in the order in which they turn up."""
    count, rows, words = 0, _Spool(np.int32, folder), _Spool(np.int32, folder)
    vocabulary = pa.array([], pa.large_string())
    for said, lengths in _batches(documents):
        found = pa.array(said, pa.large_string())
        known = pc.is_in(found, value_set=vocabulary)
        vocabulary = pa.concat_arrays([vocabulary, found.filter(pc.invert(known)).unique()])
        words.append(pc.index_in(found, value_set=vocabulary).to_numpy())
        rows.append(np.repeat(np.arange(count, count + len(lengths)), lengths))
        count += len(lengths)
    return count, rows.mapped(), words.mapped()


def _batches(documents: Iterable[list[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """The different words of some rows, one row after the other, and how many each has."""
    words: list[str] = []
    lengths: list[int] = []
    for document in documents:
        before = len(words)
        words += dict.fromkeys(document)
        lengths.append(len(words) - before)
        if len(words) >= _ENTRIES:
            yield words, lengths
            words, lengths = [], []
    if lengths:
        yield words, lengths


def _parts(entries: NDArray[Any]) -> Iterator[slice]:
    return (slice(start, start + _ENTRIES) for start in range(0, len(entries), _ENTRIES))


class _Spool:
    """A growing array of numbers in a file without a name."""

    def __init__(self, dtype: Any, folder: Path | None) -> None:
        self._dtype, self._file = np.dtype(dtype), TemporaryFile(dir=folder)  # noqa: SIM115

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(values.astype(self._dtype).tobytes())

    def mapped(self) -> NDArray[Any]:
        """All numbers, to be read."""
        with self._file as file:
            file.flush()
            # No empty file can be mapped.
            return np.asarray(np.memmap(file, self._dtype, "r")) if file.tell() else np.empty(0, self._dtype)
