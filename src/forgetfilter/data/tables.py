"""Table containers: parquet files and datasets, whose rows keep their columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from .records import BATCH, Container, Record, hash_chunks

if TYPE_CHECKING:
    import datasets

# A row group has so many rows, or fewer where they take so many bytes.
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 1 << 26
# What pyarrow and datasets raise about values and types that a table cannot have.
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError)
_PROBLEM_SHOWN = 200


class Table(Container):
    """Rows of an Arrow table: a parquet file, a saved datasets folder, a hub data set, or one in memory."""

    suffix = ".parquet"

    @property
    @abstractmethod
    def schema(self) -> pa.Schema: ...

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]: ...

    def records(self) -> Iterator[Record]:
        for batch in self.batches():
            for fields in self._fields(batch):
                yield Record(fields)

    def _fields(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        try:
            rows: list[dict[str, Any]] = batch.to_pylist()
            return rows
        except (UnicodeDecodeError, ValueError, OverflowError, pa.ArrowException) as error:
            raise InputError(f"{self.name}: holds a value that cannot be read: {error}") from error

    def fingerprint(self) -> str:
        chunks = (batch.serialize().to_pybytes() for batch in self.batches())
        return hash_chunks([self.schema.remove_metadata().serialize().to_pybytes(), *chunks])


class Parquet(Table):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from error

    @property
    def schema(self) -> pa.Schema:
        # Rows of view types cannot be picked out one by one; the same text in the usual types can.
        plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
        fields = [field.with_type(plain.get(field.type, field.type)) for field in self._file.schema_arrow]
        return pa.schema(fields, self._file.schema_arrow.metadata)

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        for batch in self._file.iter_batches(BATCH):
            yield batch.cast(schema)


class Dataset(Table):
    """A `datasets.Dataset`: saved in a folder, from the hub, or made in memory."""

    def __init__(self, dataset: datasets.Dataset, name: str, suffix: str = ".parquet") -> None:
        super().__init__(name)
        self.suffix = suffix
        self._dataset = dataset.with_format("arrow")

    @property
    def schema(self) -> pa.Schema:
        return self._dataset.features.arrow_schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        for table in self._dataset.iter(BATCH):
            yield from pa.table(table).combine_chunks().to_batches()


def as_dataset(rows: Iterable[Mapping[str, Any]], name: str) -> datasets.Dataset:
    """Rows as a dataset, with every field that any of them has; null where a row lacks it.

    Raises:
        InputError: The values of a field do not go into one column.
    """
    import datasets

    given = [dict(row) for row in rows]
    fields = dict.fromkeys(field for row in given for field in row)
    columns = {field: [row.get(field) for row in given] for field in fields}
    try:
        return datasets.Dataset.from_dict(columns)
    except _UNFIT:
        for field, values in columns.items():
            with column_errors(name, field):
                datasets.Dataset.from_dict({field: values})
        raise


@contextmanager
def column_errors(name: str, column: str) -> Iterator[None]:
    """Turn what Arrow says of the values of a column into one line that names it, an InputError."""
    try:
        yield
    except _UNFIT as error:
        problem = " ".join(str(error).split())[:_PROBLEM_SHOWN]
        raise InputError(
            f"{name}: column '{column}' holds values that do not go into a table: {problem}; make them of one kind, "
            "such as text, leave the column out, or pass a .jsonl file, where every row may be different"
        ) from error


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write rows to a parquet file; no more of them than a row group has are held at a time."""
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            held.append(batch)
            if sum(map(len, held)) >= _GROUP_ROWS or sum(one.nbytes for one in held) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
