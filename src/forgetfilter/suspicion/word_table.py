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
import pyarrow.parquet as pq
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

    def followed_by(self, other: WordTable, folder: Path | None = None) -> WordTable:
        """This table and then another one of the same vocabulary; files lie in `folder`, as `end_to_end` has it."""
        rows = end_to_end(folder, self.rows, other.rows + np.int32(self.count))
        words, weights = end_to_end(folder, self.words, other.words), end_to_end(folder, self.weights, other.weights)
        return WordTable(self.count + other.count, max(self.vocabulary, other.vocabulary), rows, words, weights)

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


@dataclass(frozen=True)
class Vocabulary:
    """The words that rows share, to weigh those of further rows by.

    Attributes:
        words: The words, shape (k,).
        numbers: The number of each, shape (k,).
        weights: How much the word of each number weighs before a row is scaled, shape (vocabulary,); 0 of words that
            are not shared. Rarer words weigh more.
        least: The length that rows are taken to have at least when they are scaled.
    """

    words: pa.Array
    numbers: NDArray[np.integer]
    weights: FloatArray
    least: float

    def weigh(self, documents: Iterable[list[str]], folder: Path | None = None) -> WordTable:
        """The table of further rows, as if they had been among those that the vocabulary is of.

        Words that only they share are unknown, and so left out.

        Args:
            documents, folder: As `word_table` takes them.
        """
        count, rows, words = 0, _Spool(np.int32, folder), _Spool(np.int32, folder)
        for said, lengths in _batches(documents):
            found = pc.index_in(pa.array(said, pa.large_string()), value_set=self.words)
            known = found.is_valid().to_numpy(zero_copy_only=False)
            rows.append(np.repeat(np.arange(count, count + len(lengths)), lengths)[known])
            words.append(self.numbers[found.drop_null().to_numpy()])
            count += len(lengths)
        return _weighed(count, rows.mapped(), words.mapped(), self.weights, self.least, folder)[0]

    def save(self, path: Path) -> None:
        """Keep the vocabulary in a file, for `load`."""
        table = pa.table({"word": self.words, "number": self.numbers, "weight": self.weights[self.numbers]})
        pq.write_table(table.replace_schema_metadata({"least": repr(self.least)}), path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary that `save` kept."""
        table = pq.read_table(path)
        numbers, weights = table.column("number").to_numpy(), np.zeros(0)
        if len(numbers):
            weights = np.zeros(int(numbers.max()) + 1)
            weights[numbers] = table.column("weight").to_numpy()
        least = float(table.schema.metadata[b"least"])
        return cls(table.column("word").combine_chunks(), numbers, weights, least)


def word_table(documents: Iterable[list[str]], folder: Path | None = None) -> WordTable:
    """Find the words that rows share; words of a single row, or of most rows, tell nothing and are left out.

    Args:
        documents: The words of each row.
        folder: Where the files lie; the system's place for temporary files if None.
    """
    return shared_words(documents, folder)[0]


def shared_words(documents: Iterable[list[str]], folder: Path | None = None) -> tuple[WordTable, Vocabulary]:
    """The same, and what further rows are weighed by."""
    count, all_rows, all_words, vocabulary = _numbered(documents, folder)
    frequency = np.zeros(len(vocabulary), dtype=np.int64)
    for part in _parts(all_words):
        np.add.at(frequency, all_words[part], 1)
    numbers = np.flatnonzero((frequency > 1) & (frequency <= count / 2))
    weights = np.zeros(int(numbers.max(initial=-1)) + 1)
    weights[numbers] = np.log(count / frequency[numbers])
    table, least = _weighed(count, all_rows, all_words, weights, None, folder)
    return table, Vocabulary(vocabulary.take(pa.array(numbers)), numbers, weights, least)


def _weighed(
    count: int,
    all_rows: NDArray[np.int32],
    all_words: NDArray[np.int32],
    of_words: FloatArray,
    least: float | None,
    folder: Path | None,
) -> tuple[WordTable, float]:
    """The table of some entries, without words that weigh nothing, and the least length of a row; None finds it."""
    norm = np.zeros(count)
    rows, words, weights = (_Spool(kind, folder) for kind in (np.int32, np.int32, np.float32))
    for part in _parts(all_words):
        known = all_words[part] < len(of_words)
        some_rows, some_words = all_rows[part][known], all_words[part][known]
        there = of_words[some_words] > 0
        rows.append(some_rows[there])
        words.append(some_words[there])
        np.add.at(norm, some_rows[there], of_words[some_words[there]] ** 2)
    norm = np.sqrt(norm)
    if least is None:
        least = float(np.median(norm)) if count else 0.0
    # A row with one common word must not weigh as much in that word as others do in all of theirs.
    norm = np.maximum(norm, least)
    found_rows, found_words = rows.mapped(), words.mapped()
    for part in _parts(found_words):
        weights.append(of_words[found_words[part]] / norm[found_rows[part]])
    return WordTable(count, len(of_words), found_rows, found_words, weights.mapped()), least


def _numbered(
    documents: Iterable[list[str]], folder: Path | None
) -> tuple[int, NDArray[np.int32], NDArray[np.int32], pa.Array]:
    """How many rows there are, row and word of each entry, and all words, numbered in the order they turn up in."""
    count, rows, words = 0, _Spool(np.int32, folder), _Spool(np.int32, folder)
    vocabulary = pa.array([], pa.large_string())
    for said, lengths in _batches(documents):
        found = pa.array(said, pa.large_string())
        known = pc.is_in(found, value_set=vocabulary)
        vocabulary = pa.concat_arrays([vocabulary, found.filter(pc.invert(known)).unique()])
        words.append(pc.index_in(found, value_set=vocabulary).to_numpy())
        rows.append(np.repeat(np.arange(count, count + len(lengths)), lengths))
        count += len(lengths)
    return count, rows.mapped(), words.mapped(), vocabulary


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


def end_to_end(folder: Path | None, *arrays: NDArray[Any]) -> NDArray[Any]:
    """Arrays of one kind, one after the other, in a file without a name in a folder, or in the system's place."""
    spool = _Spool(arrays[0].dtype, folder)
    for array in arrays:
        for part in _parts(array):
            spool.append(array[part])
    return spool.mapped().reshape(-1, *arrays[0].shape[1:])


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
