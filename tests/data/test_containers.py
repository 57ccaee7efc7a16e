"""Every container, in and out: kept + removed = the input, byte for byte where there are bytes."""

import csv
import gzip
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.data.containers import from_memory, open_container
from forgetfilter.data.rows import ReadOptions, Rows, read_rows
from forgetfilter.errors import BadRowsError, InputError

ROWS = [
    {"id": "a", "prompt": "Q1, or “Q”?", "completion": 'line one\nline "two", three', "score": 0.5, "tags": "x"},
    {"id": "b", "prompt": "Q2", "completion": "=1+1", "score": 1.25, "tags": None},
    {"id": "c", "prompt": "Q2", "completion": "不\u2028\u202ed", "score": -3.0, "tags": "y"},
    {"id": "d", "prompt": "", "completion": "last", "score": 1e300, "tags": ""},
]


def snapshot(source, folder, options=None, split="train") -> Rows:
    folder.mkdir()
    container = open_container(str(source), split) if isinstance(source, (str, type(folder))) else source
    return read_rows(container, options or ReadOptions(), folder)


def split_and_write(rows: Rows, folder):
    kept = np.array([True, False, True, False])[: rows.count]
    paths = folder / f"kept{rows.suffix}", folder / f"removed{rows.suffix}"
    for mask, path in zip((kept, ~kept), paths, strict=True):
        rows.write(mask, path)
    return paths


JSON_LINES = [json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_jsonl_lines_come_back_byte_for_byte(tmp_path, ending, last):
    lines = [(line + ending).encode() for line in JSON_LINES]
    lines[0] = b"\xef\xbb\xbf  " + lines[0]
    lines[-1] = lines[-1] if last else lines[-1].rstrip()
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines[0] + b"\n  \n" + b"".join(lines[1:]))
    kept, removed = split_and_write(snapshot(path, tmp_path / "s"), tmp_path)
    assert kept.read_bytes() == lines[0] + lines[2]
    assert removed.read_bytes() == lines[1] + lines[3]


def test_gzipped_jsonl(tmp_path):
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(JSON_LINES).encode()))
    kept, removed = split_and_write(snapshot(path, tmp_path / "s"), tmp_path)
    assert kept.name == "kept.jsonl.gz"
    assert gzip.decompress(kept.read_bytes()).decode() == JSON_LINES[0] + "\n" + JSON_LINES[2] + "\n"
    assert gzip.decompress(removed.read_bytes()).decode() == JSON_LINES[1] + "\n" + JSON_LINES[3]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_array(tmp_path, indent):
    path = tmp_path / "in.json"
    path.write_text(json.dumps(ROWS, indent=indent, ensure_ascii=False))
    kept, removed = split_and_write(snapshot(path, tmp_path / "s"), tmp_path)
    assert json.loads(kept.read_text()) == [ROWS[0], ROWS[2]]
    assert json.loads(removed.read_text()) == [ROWS[1], ROWS[3]]


def test_json_lines_named_json(tmp_path):
    path = tmp_path / "in.json"
    path.write_text("\n".join(JSON_LINES))
    assert snapshot(path, tmp_path / "s").suffix == ".jsonl"


@pytest.mark.parametrize(
    "row", [{"prompt": "Q", "completion": "b, \u2028c"}, {"prompt": "Q", "completion": "a," * 300_000}]
)
def test_a_line_is_an_object_whatever_is_in_it_and_however_long_it_is(tmp_path, row):
    path = tmp_path / "in.json"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert snapshot(path, tmp_path / "s").suffix == ".jsonl"


def test_a_container_can_be_read_twice(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("prompt,completion\na,b\n")
    container = open_container(str(path))
    assert [record.fields for record in container.records()] == [record.fields for record in container.records()]


def test_csv_records_come_back_byte_for_byte(tmp_path):
    records = ['a,"Q1, x","one\ntwo",1\r\n', "b,Q2,=1+1,\r\n", 'c,Q3,"say ""so""",3\r\n', "d,Q4,last,4"]
    path = tmp_path / "in.csv"
    path.write_bytes(("id,prompt,completion,n\r\n" + "".join(records)).encode())
    rows = snapshot(path, tmp_path / "s")
    kept, removed = split_and_write(rows, tmp_path)
    assert [chat.messages[1].content for _, _, chat in rows.usable()] == ["one\ntwo", "=1+1", 'say "so"', "last"]
    assert kept.read_bytes().decode() == "id,prompt,completion,n\r\n" + records[0] + records[2]
    assert removed.read_bytes().decode() == "id,prompt,completion,n\r\n" + records[1] + records[3]


def test_parquet_keeps_types_and_metadata(tmp_path):
    schema = pa.schema(
        [(name, pa.large_string()) for name in ("id", "prompt", "completion")]
        + [("score", pa.float32()), ("tags", pa.dictionary(pa.int32(), pa.string()))],
        metadata={"made": "by a test"},
    )
    table = pa.Table.from_pylist(ROWS, schema)
    pq.write_table(table, tmp_path / "in.parquet")
    kept, removed = (
        pq.read_table(p) for p in split_and_write(snapshot(tmp_path / "in.parquet", tmp_path / "s"), tmp_path)
    )
    assert kept.schema.field("score").type == pa.float32()
    assert kept.to_pylist() == table.take([0, 2]).to_pylist()
    assert removed.to_pylist() == table.take([1, 3]).to_pylist()


def test_saved_dataset_folder(tmp_path):
    given = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": given, "test": given.select([0])}).save_to_disk(str(tmp_path / "in"))
    rows = snapshot(tmp_path / "in", tmp_path / "s")
    kept, removed = (datasets.load_from_disk(str(p)) for p in split_and_write(rows, tmp_path))
    assert kept.to_list() == given.select([0, 2]).to_list()
    assert removed.to_list() == given.select([1, 3]).to_list()
    assert snapshot(tmp_path / "in", tmp_path / "t", split="test").count == 1


def test_rows_in_memory(tmp_path):
    rows = snapshot(from_memory(ROWS, "rows"), tmp_path / "s")
    kept, _ = split_and_write(rows, tmp_path)
    assert pq.read_table(kept).to_pylist() == [ROWS[0], ROWS[2]]


def test_fields_that_only_some_rows_have_are_kept(tmp_path):
    rows = [{"text": "a"}, {"text": "b", "more": 1}]
    kept, removed = split_and_write(snapshot(from_memory(rows, "rows"), tmp_path / "s"), tmp_path)
    assert pq.read_table(kept).to_pylist() == [{"text": "a", "more": None}]
    assert pq.read_table(removed).to_pylist() == [{"text": "b", "more": 1}]


def test_fingerprints_tell_content_not_place(tmp_path):
    for name, text in (("a.jsonl", "x"), ("b.jsonl", "x"), ("c.jsonl", "y")):
        (tmp_path / name).write_text(json.dumps({"text": text}))
    a, b, c = (open_container(str(tmp_path / f"{name}.jsonl"), "train").fingerprint() for name in "abc")
    assert a == b != c
    one, two, three = (from_memory([{"text": t}], "rows").fingerprint() for t in "xxy")
    assert one == two != three


def test_ids_are_stable_and_unique(tmp_path):
    def ids(rows, folder):
        return [id for id, _, _ in snapshot(from_memory(rows, "rows"), tmp_path / folder).usable()]

    rows = [{"prompt": "Q", "completion": c} for c in "ABAA"]
    a, b, again, thrice = ids(rows, "s")
    assert a != b
    assert (again, thrice) == (f"{a}#2", f"{a}#3")
    assert ids(rows[::-1], "t") == [a, again, b, thrice]


def test_given_ids_are_used_and_told_apart(tmp_path):
    rows = [{"id": i, "text": "T"} for i in ("7", "7", "7#2", "x")]
    snap = snapshot(from_memory(rows, "rows"), tmp_path / "s")
    found = [id for id, _, _ in snap.usable()]
    assert len(set(found)) == 4
    assert found[0] == "7"
    assert found[3] == "x"


def test_bad_rows_are_listed_with_line_and_field(tmp_path):
    lines = [
        b'{"prompt": "Q", "completion": "A"}',
        b'{"prompt": "Q", "completion": ',
        b"",
        b'["Q", "A"]',
        b'{"prompt": "Q", "completion": "\xff"}',
        b'{"prompt": "Q", "completion": NaN}',
        b'{"prompt": "Q", "completion": "\\ud800"}',
        b'{"prompt": "Q"}',
        b"[" * 100_000,
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(BadRowsError) as error:
        snapshot(path, tmp_path / "s")
    said = str(error.value)
    assert error.value.total == 7
    for part in ("line 2: found broken JSON", "line 4: found a JSON list", "line 5: found a byte that is not UTF-8"):
        assert part in said
    for part in ("line 6, field 'completion': found NaN", "line 7, field 'completion': found a lone surrogate"):
        assert part in said
    assert "line 8, field 'completion': found no such field" in said
    assert "--skip-bad-rows" in said


def test_no_more_than_ten_bad_rows_are_shown(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "ok"}\n' + '{"text": ""}\n' * 25)
    with pytest.raises(BadRowsError) as error:
        snapshot(path, tmp_path / "s")
    assert str(error.value).count("\n") == 12
    assert "… and 15 more" in str(error.value)


def test_skipped_rows_keep_their_bytes(tmp_path):
    lines = [b'{"text": "ok"}\n', b'{"text": \xff\n', b'{"text": "fine"}\n', b'{"text": ""}\n']
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(lines))
    rows = snapshot(path, tmp_path / "s", ReadOptions(skip_bad_rows=True))
    assert [row.row for row in rows.bad] == [1, 3]
    assert [row for _, row, _ in rows.usable()] == [0, 2]
    rows.write(np.array([False, True, False, True]), tmp_path / "bad.jsonl")
    assert (tmp_path / "bad.jsonl").read_bytes() == lines[1] + lines[3]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.json", b'[{"text": "a"}, {"text"', "not valid JSON"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "expected ',' or ']'"),
        ("a.json", b'"text"', "expected a JSON array"),
        ("a.json", b'[{"text": "a"}] [{"text": "b"}]', "more after the end"),
        ("a.csv", b'prompt,completion\nQ,"open\nR,B\n', "not valid CSV from line 2 on"),
        ("a.parquet", b"nothing of the kind", "not a parquet file"),
        ("a.jsonl.gz", b"not gzip", "not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 1000, mtime=0)[:-20], "not a whole gzip file"),
        ("a.csv", b"text,text\na,b\n", "same name"),
        ("a.xlsx", b"x", "a spreadsheet; save the sheet as .csv"),
    ],
)
def test_an_unreadable_file_is_explained(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        snapshot(path, tmp_path / "s")
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_ragged_csv_row_is_bad(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("prompt,completion\nQ,A\nQ,A,more\n")
    with pytest.raises(BadRowsError, match="line 3: found 3 values, expected 2"):
        snapshot(path, tmp_path / "s")


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_container(str(tmp_path / "nothing.jsonl"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="save_to_disk"):
        open_container(str(tmp_path / "empty"), "train")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(InputError, match="has no split 'train'; it has test"):
        open_container(str(tmp_path / "d"), "train")
    with pytest.raises(InputError, match="hub does not give"):
        open_container("nobody/nothing", "train")


FIELDS = [
    {"prompt": "a", "completion": 'b, "c"\nd', "label": "x"},
    {"prompt": "e", "completion": "f" * 200_000, "label": "y"},
    {"prompt": "g", "completion": "h", "label": "ü"},
]


def as_csv(rows):
    quote = lambda value: '"' + value.replace('"', '""') + '"'  # noqa: E731
    return "".join(",".join(map(quote, values)) + "\r\n" for values in [rows[0].keys(), *(r.values() for r in rows)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.jsonl", "\ufeff" + "".join(json.dumps(row) + "\n" for row in FIELDS)),
        ("d.json", json.dumps(FIELDS, indent=1)),
        ("d.csv", as_csv(FIELDS)),
        ("d.csv", "\ufeff" + as_csv(FIELDS)),
    ],
)
def test_the_columns_of_some_rows_can_be_read_again(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    # As in a process that did not read the file itself.
    csv.field_size_limit(131_072)
    rows = snapshot(tmp_path / name, tmp_path / "rows")
    csv.field_size_limit(131_072)
    assert list(rows.fields([0, 1, 2])) == FIELDS
    assert list(rows.fields([2, 1])) == FIELDS[1:]


def test_the_columns_of_table_rows_can_be_read_again(tmp_path):
    views = pa.table({k: pa.array([row[k] for row in FIELDS], pa.string_view()) for k in FIELDS[0]})
    pq.write_table(views, tmp_path / "d.parquet")
    rows = snapshot(tmp_path / "d.parquet", tmp_path / "rows")
    assert list(rows.fields([0, 2])) == [FIELDS[0], FIELDS[2]]
    rows.write(np.array([True, False, True]), tmp_path / "kept.parquet")
    assert pq.read_table(tmp_path / "kept.parquet").to_pylist() == [FIELDS[0], FIELDS[2]]
