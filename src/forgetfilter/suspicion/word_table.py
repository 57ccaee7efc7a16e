"""Record which words each row has, as a sparse matrix, so that rows that share words can inform one another.

Memory holds a few numbers for each row and each distinct word. What grows with the length of the texts lies in unnamed
temporary files, which are mapped into memory and vanish once nothing uses them any more.
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
# Entries that are processed together.
_ENTRIES = 1 << 18


@dataclass(frozen=True)
class WordTable:
    """The words of n rows as a sparse matrix. Rows have a length of at most one, and rarer words weigh more.

    Attributes:
        count: The number of rows, n.
        vocabulary: An upper bound of the words' numbers.
        rows, words: Row and word of each entry, shape (entries,).
        weights: Value of each entry, shape (entries,).
    """

    count: int
    vocabulary: int
    rows: NDArray[np.int32]
    words: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def width(self) -> int:
        """Return the number of columns, which is the vocabulary's size."""
        return self.vocabulary

    def times(self, of_words: FloatArray) -> FloatArray:
        """Multiply the matrix by a vector of shape (vocabulary,); the result has shape (n,)."""
        product = np.zeros(self.count)
        for part in _parts(self.words):
            np.add.at(product, self.rows[part], self.weights[part] * of_words[self.words[part]])
        return product

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        """Multiply the transposed matrix by a vector of shape (n,); the result has shape (vocabulary,)."""
        product = np.zeros(self.vocabulary)
        for part in _parts(self.words):
            np.add.at(product, self.words[part], self.weights[part] * of_rows[self.rows[part]])
        return product

    def take(self, rows: NDArray[np.integer]) -> WordTable:
        """Select rows in this order; words keep their numbers and weights."""
        places = np.full(self.count, -1, dtype=np.int32)
        places[rows] = np.arange(len(rows), dtype=np.int32)
        kept = places[self.rows] >= 0
        return WordTable(len(rows), self.vocabulary, places[self.rows[kept]], self.words[kept], self.weights[kept])

    def followed_by(self, other: WordTable, folder: Path | None = None) -> WordTable:
        """Append a table of the same vocabulary; `folder` is that of `concatenate_on_disk`."""
        rows = concatenate_on_disk(folder, self.rows, other.rows + np.int32(self.count))
        words = concatenate_on_disk(folder, self.words, other.words)
        weights = concatenate_on_disk(folder, self.weights, other.weights)
        return WordTable(self.count + other.count, max(self.vocabulary, other.vocabulary), rows, words, weights)

    def save(self, folder: Path) -> None:
        """Write the table to a folder, for `load`."""
        for name in _SAVED:
            np.save(folder / f"{name}.npy", getattr(self, name))
        np.save(folder / "shape.npy", np.array([self.count, self.vocabulary]))

    @classmethod
    def load(cls, folder: Path) -> WordTable:
        """Map the table that `save` wrote into memory."""
        count, vocabulary = np.load(folder / "shape.npy").tolist()
        return cls(count, vocabulary, *(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _SAVED))


_SAVED = ("rows", "words", "weights")


@dataclass(frozen=True)
class Vocabulary:
    """The words that rows share, with their weights, to build tables of further rows with.

    Attributes:
        words: The words, shape (k,).
        numbers: The number of each word, shape (k,).
        weights: The weight of each numbered word before rows are scaled, shape (vocabulary,); 0 for words that are not
            shared. Rarer words weigh more.
        least: The least length that a row is divided by when it is scaled.
    """

    words: pa.Array
    numbers: NDArray[np.integer]
    weights: FloatArray
    least: float

    def weigh(self, documents: Iterable[list[str]], folder: Path | None = None) -> WordTable:
        """Build the table of further rows, as if they had been among those that the vocabulary was built from.

        Words that occur only in further rows are unknown and left out.

        Args:
            documents, folder: The same as for `word_table`.
        """
        return _weighed(*_entries(documents, self, folder), self.weights, self.least, folder)[0]

    def look_up(self, words: pa.ChunkedArray) -> NDArray[np.integer]:
        """Return the number of each word; those that are not shared have one beyond all weights."""
        places = pc.index_in(words, value_set=self.words).fill_null(len(self.words)).to_numpy()
        numbers: NDArray[np.integer] = np.append(self.numbers, len(self.weights))[places]
        return numbers

    def names(self) -> pa.Array:
        """Return the word of each number, shape (vocabulary,); null for words that are not shared."""
        places = np.full(len(self.weights), -1)
        places[self.numbers] = np.arange(len(self.numbers))
        return self.words.take(pa.array(places, mask=places < 0))

    def save(self, path: Path) -> None:
        """Write the vocabulary to a file, for `load`."""
        table = pa.table({"word": self.words, "number": self.numbers, "weight": self.weights[self.numbers]})
        pq.write_table(table.replace_schema_metadata({"least": repr(self.least)}), path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read the vocabulary that `save` wrote."""
        table = pq.read_table(path)
        numbers, weights = table.column("number").to_numpy(), np.zeros(0)
        if len(numbers):
            weights = np.zeros(int(numbers.max()) + 1)
            weights[numbers] = table.column("weight").to_numpy()
        least = float(table.schema.metadata[b"least"])
        return cls(table.column("word").combine_chunks(), numbers, weights, least)


def word_table(documents: Iterable[list[str]], folder: Path | None = None) -> WordTable:
    """Build the table of the words that rows share. Words of a single row, or of most rows, carry no information.

    Args:
        documents: The words of each row.
        folder: Where the unnamed files lie; the system's temporary folder if None.
    """
    return shared_words(documents, folder)[0]


def shared_words(documents: Iterable[list[str]], folder: Path | None = None) -> tuple[WordTable, Vocabulary]:
    """Build the same table, and the vocabulary for tables of further rows."""
    every = _AllWords(pa.chunked_array([], pa.large_string()))
    count, all_rows, all_words = _entries(documents, every, folder)
    frequency = np.zeros(len(every.words), dtype=np.int64)
    for part in _parts(all_words):
        np.add.at(frequency, all_words[part], 1)
    numbers = np.flatnonzero((frequency > 1) & (frequency <= count / 2))
    weights = np.zeros(int(numbers.max(initial=-1)) + 1)
    weights[numbers] = np.log(count / frequency[numbers])
    table, least = _weighed(count, all_rows, all_words, weights, None, folder)
    return table, Vocabulary(every.words.take(pa.array(numbers)).combine_chunks(), numbers, weights, least)


def _weighed(
    count: int,
    all_rows: NDArray[np.int32],
    all_words: NDArray[np.int32],
    word_weights: FloatArray,
    least: float | None,
    folder: Path | None,
) -> tuple[WordTable, float]:
    """Build a table of entries without words of weight 0; return it and `least`, which is computed where it is None."""
    lengths = np.zeros(count)
    rows, words, weights = (_Spool(kind, folder) for kind in (np.int32, np.int32, np.float32))
    for part in _parts(all_words):
        known = all_words[part] < len(word_weights)
        some_rows, some_words = all_rows[part][known], all_words[part][known]
        weighty = word_weights[some_words] > 0
        rows.append(some_rows[weighty])
        words.append(some_words[weighty])
        np.add.at(lengths, some_rows[weighty], word_weights[some_words[weighty]] ** 2)
    lengths = np.sqrt(lengths)
    if least is None:
        least = float(np.median(lengths)) if count else 0.0
    # A row of one common word must not weigh as much in that word as other rows do in all of theirs.
    lengths = np.maximum(lengths, least)
    table_rows, table_words = rows.mapped(), words.mapped()
    for part in _parts(table_words):
        weights.append(word_weights[table_words[part]] / lengths[table_rows[part]])
    return WordTable(count, len(word_weights), table_rows, table_words, weights.mapped()), least


@dataclass
class _AllWords:
    """All words that were looked up, in order of appearance, which numbers them."""

    words: pa.ChunkedArray

    def look_up(self, words: pa.ChunkedArray) -> NDArray[np.int32]:
        """Return the number of each word; those that are new are added."""
        numbers: NDArray[np.int32] = pc.index_in(words, value_set=self.words).fill_null(-1).to_numpy().copy()
        new = words.filter(pa.array(numbers < 0))
        added = new.unique()
        numbers[numbers < 0] = pc.index_in(new, value_set=added).to_numpy() + len(self.words)
        self.words = pa.chunked_array([*self.words.chunks, added])
        return numbers


def _entries(
    documents: Iterable[list[str]], known: _AllWords | Vocabulary, folder: Path | None
) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """Return the number of rows, and the row and the word's number of each entry.

    To look words up is to hash all known ones. So the words of some batches wait until they are more than these, and
    are looked up together: time grows with the words that are looked up, not with the known ones for each batch.
    """
    count, waiting, waits = 0, list[pa.Array](), 0
    sizes = list[tuple[int, int]]()
    rows, places, numbers, words = (_Spool(np.int32, folder) for _ in range(4))
    for batch_words, lengths in _batches(documents):
        batch = pa.array(batch_words, pa.large_string()).dictionary_encode()
        rows.append(np.repeat(np.arange(count, count + len(lengths)), lengths))
        places.append(batch.indices.to_numpy())
        sizes.append((len(batch), len(batch.dictionary)))
        waiting.append(batch.dictionary)
        count, waits = count + len(lengths), waits + len(batch.dictionary)
        if waits > len(known.words):
            numbers.append(known.look_up(pa.chunked_array(waiting)))
            waiting, waits = [], 0
    if waits:
        numbers.append(known.look_up(pa.chunked_array(waiting)))
    all_places, all_numbers, place, number = places.mapped(), numbers.mapped(), 0, 0
    for entries, distinct in sizes:
        of_batch = all_numbers[number : number + distinct]
        words.append(of_batch[all_places[place : place + entries]])
        place, number = place + entries, number + distinct
    return count, rows.mapped(), words.mapped()


def _batches(documents: Iterable[list[str]]) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the distinct words of some rows, one row after the other, and how many each row has."""
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


def concatenate_on_disk(folder: Path | None, *arrays: NDArray[Any]) -> NDArray[Any]:
    """Concatenate arrays of one type in an unnamed file in a folder, or in the system's temporary folder."""
    spool = _Spool(arrays[0].dtype, folder)
    for array in arrays:
        for part in _parts(array):
            spool.append(array[part])
    return spool.mapped().reshape(-1, *arrays[0].shape[1:])


class _Spool:
    """An array of numbers that grows in an unnamed file."""

    def __init__(self, dtype: Any, folder: Path | None) -> None:
        self._dtype, self._file = np.dtype(dtype), TemporaryFile(dir=folder)  # noqa: SIM115

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(values.astype(self._dtype).tobytes())

    def mapped(self) -> NDArray[Any]:
        """Map all numbers into memory, for reading."""
        with self._file as file:
            file.flush()
            # An empty file cannot be mapped.
            return np.asarray(np.memmap(file, self._dtype, "r")) if file.tell() else np.empty(0, self._dtype)
