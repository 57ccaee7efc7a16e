"""Whatever Arrow types a table has: its rows come back equal, or one line says before any training why not."""

from datetime import UTC, datetime
from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.data.arrow_types import plain_array, plain_type
from forgetfilter.data.containers import from_memory, open_container
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.data.tables import as_dataset
from forgetfilter.errors import InputError

ROWS = 7
KEPT = np.array([True, False, False, True, True, False, True])

# Type, and a value of it that is not null.
LEAVES = [
    (pa.string(), "ä"),
    (pa.string_view(), "a text of more than twelve bytes"),
    (pa.binary_view(), b"\xff\x00"),
    (pa.large_string(), "a"),
    (pa.binary(2), b"ab"),
    (pa.null(), None),
    (pa.struct([]), {}),
    (pa.struct([("n", pa.null())]), {"n": None}),
    (pa.list_(pa.null()), [None]),
    (pa.list_(pa.struct([])), [{}, {}]),
    (pa.list_view(pa.string()), ["a", None]),
    (pa.large_list_view(pa.int8()), [1, 2]),
    (pa.list_view(pa.struct([("v", pa.list_view(pa.string_view()))])), [{"v": ["a", None]}, {"v": None}]),
    (pa.list_(pa.string_view(), 2), ["a", None]),
    (pa.map_(pa.string(), pa.string_view()), [("k", "v"), ("l", None)]),
    (pa.map_(pa.string(), pa.list_view(pa.int8())), [("k", [1]), ("l", None)]),
    (pa.dictionary(pa.int8(), pa.string()), "a"),
    (pa.uint64(), 2**64 - 1),
    (pa.decimal128(38, 4), Decimal("1.2345")),
    (pa.decimal256(60, 2), Decimal("12345678901234567890123456789012345678901234567890.12")),
    (pa.float16(), np.float16(1.5)),
    (pa.timestamp("s"), datetime(2020, 1, 1)),
    (pa.timestamp("ns", "UTC"), datetime(2020, 1, 1, tzinfo=UTC)),
    (pa.date64(), datetime(2020, 1, 1)),
    (pa.time32("s"), 1),
    (pa.duration("s"), 3),
    (pa.month_day_nano_interval(), (1, 2, 3)),
    (pa.json_(), '{"a": 1}'),
    (pa.uuid(), b"0123456789abcdef"),
    (pa.bool8(), 1),
]
DEPTHS = {
    "top": lambda t, v: (t, v),
    "struct": lambda t, v: (pa.struct([("x", t), ("y", pa.int8())]), {"x": v, "y": 1}),
    "list": lambda t, v: (pa.list_(t), [v, None, v]),
    "list of struct": lambda t, v: (pa.list_(pa.struct([("x", t)])), [{"x": v}, None, {"x": None}]),
    "struct of list of list": lambda t, v: (pa.struct([("x", pa.list_(pa.list_(t)))]), {"x": [[v], None, []]}),
}


def table_of(kind, value):
    """Rows of which some are null and some are empty."""
    values = [value, None, value, value, None, value, value]
    column = (
        pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
        if extension(kind)
        else pa.array(values, kind)
    )
    texts = pa.array([f"text {i}" for i in range(ROWS)])
    return pa.table({"text": texts, "extra": column})


def extension(kind):
    return isinstance(kind, pa.BaseExtensionType)


def in_parquet(table, folder):
    pq.write_table(table, folder / "in.parquet")
    return open_container(str(folder / "in.parquet")), pq.read_table(folder / "in.parquet").to_pylist()


def saved(table, folder):
    datasets.Dataset(table).save_to_disk(str(folder / "in"))
    return open_container(str(folder / "in")), datasets.load_from_disk(str(folder / "in")).with_format("arrow")[
        :
    ].to_pylist()


def in_memory(table, folder):  # noqa: ARG001
    made = datasets.Dataset(table)
    return from_memory(made, "rows"), made.with_format("arrow")[:].to_pylist()


def contained(container, kind, value, folder):
    """The container and its rows; None where there can be no such data."""
    try:
        return container(table_of(kind, value), folder)
    except InputError:
        raise
    except (pa.ArrowException, NotImplementedError, ValueError, TypeError, KeyError):
        return None


CONTAINERS = [in_parquet, saved, in_memory]


def written(path):
    if path.is_dir():
        return datasets.load_from_disk(str(path)).with_format("arrow")[:].to_pylist()
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda made: made.__name__)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: str(leaf[0])[:40])
def test_rows_of_every_type_come_back_equal_or_are_refused_when_read(tmp_path, leaf, depth, container):
    made = contained(container, *DEPTHS[depth](*leaf), tmp_path)
    if made is None:
        pytest.skip("there is no such data: pyarrow or datasets cannot write it")
    opened, given = made
    folder = tmp_path / "rows"
    folder.mkdir()
    try:
        opened.fingerprint()
        rows = read_rows(opened, ReadOptions(), folder)
    except InputError as refused:
        said = str(refused)
    else:
        said = ""
    if said:
        assert "\n" not in said
        assert opened.name in said
        return
    for mask, name in (
        (KEPT, "kept"),
        (~KEPT, "removed"),
        (np.zeros(ROWS, bool), "none"),
        (np.ones(ROWS, bool), "all"),
    ):
        path = tmp_path / f"{name}{rows.suffix}"
        rows.write(mask, path)
        assert repr(written(path)) == repr([row for row, chosen in zip(given, mask, strict=True) if chosen])
        assert len(rows.load(path, np.flatnonzero(mask).tolist())) == mask.sum()
    assert [row["text"] for row in rows.fields([1, 5])] == ["text 1", "text 5"]


@pytest.mark.parametrize("kind", [kind for kind, _ in LEAVES[:14]], ids=lambda kind: str(kind)[:40])
def test_views_nulls_and_empty_objects_are_read_and_not_refused(tmp_path, kind):
    """The law above lets a type be refused; these are not, in whatever container there can be."""
    value = next(value for of, value in LEAVES if of == kind)
    for container in CONTAINERS:
        (tmp_path / container.__name__).mkdir()
        made = contained(container, pa.list_(kind), [value], tmp_path / container.__name__)
        if made is None:
            continue
        opened, _ = made
        (tmp_path / container.__name__ / "rows").mkdir()
        assert read_rows(opened, ReadOptions(), tmp_path / container.__name__ / "rows").count == ROWS


@pytest.mark.parametrize(("start", "length"), [(0, 4), (1, 3), (2, 0), (1, 1)])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.list_view(pa.string_view()), [["x", "y"], None, [], ["z", None]]),
        (pa.large_list_view(pa.struct([("q", pa.binary_view())])), [[{"q": b"1"}], None, [None], [{"q": None}]]),
        (pa.struct([("a", pa.string_view())]), [{"a": "x"}, None, {"a": None}, {"a": "y"}]),
        (pa.list_(pa.string_view(), 1), [["a"], None, [None], ["b"]]),
        (pa.map_(pa.string(), pa.list_view(pa.int8())), [[("k", [1])], None, [], [("l", None), ("m", [2, 3])]]),
        (pa.run_end_encoded(pa.int32(), pa.string()), ["a", "a", None, "b"]),
    ],
    ids=str,
)
def test_views_become_usual_types_with_the_same_values(kind, values, start, length):
    part = pa.array(values, kind).slice(start, length)
    usual = plain_array(part)
    usual.validate(full=True)
    assert usual.to_pylist() == part.to_pylist()
    assert usual.type == plain_type(kind)


def test_rows_in_memory_may_have_values_of_several_types(tmp_path):
    rows = [{"text": "a", "x": 1}, {"text": "b", "x": "1"}, {"text": "c", "x": {"y": [None, 2.5]}}]
    folder = tmp_path / "rows"
    folder.mkdir()
    snap = read_rows(from_memory(rows, "rows"), ReadOptions(), folder)
    snap.write(np.array([True, False, True]), tmp_path / "kept.parquet")
    assert snap.load(tmp_path / "kept.parquet", [0, 2]).to_list() == [rows[0], rows[2]]
    assert list(snap.fields([0, 1, 2])) == rows


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"text": "a", "x": 2**70}],
            "column 'x' holds values that do not go into a table: a number beyond 64 bits",
        ),
        ([{"text": "a", "x": [{"y": -(2**63) - 1}]}], "beyond 64 bits"),
        ([{"text": "a", "x": object()}], "column 'x'"),
        ([{"text": "\ud800"}], "column 'text'"),
        ([{"text": "a", 1: 2}], "found 1 for the name of a field"),
        (["a"], "row 0: found a str"),
    ],
)
def test_rows_in_memory_that_make_no_table_are_refused_in_a_line(rows, said):
    with pytest.raises(InputError) as error:
        as_dataset(rows, "rows")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_page_is_told_in_a_line(tmp_path):
    table = pa.table({"text": [f"row {i} " * 50 for i in range(200)]})
    pq.write_table(table, tmp_path / "in.parquet", compression="none", use_dictionary=False)
    content = bytearray((tmp_path / "in.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (tmp_path / "in.parquet").write_bytes(content)
    for use in (lambda opened: opened.fingerprint(), lambda opened: list(opened.records())):
        with pytest.raises(InputError, match="holds something that cannot be read") as error:
            use(open_container(str(tmp_path / "in.parquet")))
        assert "\n" not in str(error.value)


def test_two_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="two columns have the same name, 'text'"):
        open_container(str(tmp_path / "in.parquet"))
