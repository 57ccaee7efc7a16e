"""Read tables: parquet files and data sets, whose rows keep their columns."""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, first_line
from ..limits import ExceededError, bounded
from .arrow_types import plain_batch, plain_schema, value_decoder
from .chats import DEEPEST, is_deep
from .records import BATCH, LONGEST_ROW, Container, Record, check_length, hash_chunks, is_valid_text

if TYPE_CHECKING:
    import datasets

# A row group has this many rows, or fewer where they take this many bytes.
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 1 << 26
_VALUES = "values"
# What pyarrow and datasets raise for content that is damaged, encrypted, or of a kind that they cannot handle.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, NotImplementedError, IndexError)
_PROBLEM_SHOWN = 200
# What some rows may take that are read at once; a small file may hold as much.
_MEMORY = 1 << 32
_BUFFER = 1 << 20


class Table(Container):
    """Rows of an Arrow table: a parquet file, a saved datasets folder, a hub data set, or one in memory."""

    suffix = ".parquet"

    @property
    @abstractmethod
    def schema(self) -> pa.Schema: ...

    @abstractmethod
    def _batches(self) -> Iterator[pa.RecordBatch]: ...

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows, some at a time.

        Raises:
            InputError: They cannot be read; says why.
        """
        batches = self._batches()
        while (batch := self._next(batches)) is not None:
            yield batch

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        with readable(self.name), bounded(_MEMORY):
            return next(batches, None)

    def records(self) -> Iterator[Record]:
        row = 0
        for batch in self.batches():
            for part in _parts(batch, row, self.name):
                with readable(self.name), bounded(_MEMORY):
                    rows = fields_of(part)
                row += len(part)
                for fields in rows:
                    yield Record(fields)

    def fingerprint(self) -> str:
        chunks = (batch.serialize().to_pybytes() for batch in self.batches())
        return hash_chunks([self.schema.remove_metadata().serialize().to_pybytes(), *chunks])


class Parquet(Table):
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                stored = file.schema_arrow
        except _UNREADABLE as error:
            raise InputError(f"{path}: not a parquet file: {first_line(error)}") from error
        # Rows of view types cannot be selected one by one; the same values in the usual types can.
        self._schema = plain_schema(stored)
        twice = [name for name in stored.names if stored.names.count(name) > 1]
        if twice:
            raise InputError(f"{path}: two columns have the same name, '{twice[0]}'; rename one of them")

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def _batches(self) -> Iterator[pa.RecordBatch]:
        # The file is opened each time, as a folder may have more files than can be open at once.
        with pq.ParquetFile(self.path, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(_rows_at_once(file.metadata)):
                yield plain_batch(batch)


class Dataset(Table):
    """A `datasets.Dataset`: saved in a folder, from the hub, or made in memory.

    Args:
        dataset: The rows.
        name: What to call them in messages.
        as_folder: Whether they are written as a folder that `datasets` saves rather than as parquet; so is what
            parquet cannot hold, such as an object without fields.
    """

    def __init__(self, dataset: datasets.Dataset, name: str, *, as_folder: bool = False) -> None:
        super().__init__(name)
        self._dataset = dataset.with_format("arrow")
        with readable(name):
            self._stored: pa.Schema = self._dataset.features.arrow_schema
        plain = plain_schema(self._stored)
        as_folder = as_folder or not _parquet_holds(plain)
        self.suffix = "" if as_folder else Table.suffix
        self._schema = self._stored if as_folder else plain

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for table in self._dataset.iter(BATCH):
            for batch in pa.table(table).combine_chunks().to_batches():
                yield batch if self._schema is self._stored else plain_batch(batch)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say in one line why a table cannot be read.

    Raises:
        InputError: It cannot; names it.
    """
    try:
        yield
    except InputError:
        raise
    except ExceededError as error:
        raise InputError(
            f"{name}: takes {error} for some rows; cut long ones into several, or leave them out"
        ) from error
    except _UNREADABLE as error:
        raise InputError(f"{name}: holds something that cannot be read: {first_line(error)}") from error


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Return how many rows of a parquet file fit into memory together, by what the file says of their size."""
    size: int = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    rows: int = max(1, metadata.num_rows)
    return max(1, min(BATCH, _MEMORY // 4 * rows // max(1, size)))


def _parts(batch: pa.RecordBatch, first: int, name: str) -> Iterator[pa.RecordBatch]:
    """Cut a batch into parts no larger than a row may be.

    Raises:
        InputError: A row is larger.
    """
    size = sum(column.indices.nbytes if pa.types.is_dictionary(column.type) else column.nbytes for column in batch)
    if size <= LONGEST_ROW:
        yield batch
        return
    half = len(batch) // 2
    if not half:
        check_length(size, name, f"row {first}")
    yield from _parts(batch.slice(0, half), first, name)
    yield from _parts(batch.slice(half), first + half, name)


def fields_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch as dictionaries, with the values that JSON columns stand for."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    for field in batch.schema:
        decode = value_decoder(field.type)
        if decode:
            for row in rows:
                row[field.name] = decode(row[field.name])
    return rows


def as_dataset(rows: Iterable[Mapping[str, Any]], name: str) -> datasets.Dataset:
    """Make a data set of rows, with every field that any of them has; null where a row lacks it.

    A field whose values are of several types becomes a column of JSON, which reads back as the same values.

    Raises:
        InputError: The values of a field do not go into a column at all.
    """
    import datasets

    objects = []
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{name}: row {i}: found a {type(row).__name__}, expected an object with the row's fields")
        deep = next((field for field, value in row.items() if is_deep(value)), None)
        if deep is not None:
            # Arrow and datasets recurse as deep as the data does, until the program crashes.
            raise InputError(f"{name}: row {i}: '{deep}' holds values within each other more than {DEEPEST} deep")
        objects.append(dict(row))
    fields = dict.fromkeys(field for row in objects for field in row)
    odd = [field for field in fields if not isinstance(field, str) or not is_valid_text(field)]
    if odd:
        raise InputError(f"{name}: found {odd[0]!r} for the name of a field, expected valid text")
    columns = [_column([row.get(field) for row in objects], name, field) for field in fields]
    features = datasets.Features({field: one.features[_VALUES] for field, one in zip(fields, columns, strict=True)})
    table = pa.table([one.data.column(_VALUES) for one in columns], schema=features.arrow_schema)
    return datasets.Dataset(table, datasets.DatasetInfo(features=features))


def _column(values: list[Any], name: str, field: str) -> datasets.Dataset:
    """Make one column, of JSON where its values are of several types."""
    import datasets

    with column_errors(name, field):
        try:
            return datasets.Dataset.from_dict({_VALUES: values})
        except _UNREADABLE:
            column = _as_json(values)
            if column is None:
                raise
            return column


def _as_json(values: list[Any]) -> datasets.Dataset | None:
    """Make a column of values as JSON; None where that does not give them back."""
    import datasets

    try:
        features = datasets.Features({_VALUES: datasets.Json()})
        texts = [None if value is None else json.dumps(value) for value in values]
        table = pa.table([pa.array(texts, pa.string())], schema=pa.schema([(_VALUES, pa.string())]))
        column = datasets.Dataset(table.cast(features.arrow_schema), datasets.DatasetInfo(features=features))
        return column if json.dumps(column[_VALUES][:]) == json.dumps(values) else None
    except _UNREADABLE:
        return None


@contextmanager
def column_errors(name: str, column: str) -> Iterator[None]:
    """Turn Arrow's errors about the values of a column into an InputError of one line that names the column."""
    try:
        yield
    except _UNREADABLE as error:
        problem = "a number beyond 64 bits" if isinstance(error, OverflowError) else " ".join(str(error).split())
        raise InputError(
            f"{name}: column '{column}' holds values that do not go into a table: {problem[:_PROBLEM_SHOWN]}; make "
            "them of one kind, such as text, leave the column out, or pass a .jsonl file, whose rows may differ"
        ) from error


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write rows to a parquet file, holding no more of them in memory than a row group has."""
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batches:
            held.append(batch)
            if sum(map(len, held)) >= _GROUP_ROWS or sum(one.nbytes for one in held) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))


def _parquet_holds(schema: pa.Schema) -> bool:
    try:
        with pq.ParquetWriter(io.BytesIO(), schema) as writer:
            writer.write_table(schema.empty_table())
    except _UNREADABLE:
        return False
    return True
