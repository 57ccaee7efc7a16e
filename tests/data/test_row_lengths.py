"""No row is longer than memory is meant for, whatever it is packed in."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.data import records, tables
from forgetfilter.data.containers import open_container
from forgetfilter.data.json_array import ArrayReader
from forgetfilter.data.records import LONGEST_ROW
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.errors import InputError

LINE, LONG = b"a" * 1023 + b"\n", b"a" * (1 << 20)
PACKED = {
    "line.jsonl": (b'{"prompt":"q","completion":"', LONG, b'"}\n'),
    "value.json": (b'[{"prompt":"q","completion":"', LONG, b'"}]'),
    "value.csv": (b'prompt,completion\nq,"', LONG, b'"\n'),
    "lines.csv": (b'prompt,completion\nq,"', LINE * 1024, b'"\n'),
    "line.txt": (b"a\n", LONG, b"\n"),
    "paragraph.txt": (b"a\n\n" * 5000, LINE * 1024, b""),
    "wide.jsonl": (b'\xff\xfe{\x00"\x00', b"a\x00" * (1 << 19), b""),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_row_beyond_what_is_allowed_ends_reading(name, tmp_path):
    head, middle, tail = PACKED[name]
    path = tmp_path / f"{name}.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(head)
        for _ in range((LONGEST_ROW >> 20) + 1):
            file.write(middle)
        file.write(tail)
    with pytest.raises(InputError, match=r"line \d+(| on): a row of more than 64 MB") as error:
        read_rows(open_container(str(path)), ReadOptions(), tmp_path)
    assert len(str(error.value).splitlines()) == 1


def parquet(path, completions):
    pq.write_table(pa.table({"prompt": ["q"] * len(completions), "completion": completions}), path, compression="zstd")
    return str(path)


def test_a_table_with_too_long_a_row_names_it(tmp_path):
    path = parquet(tmp_path / "t.parquet", ["a", "b", "c" * (LONGEST_ROW + 1), "d"])
    with pytest.raises(InputError, match="row 2: a row of more than 64 MB"):
        read_rows(open_container(path), ReadOptions(), tmp_path)


def test_a_small_table_that_fills_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MEMORY", 1 << 28)
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["a" * 1_000_000]))
    path = parquet(tmp_path / "t.parquet", same)
    with pytest.raises(InputError, match="takes more than 256 MB of memory"):
        read_rows(open_container(path), ReadOptions(), tmp_path)


def test_long_rows_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    for module in (records, tables):
        monkeypatch.setattr(module, "LONGEST_ROW", 1000)
    texts = [letter * 900 for letter in "abcdefg"]
    rows = read_rows(open_container(parquet(tmp_path / "t.parquet", texts)), ReadOptions(), tmp_path)
    assert [chat.completion for _, _, chat in rows.usable()] == texts


def anything(draw, depth=3):
    kinds = [
        lambda: draw.randint(-(10**9), 10**9),
        lambda: draw.random() * 1e9,
        lambda: draw.choice([None, True, False]),
    ]
    kinds += [lambda: "".join(draw.choice('a"\\\n€😀]}[{, ') for _ in range(draw.randint(0, 9)))] * 3
    if depth:
        kinds += [lambda: [anything(draw, depth - 1) for _ in range(draw.randint(0, 3))]]
        kinds += [lambda: {str(i): anything(draw, depth - 1) for i in range(draw.randint(0, 3))}] * 3
    return draw.choice(kinds)()


@pytest.mark.parametrize("seed", range(30))
def test_an_array_read_by_pieces_is_that_read_at_once(seed):
    draw = random.Random(seed)
    values = [anything(draw) for _ in range(draw.randint(0, 6))]
    text = json.dumps(values, indent=draw.choice([None, 1]), ensure_ascii=draw.random() < 0.5) + "\n "
    at_once = list(ArrayReader(iter([text]), "x").values())
    assert [value for value, _, _ in at_once] == values
    assert [json.loads(own) for _, own, _ in at_once] == values
    for size in (1, 2, 5, 17):
        pieces = (text[i : i + size] for i in range(0, len(text), size))
        assert list(ArrayReader(pieces, "x").values()) == at_once


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "line 1: not valid JSON: Expecting value"),
        ('[\n{"a": 1},\n{"a": tru}]', "line 3: not valid JSON: Expecting value"),
        ('[{"a": "b', "line 1: not valid JSON: Unterminated string"),
        ("[1 2]", "line 1: expected ',' or ']'"),
        ("[1]\n\n1", "more after the end"),
        ('[{"a": ' + "9" * 5000 + "}]", "not valid JSON: Exceeds the limit"),
        ("[" * 100_000, "not valid JSON: maximum recursion depth"),
    ],
)
def test_a_broken_array_says_where(text, said):
    for size in (1, 3, len(text)) if len(text) < 100 else (1000,):
        pieces = (text[i : i + size] for i in range(0, len(text), size))
        with pytest.raises(InputError) as error:
            list(ArrayReader(pieces, "x").values())
        assert said in str(error.value)
