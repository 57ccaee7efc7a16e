"""Turn rows that a Python program already has, whatever holds them, into a `datasets.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import InputError
from .arrow_types import dataset_type, plain_array, plain_type
from .tables import as_dataset, column_errors

if TYPE_CHECKING:
    import datasets

TAKEN = (
    "pass a path, a hub id, a datasets.Dataset or DatasetDict, a pandas, polars or Arrow table, a dict of columns, or "
    "rows as dicts, such as [{'prompt': 'May I?', 'completion': 'No.'}]"
)
_SHOWN = 60


def splits_of(rows: Any) -> Mapping[str, Any] | None:
    """Return the data sets of a DatasetDict, or a plain dict of data sets, by split; None for anything else."""
    import datasets

    kinds = (datasets.Dataset, datasets.IterableDataset)
    named = isinstance(rows, Mapping) and bool(rows) and all(isinstance(value, kinds) for value in rows.values())
    return rows if named else None


def take_in(rows: Any, name: str, on_row: Callable[[], None]) -> datasets.Dataset:
    """Make a data set of rows in memory. A stream is read to its end, so it has to have one.

    Args:
        rows: A data set of `datasets`, streamed or not; a table of pandas, polars or Arrow; a dict of columns; or
            mappings, one a row.
        name: What to call it in messages.
        on_row: Called after every row that is read one by one.

    Raises:
        InputError: It is none of these, it has no rows, or a column holds what no table can.
    """
    import datasets

    if isinstance(rows, datasets.Dataset):
        dataset = rows
    elif isinstance(rows, datasets.IterableDataset):
        dataset = as_dataset(_counted(rows.with_format(None), on_row), name)
    elif _is_of(rows, "pandas", "DataFrame"):
        dataset = _from_arrow(_from_pandas(rows, name), name)
    elif hasattr(rows, "__arrow_c_stream__"):
        dataset = _from_arrow(_stream(rows, name), name)
    elif isinstance(rows, Mapping):
        dataset = as_dataset(_from_columns(rows, name), name)
    else:
        dataset = as_dataset(_counted(_mappings(rows, name), on_row), name)
    if not len(dataset):
        raise InputError(f"{name}: there are no rows in it")
    return dataset


def _counted(rows: Iterable[Mapping[str, Any]], on_row: Callable[[], None]) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        on_row()
        yield row


def _is_of(value: Any, package: str, name: str) -> bool:
    """Tell whether a value is of a class of a package that need not be installed."""
    return any(kind.__module__.partition(".")[0] == package and kind.__name__ == name for kind in type(value).__mro__)


def _mappings(rows: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield rows that are mappings.

    Raises:
        InputError: They are something else; says what to pass instead.
    """
    kind = type(rows).__name__
    if _is_of(rows, "torch", "DataLoader"):
        raise InputError(f"{name}: found a torch DataLoader, whose batches are no rows; {TAKEN}")
    if _is_of(rows, "torch", "Dataset"):
        remedy = "pass a list of its items if they are dicts of text: [dataset[i] for i in range(len(dataset))]"
        raise InputError(f"{name}: found a torch {kind}; {remedy}; else {TAKEN}")
    if isinstance(rows, (str, bytes, bytearray)) or not isinstance(rows, Iterable):
        raise InputError(f"{name}: found {_a(rows)}; {TAKEN}")
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{name}: row {i} is {_a(row)}; {_instead_of(row)}")
        odd = next((key for key in row if not isinstance(key, str)), None)
        if odd is not None:
            raise InputError(f"{name}: row {i} has a column named {_short(odd)}, {_a(odd)}; name columns by text")
        yield row


def _instead_of(row: Any) -> str:
    if isinstance(row, str):
        return "for plain texts pass [{'text': text} for text in texts]; else " + TAKEN
    if isinstance(row, Sequence) and len(row) and isinstance(row[0], Mapping):
        return "for lists of messages pass [{'messages': messages} for messages in chats]"
    if isinstance(row, (tuple, list)):
        return (
            "name its columns, such as [{'prompt': prompt, 'completion': completion} for prompt, completion in pairs]"
        )
    return TAKEN


def _a(value: Any) -> str:
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _from_columns(columns: Mapping[Any, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Return the rows of a dict that has a list for each column."""
    lists: dict[str, list[Any]] = {}
    for key, values in columns.items():
        if not isinstance(key, str):
            raise InputError(f"{name}: has a column named {_short(key)}, {_a(key)}; name columns by text")
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise InputError(
                f"{name}: found a dict of which '{key}' is {_a(values)}, not a list of values; for one row pass [row], "
                f"else {TAKEN}"
            )
        lists[key] = list(values)
    lengths = {key: len(values) for key, values in lists.items()}
    if len(set(lengths.values())) > 1:
        different = ", ".join(f"{key} {length:,}" for key, length in lengths.items())
        raise InputError(f"{name}: its columns are of different lengths: {different}")
    return (dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True))


def _check_names(columns: Sequence[str], name: str) -> None:
    twice = next((column for i, column in enumerate(columns) if column in columns[:i]), None)
    if twice is not None:
        raise InputError(f"{name}: has two columns named '{twice}'; rename one of them")


def _stream(rows: Any, name: str) -> pa.Table:
    """Read the table that an object offers through Arrow's own interface, as polars and others do."""
    try:
        return pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{name}: found {_a(rows)}, which is no table of named columns; {TAKEN}") from error


def _from_pandas(frame: Any, name: str) -> pa.Table:
    """Convert a DataFrame, with its named index as columns; NaN becomes null."""
    if any(level is not None for level in frame.index.names):
        try:
            frame = frame.reset_index()
        except ValueError as error:
            raise InputError(f"{name}: its index and a column have one name: {error}; rename one of them") from error
    odd = next((column for column in frame.columns if not isinstance(column, str)), None)
    if odd is not None:
        raise InputError(
            f"{name}: has a column named {_short(odd)}, {_a(odd)}; name columns by text: frame.columns = ['prompt', …]"
        )
    columns = list(frame.columns)
    _check_names(columns, name)
    arrays = []
    for column in columns:
        with column_errors(name, column):
            table = pa.Table.from_pandas(frame[[column]], preserve_index=False)
            arrays.append(table.column(0))
    return pa.table(arrays, names=columns)


def _from_arrow(table: pa.Table, name: str) -> datasets.Dataset:
    """Make a data set of an Arrow table, without types that `datasets` or parquet do not have."""
    import datasets

    arrays = []
    names = table.column_names
    _check_names(names, name)
    for field, column in zip(table.schema, table.columns, strict=True):
        with column_errors(name, field.name):
            plain = pa.chunked_array(map(plain_array, column.chunks), plain_type(field.type))
            arrays.append(plain.cast(dataset_type(plain.type)))
            datasets.Features.from_arrow_schema(pa.schema([field.with_type(arrays[-1].type)]))
    return datasets.Dataset(pa.table(arrays, names=names))
