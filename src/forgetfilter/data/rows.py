"""Read and check a data set once, and keep it in a folder of its own.

The snapshot makes a run independent of the file that it came from: the rows, in one Arrow file that is
mapped into memory rather than loaded, and what is needed to write any of them back as they came.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import BadRow, BadRowsError, InputError, RunError
from ..runs.files import written_whole
from .chats import Chat, FieldError, Message
from .columns import find_layout
from .layouts import Layout
from .records import BATCH, Container, Record, Several, in_batches
from .sources import Source, keep_table, load_table, one_after_the_other
from .tables import Table, as_dataset

if TYPE_CHECKING:
    import datasets

# Id, position and chat of a row.
Said = tuple[str, int, Chat]

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("trained", pa.bool_()), ("extra", pa.string())])
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("messages", pa.list_(_MESSAGE)),
        ("rejected", pa.list_(_MESSAGE)),
        # Tools and further variables of the chat template, as JSON; null where there are none.
        ("beside", pa.string()),
        ("raw", pa.large_binary()),
    ]
)
_ROWS, _INFO = "rows.arrow", "info.json"
# A layout is looked for in this many of the first rows.
_TRIED = 100
# At most this many unread columns are kept, and this many are shown.
_MOST_UNREAD = 1000
_SHOWN = 10


@dataclass(frozen=True)
class ReadOptions:
    """Says how one data set is read; see the settings of the same names."""

    layout: str = "auto"
    columns: dict[str, str] | None = None
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class Rows:
    """A snapshot that `read_rows` wrote.

    Attributes:
        folder: Where it lies.
        name: What the data set is called in messages.
        suffix: How a file of these rows is named; empty where they are written as a folder.
        layout: The layout in which the rows were read.
        columns: Where its fields are: field to column.
        note: How files are read, as far as that was found by looking.
        count: All rows, bad ones included.
        bad: Rows that cannot be used; there are none unless bad rows were to be skipped.
        sources: What the rows were read from, one after the other.
        splits: Which of their folders are saved as a DatasetDict, and the names of its splits; "" is the whole.
        not_read: What lay there, too, and was not read, a line each.
        unread: Columns in which rows have something that the layout does not read.
    """

    folder: Path
    name: str
    suffix: str
    layout: str
    columns: dict[str, str]
    note: str
    count: int
    bad: tuple[BadRow, ...]
    sources: tuple[Source, ...]
    splits: dict[str, list[str]]
    not_read: tuple[str, ...]
    unread: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> Rows:
        """Open a snapshot.

        Raises:
            RunError: It is damaged, or another version wrote it.
        """
        try:
            info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
            info["bad"] = tuple(BadRow(**row) for row in info["bad"])
            info["sources"] = tuple(Source.of(source) for source in info["sources"])
            info["not_read"] = tuple(info["not_read"])
            info["unread"] = tuple(info.get("unread", ()))
            return cls(folder, **info)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{folder / _INFO}: damaged, or another version of forgetfilter wrote it; start again with --overwrite "
                "or another --output"
            ) from error

    def usable(self) -> Iterator[Said]:
        """Yield id, position and chat of every row that can be used, in order."""
        for batch in read_batches(self.folder / _ROWS):
            for row in batch.select(["id", "row", *_CHAT]).to_pylist():
                if row["messages"] is not None:
                    yield row["id"], row["row"], _chat(row)

    def rejected(self) -> Iterator[Said]:
        """Yield id, position and rejected side of every usable preference, in order."""
        for id, row, chat in self.usable():
            if (other := chat.other_side) is not None:
                yield id, row, other

    @property
    def columns_told(self) -> str:
        """Name the columns of the layout's fields where they differ from the fields; empty where none does."""
        other = [f"{field} in {column}" for field, column in self.columns.items() if field != column]
        return f" ({', '.join(other)})" if other else ""

    @property
    def unread_told(self) -> str:
        """Name the columns that are not read; empty where all are read."""
        more = f" and {len(self.unread) - _SHOWN:,} more" if len(self.unread) > _SHOWN else ""
        return f"columns not read: {', '.join(self.unread[:_SHOWN])}{more}" if self.unread else ""

    def ids(self) -> pa.ChunkedArray:
        """Return the ids of all rows, in order; null where a row cannot be used."""
        return pa.chunked_array([batch.column("id") for batch in read_batches(self.folder / _ROWS)], pa.string())

    def at(self, positions: Sequence[int]) -> Iterator[tuple[int, Chat]]:
        """Yield position and chat of some usable rows, in the order of the input."""
        wanted, start = sorted(positions), 0
        for batch in read_batches(self.folder / _ROWS):
            while wanted and wanted[0] < start + len(batch):
                position = wanted.pop(0)
                yield position, _chat(batch.select(_CHAT).slice(position - start, 1).to_pylist()[0])
            start += len(batch)

    def files(self, positions: NDArray[np.int64]) -> pa.Array:
        """Return the file that each row of several sources is in, by its place among `kept`."""
        firsts = np.array([source.first for source in self.sources])
        # A source without rows and the next source have the same first row.
        places = pa.array([source.place for source in self.sources], pa.string())
        return places.take(pa.array(np.searchsorted(firsts, positions, side="right") - 1))

    def fields(self, positions: Sequence[int]) -> Iterator[Mapping[str, Any]]:
        """Yield all columns of some usable rows, in the order of the input."""
        wanted = np.sort(np.asarray(positions, dtype=np.int64))
        for source in self.sources:
            here = wanted[(wanted >= source.first) & (wanted < source.first + source.count)] - source.first
            if len(here):
                yield from source.fields(self.folder, self._batches_of(source), here)

    def _batches_of(self, source: Source) -> Iterator[pa.RecordBatch]:
        return read_batches(self.folder / _ROWS, source.batches)

    def write_bad(self, path: Path) -> None:
        """Write the rows that cannot be used, as they were read."""
        chosen = np.zeros(self.count, dtype=bool)
        chosen[[row.row for row in self.bad]] = True
        self.write(chosen, path)

    def write(self, chosen: NDArray[np.bool_], path: Path) -> None:
        """Write the chosen rows, shape (count,), as they were read: every field, in order, byte for byte for text.

        Rows of several sources go into a folder in which each of them has a file, whether or not rows are in it.
        """
        for source in self.sources:
            of_source = chosen[source.first : source.first + source.count]
            target = path / source.place if source.place else path
            target.parent.mkdir(parents=True, exist_ok=True)
            source.write(self.folder, self._batches_of(source), of_source, target)
        for folder, names in self.splits.items():
            (path / folder / "dataset_dict.json").write_text(json.dumps({"splits": names}), encoding="utf-8")

    def load(self, path: Path, positions: Sequence[int]) -> datasets.Dataset:
        """Load the rows at some positions, which `write` wrote to a file or folder, as one data set of all sources.

        Raises:
            InputError: They do not make a table.
        """
        if all(source.form is not None for source in self.sources):
            # No lines of text say what columns they have.
            shown = positions if len(positions) else [row for _, row, _ in islice(self.usable(), 1)]
            loaded = as_dataset(self.fields(shown), path.name)
            return loaded if len(positions) else loaded.select([])
        wanted = np.sort(np.asarray(positions, dtype=np.int64))
        parts = []
        for source in self.sources:
            here = wanted[(wanted >= source.first) & (wanted < source.first + source.count)]
            if source.form is None:
                parts.append(load_table(source, path / source.place if source.place else path))
            elif len(here):
                parts.append(as_dataset(self.fields(here.tolist()), source.place))
        return one_after_the_other(parts, path.name)


_CHAT = ["messages", "rejected", "beside"]


def _stored(chat: Chat) -> dict[str, Any]:
    beside = {"tools": chat.tools, "template_kwargs": chat.template_kwargs}
    return {
        "messages": _stored_messages(chat.messages),
        "rejected": None if chat.rejected is None else _stored_messages(chat.rejected),
        "beside": json.dumps(beside) if chat.tools or chat.template_kwargs else None,
    }


def _stored_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{**vars(turn), "extra": json.dumps(turn.extra) if turn.extra else None} for turn in messages]


def _chat(row: Mapping[str, Any]) -> Chat:
    """Restore the chat that `_stored` stored."""
    rejected = None if row["rejected"] is None else _messages(row["rejected"])
    return Chat(_messages(row["messages"]), rejected=rejected, **json.loads(row["beside"] or "{}"))


def _messages(stored: list[dict[str, Any]]) -> list[Message]:
    return [Message(**{**turn, "extra": json.loads(turn["extra"] or "{}")}) for turn in stored]


def read_rows(
    container: Container,
    options: ReadOptions,
    folder: Path,
    on_row: Callable[[], None] = lambda: None,
    check: Callable[[Chat], None] = lambda _: None,
) -> Rows:
    """Read and check a whole data set, and keep it in `folder`, which must exist and be empty.

    Args:
        container: The data set.
        options: How it is read.
        folder: Where it is kept.
        on_row: Called after every row.
        check: Raises FieldError for a row that cannot be used, such as one that the chat template refuses.

    Raises:
        InputError: The data set cannot be read, holds no rows, or its layout is not known.
        BadRowsError: Some rows cannot be used, and bad rows are not to be skipped.
    """
    layout: Layout | None = None
    bad: list[BadRow] = []
    unread: dict[str, None] = {}
    count = 0

    def stored() -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal layout, count
        for record, layout, said in read_chats(container, options, check):
            row: dict[str, Any] = {"row": count, "line": record.line, "raw": record.raw}
            if isinstance(said, BadRow):
                bad.append(said)
            else:
                row |= {"id": _id(record.fields, said), **_stored(said)}
                # A hostile file may have columns of its own in every row.
                if layout is not None and record.fields is not None and len(unread) < _MOST_UNREAD:
                    unread.update(dict.fromkeys(layout.unread(record.fields)))
            count += 1
            on_row()
            yield record.source, row

    members = container.members
    # How many rows and how many batches each member has; a batch has rows of one member alone.
    counts, batches = [0] * len(members), [0] * len(members)
    with pa.OSFile(str(folder / _ROWS), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for source, of_source in groupby(stored(), key=itemgetter(0)):
            for batch in in_batches((row for _, row in of_source), _size):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, _SCHEMA))
                counts[source] += len(batch)
                batches[source] += 1
    files = {member.name: rows for member, rows in zip(members, counts, strict=True)} if len(members) > 1 else {}
    _check(container.name, count, bad, files, skip_bad_rows=options.skip_bad_rows)
    _make_ids_unique(folder / _ROWS)
    sources = _sources(container, counts, batches)
    for source, member in zip(sources, members, strict=True):
        if isinstance(member, Table):
            keep_table(member, source, folder)
    info = {
        "name": container.name,
        "suffix": container.suffix,
        "layout": layout.name if layout else "",
        "columns": dict(layout.columns) if layout else {},
        "note": container.note,
        "count": count,
        "bad": [vars(row) for row in bad],
        "sources": [asdict(source) for source in sources],
        "splits": container.splits if isinstance(container, Several) else {},
        "not_read": container.not_read,
        "unread": list(unread),
    }
    (folder / _INFO).write_text(json.dumps(info), encoding="utf-8")
    return Rows.open(folder)


def _sources(container: Container, counts: Sequence[int], batches: Sequence[int]) -> list[Source]:
    places = container.places if isinstance(container, Several) else [""]
    rows, parts = np.cumsum([0, *counts]).tolist(), np.cumsum([0, *batches]).tolist()
    return [
        Source(
            place,
            member.suffix,
            tuple(part.decode("utf-8", "surrogateescape") for part in (member.head, member.separator, member.tail)),
            member.form,
            rows[i],
            counts[i],
            (parts[i], parts[i + 1]),
            "" if member.form else f"source-{i}" if place else "source",
        )
        for i, (place, member) in enumerate(zip(places, container.members, strict=True))
    ]


def read_chats(
    container: Container, options: ReadOptions, check: Callable[[Chat], None] = lambda _: None
) -> Iterator[tuple[Record, Layout | None, Chat | BadRow]]:
    """Yield every record of a container with its layout and its chat, or why it cannot be used.

    Args:
        container, options, check: As `read_rows` takes them.

    Raises:
        InputError: The data set cannot be read, or its layout is not known.
    """
    several = isinstance(container, Several)
    records, layout = _with_layout(container, options)
    for row, record in enumerate(records):
        file = container.members[record.source].name if several else ""
        if record.fields is None or layout is None:
            found, expected = record.problem or ("nothing", "a row")
            yield record, layout, BadRow(row, record.line, None, found, expected, file)
            continue
        try:
            chat = layout.chat(record.fields)
            check(chat)
        except FieldError as error:
            yield record, layout, BadRow(row, record.line, error.field or None, error.found, error.expected, file)
        else:
            yield record, layout, chat


def _with_layout(container: Container, options: ReadOptions) -> tuple[Iterator[Record], Layout | None]:
    """Return all records of a container, and the layout of the first that has one; None where there is no row.

    Raises:
        InputError: No layout fits any of the first rows; says what is wrong with the very first.
    """
    records, looked_at = iter(container.records()), list[Record]()
    problem: InputError | None = None
    tried = 0
    for record in records:
        looked_at.append(record)
        if record.fields is None:
            continue
        try:
            name = container.members[record.source].name
            layout = find_layout(record.fields, options.layout, options.columns or {}, name)
        except InputError as error:
            problem, tried = problem or error, tried + 1
            if tried == _TRIED:
                break
        else:
            return chain(looked_at, records), layout
    if problem is not None:
        raise problem
    return iter(looked_at), None


def _size(row: dict[str, Any]) -> int:
    turns = (*row.get("messages", ()), *(row.get("rejected") or ()))
    of_turns = sum(len(turn["content"]) + len(turn["extra"] or "") for turn in turns)
    return of_turns + len(row.get("beside") or "") + len(row["raw"] or b"")


def _check(name: str, count: int, bad: list[BadRow], files: Mapping[str, int], *, skip_bad_rows: bool) -> None:
    """Refuse a data set without rows, or with bad ones.

    Args:
        name: What to call it.
        count: How many rows it has.
        bad: Those that cannot be used.
        files: How many rows each of several files has, by name; empty where there is one.
        skip_bad_rows: Whether bad rows are set aside.

    Raises:
        InputError: It has no rows that can be used.
        BadRowsError: It has bad rows.
    """
    if count == 0:
        raise InputError(f"{name}: there are no rows in it")
    if bad and not skip_bad_rows:
        by_file = Counter(row.file for row in bad)
        whole = [file for file, rows in files.items() if rows and by_file[file] == rows]
        if whole and len(whole) < len(files):
            advice = f"No row of {whole[0]} has the layout of the other files; filter files of one layout at a time."
            raise BadRowsError(name, bad, len(bad), advice)
        raise BadRowsError(name, bad, len(bad))
    if len(bad) == count:
        raise InputError(f"{name}: none of its {count} rows can be used; the first: {bad[0]}")


def _id(fields: Any, chat: Chat) -> str:
    """Return the row's own `id` where it has one, else a hash of its text, so that order does not matter."""
    given = fields.get("id")
    if isinstance(given, (str, int)) and not isinstance(given, bool) and str(given).strip():
        # An id is only a name: what cannot be stored as text is replaced, the row's own bytes stay.
        return str(given).encode("utf-8", "replace").decode("utf-8")
    said = json.dumps([(m.role, m.text) for m in (*chat.messages, *(chat.rejected or ()))], ensure_ascii=False)
    return blake2b(said.encode("utf-8"), digest_size=8).hexdigest()


def _make_ids_unique(path: Path) -> None:
    """Give the second and later rows of an id the suffixes #2, #3, …; the first keeps it."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        ids = table.column("id").combine_chunks()
        unique = _with_suffixes(ids)
        if unique is ids:
            return
        table = table.set_column(table.schema.get_field_index("id"), "id", unique)
        with (
            written_whole(path) as beside,
            pa.OSFile(str(beside), "wb") as out,
            pa.ipc.new_file(out, _SCHEMA) as writer,
        ):
            writer.write_table(table, max_chunksize=BATCH)


def _with_suffixes(ids: pa.Array) -> pa.Array:
    while True:
        order = pc.sort_indices(ids)
        in_order = ids.take(order)
        alike = pc.equal(in_order[1:], in_order[:-1]).fill_null(False).to_numpy(zero_copy_only=False)
        if not alike.any():
            return ids
        place = np.arange(len(ids))
        first = np.maximum.accumulate(np.where(np.concatenate([[False], alike]), 0, place))
        nth = np.empty_like(place)
        nth[order.to_numpy()] = place - first + 1
        again = pa.array(nth > 1)
        suffixes = pa.array(nth[nth > 1]).cast(pa.string())
        ids = pc.replace_with_mask(ids, again, pc.binary_join_element_wise(ids.filter(again), suffixes, "#"))


def read_batches(path: Path, wanted: tuple[int, int] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file, or some of them, one at a time, mapped into memory."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for i in range(*(wanted or (0, reader.num_record_batches))):
            yield reader.get_batch(i)
