"""Describe the files or splits that a snapshot's rows were read from, and write rows back as they were."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import InputError
from .arrow_types import dataset_type, plain_batch
from .records import BATCH, TextForm, open_bytes
from .tables import Table, as_dataset, fields_of, readable, write_parquet
from .text_files import field_reader

if TYPE_CHECKING:
    import datasets

_PARQUET, _STREAM = ".parquet", ".arrow"
# This many rows at the start of a table are written on trial.
_TRIED = 100


@dataclass(frozen=True)
class Source:
    """One file, saved data set or split of a snapshot.

    Attributes:
        place: The name of its file among those of several; empty where it is the only one.
        suffix: How a file of its rows is named; empty for a folder that `datasets` saves.
        frame: What a text container has before, between and after its rows.
        form: How text rows are read again; None for a table.
        first, count: The position of its first row in the snapshot, and the number of its rows.
        batches: The batches of the snapshot that hold them, the end excluded.
        table: The name, without its ending, of the file that keeps a table's columns; empty for text.
    """

    place: str
    suffix: str
    frame: tuple[str, ...]
    form: TextForm | None
    first: int
    count: int
    batches: tuple[int, int]
    table: str

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Source:
        """Make a source from its form in JSON."""
        form = stored["form"] and TextForm(**stored["form"])
        return cls(**stored | {"form": form, "frame": tuple(stored["frame"]), "batches": tuple(stored["batches"])})

    def kept_in(self, folder: Path) -> Path:
        """Return the file that keeps a table's columns. A folder of `datasets` may have types that parquet lacks."""
        return folder / f"{self.table}{_PARQUET if self.suffix else _STREAM}"

    def fields(
        self, folder: Path, batches: Iterator[pa.RecordBatch], wanted: NDArray[np.int64]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield all columns of some rows.

        Args:
            folder: The snapshot's.
            batches: Its batches of this source.
            wanted: Positions among the rows of this source, in rising order.
        """
        read = None if self.form is None else field_reader(self.form, self._head)
        start = 0
        for batch in batches if read else self._table_batches(folder):
            here = pa.array(wanted[(wanted >= start) & (wanted < start + len(batch))] - start)
            start += len(batch)
            if not len(here):
                continue
            if read:
                yield from (read(raw.as_py()) for raw in batch.column("raw").take(here))
            else:
                yield from fields_of(plain_batch(batch).take(here))

    def write(self, folder: Path, batches: Iterator[pa.RecordBatch], chosen: NDArray[np.bool_], path: Path) -> None:
        """Write the chosen rows, shape (count,), as they were read."""
        if self.form is not None:
            self._write_text(batches, chosen, path)
        elif self.suffix:
            table = pq.ParquetFile(self.kept_in(folder))
            write_parquet(_filtered(table.iter_batches(BATCH), chosen), table.schema_arrow, path)
        else:
            import datasets

            rows = datasets.Dataset.from_file(str(self.kept_in(folder)))
            places = np.flatnonzero(chosen)
            # A data set that is saved without any shard, as one without rows is, cannot be loaded.
            with _without_bars():
                rows.select(places).save_to_disk(str(path), num_shards=None if len(places) else 1)

    @property
    def _head(self) -> bytes:
        return self.frame[0].encode("utf-8", "surrogateescape")

    def _write_text(self, batches: Iterator[pa.RecordBatch], chosen: NDArray[np.bool_], path: Path) -> None:
        head, separator, tail = (part.encode("utf-8", "surrogateescape") for part in self.frame)
        written = False
        with open_bytes(path, "wb") as file:
            file.write(head)
            for batch in batches:
                mask = chosen[batch.column("row").to_numpy() - self.first]
                if mask.any():
                    rows: list[bytes] = batch.column("raw").filter(pa.array(mask)).to_pylist()
                    file.write((separator if written else b"") + separator.join(rows))
                    written = True
            file.write(tail)

    def _table_batches(self, folder: Path) -> Iterator[pa.RecordBatch]:
        path = self.kept_in(folder)
        if path.suffix == _PARQUET:
            yield from pq.ParquetFile(path).iter_batches(BATCH)
            return
        with pa.memory_map(str(path)) as file:
            yield from pa.ipc.open_stream(file)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep `datasets` from showing its own progress next to ours."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def keep_table(table: Table, source: Source, folder: Path) -> None:
    """Keep a table's columns in a snapshot, and try at once whether its rows can be written and read again.

    Raises:
        InputError: Some of its rows cannot be written, or not be read again.
    """
    kept, tried = source.kept_in(folder), folder / f"tried{source.suffix}"
    with readable(table.name):
        if source.suffix:
            write_parquet(table.batches(), table.schema, kept)
        else:
            with pa.OSFile(str(kept), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                for batch in table.batches():
                    writer.write_batch(batch)
        some = np.arange(source.count) % 2 == 0
        some[_TRIED:] = False
        source.write(folder, iter(()), some, tried)
        wanted = np.flatnonzero(some)
        if source.suffix:
            written = [row for batch in pq.ParquetFile(tried).iter_batches(BATCH) for row in fields_of(batch)]
            as_they_came = repr(written) == repr(list(source.fields(folder, iter(()), wanted)))
        else:
            # Saving puts images that lie elsewhere into the data set, so that values may differ.
            saved, again = load_table(source, tried), list(source.fields(folder, iter(()), wanted))
            as_they_came = len(saved) == len(again) and saved.features.arrow_schema == table.schema
        if not as_they_came:
            raise InputError(f"{table.name}: has values that do not come back as they are when they are written")
    if tried.is_dir():
        shutil.rmtree(tried)
    else:
        tried.unlink()


def load_table(source: Source, path: Path) -> datasets.Dataset:
    """Load the rows that a table's source wrote.

    Raises:
        InputError: `datasets` has no type for a column; the file itself has it all.
    """
    import datasets

    if source.suffix:
        with readable(str(path)):
            table = pq.read_table(path, memory_map=True)
            usual = [field.with_type(dataset_type(field.type)) for field in table.schema]
            schema = pa.schema(usual, table.schema.metadata)
            with suppress(ValueError):
                return datasets.Dataset(table)
            # `datasets` has no type for a map, for instance.
            return datasets.Dataset(table.cast(schema) if len(table) else schema.empty_table())
    saved: datasets.Dataset = datasets.load_from_disk(str(path))
    return saved


def one_after_the_other(parts: Sequence[datasets.Dataset], name: str) -> datasets.Dataset:
    """Join the rows of several data sets, with every field that any of them has.

    Raises:
        InputError: They do not make one table.
    """
    import datasets

    filled = [part for part in parts if len(part)] or list(parts[:1])
    if len(filled) == 1:
        return filled[0]
    try:
        return datasets.concatenate_datasets(filled)
    except (ValueError, pa.ArrowException):
        return as_dataset(chain.from_iterable(part.to_list() for part in filled), name)


def _filtered(batches: Iterator[pa.RecordBatch], chosen: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        yield batch.filter(pa.array(chosen[start : start + len(batch)]))
        start += len(batch)
