"""Text files in every encoding, with every delimiter and compression: their bytes stay, and causes are named."""

import bz2
import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.data.containers import open_container
from forgetfilter.data.records import open_bytes
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.data.text_files import TextOptions
from forgetfilter.errors import BadRowsError, InputError, SettingsError

ROWS = [("Q1; or, ä?", 'one\nline "two"'), ("Q2", "=1+1 ê"), ("Q\u20ac", "ende"), ("", "last\tone")]
KEPT = np.array([True, False, True, False])


def snapshot(path, folder, options=None, **said):
    folder.mkdir()
    return read_rows(open_container(str(path), options=TextOptions(**said)), options or ReadOptions(), folder)


def halves(rows, folder):
    """The bytes of the kept and of the removed file, unpacked."""
    found = []
    for name, mask in (("kept", KEPT[: rows.count]), ("removed", ~KEPT[: rows.count])):
        path = folder / f"{name}{rows.suffix}"
        rows.write(mask, path)
        with open_bytes(path, "rb") as file:
            found.append(file.read())
    return found


def quoted(value):
    return '"' + value.replace('"', '""') + '"'


def csv_lines(delimiter):
    return [delimiter.join(map(quoted, values)) + "\r\n" for values in [("prompt", "completion"), *ROWS]]


def json_lines():
    return [json.dumps({"prompt": q, "completion": a}, ensure_ascii=False) + "\n" for q, a in ROWS]


MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32-le": b"\xff\xfe\0\0", "utf-32-be": b"\0\0\xfe\xff"}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "latin-1", "gb18030", *MARKS])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_of_any_encoding_and_delimiter_keeps_its_bytes(tmp_path, encoding, delimiter):
    mark = MARKS.get(encoding, b"")
    lines = [line.replace("€", "E").encode(encoding) for line in csv_lines(delimiter)]
    path = tmp_path / ("in.tsv" if delimiter == "\t" else "in.csv")
    path.write_bytes(mark + b"".join(lines))
    rows = snapshot(path, tmp_path / "s", encoding="" if mark or encoding == "utf-8" else encoding)
    said = [(chat.messages[0].content, chat.messages[1].content) for _, _, chat in rows.usable()]
    assert said == [(q.replace("€", "E"), a) for q, a in ROWS]
    assert [row["completion"] for row in rows.fields([0, 3])] == [ROWS[0][1], ROWS[3][1]]
    head = mark + lines[0]
    assert halves(rows, tmp_path) == [head + lines[1] + lines[3], head + lines[2] + lines[4]]
    assert rows.load(tmp_path / f"kept{rows.suffix}", [0, 2])["completion"] == [ROWS[0][1], ROWS[2][1]]


@pytest.mark.parametrize("encoding", ["cp1252", *MARKS])
def test_jsonl_of_any_encoding_keeps_its_bytes(tmp_path, encoding):
    mark = MARKS.get(encoding, b"")
    lines = [line.encode(encoding) for line in json_lines()]
    (tmp_path / "in.jsonl").write_bytes(mark + b"".join(lines))
    rows = snapshot(tmp_path / "in.jsonl", tmp_path / "s", encoding="" if mark else encoding)
    assert [chat.messages[1].content for _, _, chat in rows.usable()] == [a for _, a in ROWS]
    assert halves(rows, tmp_path) == [mark + lines[0] + lines[2], mark + lines[1] + lines[3]]
    assert [row["completion"] for row in rows.fields([1])] == [ROWS[1][1]]


@pytest.mark.parametrize("encoding", ["cp1252", *MARKS])
def test_a_json_array_of_any_encoding(tmp_path, encoding):
    mark = MARKS.get(encoding, b"")
    given = [{"prompt": q, "completion": a} for q, a in ROWS]
    (tmp_path / "in.json").write_bytes(mark + json.dumps(given, ensure_ascii=False, indent=1).encode(encoding))
    rows = snapshot(tmp_path / "in.json", tmp_path / "s", encoding="" if mark else encoding)
    kept, removed = halves(rows, tmp_path)
    assert json.loads(kept.removeprefix(mark).decode(encoding)) == [given[0], given[2]]
    assert removed.startswith(mark)
    again = snapshot(tmp_path / "kept.json", tmp_path / "t", encoding="" if mark else encoding)
    assert again.count == 2


def test_lines_longer_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("forgetfilter.data.encodings._CHUNK", 7)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in ("ਊ\u0a0aĊ" * 9, "a", "ऊ" * 30)]
    content = b"\xff\xfe" + "".join(lines).encode("utf-16-le")
    (tmp_path / "in.jsonl").write_bytes(content)
    rows = snapshot(tmp_path / "in.jsonl", tmp_path / "s")
    assert [chat.messages[0].content for _, _, chat in rows.usable()] == [json.loads(line)["text"] for line in lines]


COMPRESS = {"gz": lambda c: gzip.compress(c, mtime=0), "xz": lzma.compress, "bz2": bz2.compress}


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("ending", ["gz", "xz", "bz2", "zst", "ZST"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_compressed_files_stay_compressed_and_are_the_same_each_time(tmp_path, ending, kind):
    lines = {"jsonl": json_lines(), "csv": csv_lines(";"), "txt": ["a\n", "b\n", "c\n", "d"]}[kind]
    content = "".join(lines).encode()
    path = tmp_path / f"in.{kind}.{ending}"
    path.write_bytes((COMPRESS | {"zst": zstd})[ending.lower()](content))
    rows = snapshot(path, tmp_path / "s")
    assert rows.suffix == f".{kind}.{ending.lower()}"
    kept, removed = halves(rows, tmp_path)
    head = lines[0].encode() if kind == "csv" else b""
    lines = lines[1:] if kind == "csv" else lines
    assert kept == head + (lines[0] + lines[2]).encode()
    assert removed == head + (lines[1] + lines[3]).encode()
    once = (tmp_path / f"kept{rows.suffix}").read_bytes()
    halves(rows, tmp_path)
    assert (tmp_path / f"kept{rows.suffix}").read_bytes() == once != kept
    # Names in headers would tell what files were called while they were written.
    assert b"kept" not in once


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one\ntwo\r\nthree", ["one", "two", "three"]),
        ("\n\none\n\n\ntwo\nmore\n \nthree\n\n", ["one", "two\nmore", "three"]),
        ("one\r\nmore\r\n\r\ntwo", ["one\r\nmore", "two"]),
        ("  indented\n\n\tagain  ", ["  indented", "\tagain  "]),
        ("\ufeffone\ntwo\n", ["one", "two"]),
        ("".join(f"line {i}\n" for i in range(90)) + "\nlast\n", [*(f"line {i}" for i in range(90)), "last"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_plain_text_has_a_row_a_line_or_a_paragraph_and_loses_nothing(tmp_path, content, texts, encoding):
    mark = MARKS.get(encoding, b"")
    path = tmp_path / "in.txt"
    path.write_bytes(mark + content.encode(encoding))
    rows = snapshot(path, tmp_path / "s")
    assert [chat.messages[0].content for _, _, chat in rows.usable()] == texts
    assert [row["text"] for row in rows.fields(range(len(texts)))] == texts
    assert rows.layout == "text"
    whole = "paragraph" if len(texts) == 3 and "more" in content else ""
    assert ("a row a paragraph" in rows.note) >= bool(whole)
    taken = np.arange(rows.count) % 2 == 0
    parts = []
    for name, mask in (("all", taken | ~taken), ("even", taken), ("odd", ~taken)):
        rows.write(mask, tmp_path / f"{name}.txt")
        parts.append((tmp_path / f"{name}.txt").read_bytes())
    assert parts[0] == path.read_bytes()
    assert len(parts[1]) + len(parts[2]) == len(parts[0]) + len(mark)


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("prompt;completion\nHi, you;Bye, you\nA;B\n", ";"),
        ("prompt,completion\nHi; you;Bye,yes;no;maybe\n", ","),
        ("prompt|completion\na|b\n", "|"),
        ("prompt\tcompletion\na;b\tc;d\n", "\t"),
        ('prompt;completion\n"a;b";"c\nd"\n', ";"),
        ("text\njust one; column\nanother\n", ","),
    ],
)
def test_the_delimiter_is_found_by_looking(tmp_path, content, delimiter):
    (tmp_path / "in.csv").write_text(content)
    assert open_container(str(tmp_path / "in.csv")).form.delimiter == delimiter


def test_the_delimiter_can_be_named(tmp_path):
    (tmp_path / "in.csv").write_text("prompt:completion\na,b:c,d\n")
    rows = snapshot(tmp_path / "in.csv", tmp_path / "s", delimiter=":")
    assert list(rows.fields([0])) == [{"prompt": "a,b", "completion": "c,d"}]
    assert open_container(str(tmp_path / "in.csv"), options=TextOptions(delimiter="tab")).form.delimiter == "\t"
    with pytest.raises(SettingsError, match="one character"):
        TextOptions(delimiter="::")


def test_quotes_in_values_between_tabs_are_text_where_they_do_not_pair(tmp_path):
    (tmp_path / "in.tsv").write_text('prompt\tcompletion\n"Yes" he said\tfine\n"Open\tand shut\nplain\t"x\n')
    rows = snapshot(tmp_path / "in.tsv", tmp_path / "s")
    assert [row["prompt"] for row in rows.fields([0, 1, 2])] == ['"Yes" he said', '"Open', "plain"]


@pytest.mark.parametrize("name", ["nonsense", "rot13", "base64", "unicode_escape", "punycode", "idna", "\0"])
def test_what_is_no_encoding_is_refused(name):
    with pytest.raises(SettingsError, match="encoding"):
        TextOptions(encoding=name)


def test_bytes_that_are_not_utf8_suggest_naming_the_encoding(tmp_path):
    (tmp_path / "in.jsonl").write_bytes('{"text": "é"}\n'.encode("latin-1"))
    with pytest.raises(BadRowsError, match=r"not UTF-8 at position 10, expected UTF-8 text.*--encoding"):
        snapshot(tmp_path / "in.jsonl", tmp_path / "s")
    (tmp_path / "in.csv").write_bytes("tëxt\nä\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"line 1: found a byte that is not UTF-8.*--encoding"):
        snapshot(tmp_path / "in.csv", tmp_path / "t")
    (tmp_path / "wide.jsonl").write_bytes('{"text": "some words"}\n'.encode("utf-16-le"))
    with pytest.raises(InputError, match="--encoding utf-16-le"):
        open_container(str(tmp_path / "wide.jsonl"))
    assert snapshot(tmp_path / "wide.jsonl", tmp_path / "u", encoding="utf-16").count == 1


ARRAY, LINES = b'[{"text": "a"}]', b'{"text": "a"}\n{"text": "b"}\n'
POINTER = b"version https://git-lfs.example/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", gzip.compress(LINES, mtime=0), "this is a gzip file; let its name end in .gz"),
        ("a.csv", zstd(LINES), "a zstd file"),
        ("a.txt", lzma.compress(LINES), "an xz file"),
        ("a.json", b"PK\x03\x04" + b"\0" * 30, "a zip; unpack it"),
        ("a.csv", b"PK\x03\x04.....[Content_Types].xml", "an Excel workbook; save the sheet as .csv"),
        ("a.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 30, "an old Office file"),
        ("a.xlsx", b"PK\x03\x04.....[Content_Types].xml", "an Excel workbook"),
        ("a.jsonl", b"PAR1\x15\x04....PAR1", "a parquet file"),
        ("a.parquet", LINES, "not a parquet file"),
        ("a.parquet", gzip.compress(LINES, mtime=0), "not a parquet file: this is a gzip file"),
        ("a.parquet", POINTER, "a Git LFS pointer; the data itself was not downloaded"),
        ("a.jsonl", POINTER, "git lfs pull"),
        ("a.jsonl.gz", POINTER, "not a whole gzip file: it does not begin as gzip does; this is a Git LFS pointer"),
        ("a.jsonl.zst", gzip.compress(LINES, mtime=0), "does not begin as zstd does; this is a gzip file"),
        ("a.jsonl.zst", zstd(LINES * 999)[:-9], "not a whole zstd file"),
        ("a.jsonl.xz", lzma.compress(LINES * 999)[:-9], "not a whole xz file"),
        ("a.jsonl", b"<!DOCTYPE html><html>", "a web page"),
        ("a.csv", b"\n <html lang=en>", "a web page"),
        ("a.jsonl", ARRAY, "a JSON array; let its name end in .json"),
        ("a.jsonl", b"[\n" + LINES, "a JSON array"),
        ("a.jsonl", b"prompt,completion\na,b\n", "perhaps csv"),
        ("a.csv", LINES, "this is one JSON object a line; let its name end in .jsonl"),
        ("a.csv", ARRAY, "this is a JSON array; let its name end in .json"),
        ("a.txt", LINES, "let its name end in .jsonl"),
        ("a.json", b'{\n  "a": 1,\n  "b": {}\n}\n', "a single JSON object over many lines"),
        ("a.pkl", b"\x80\x04\x95", "a pickle; that is never opened"),
        ("a.pt", b"PK\x03\x04", "a zip"),
        ("a.db", b"SQLite format 3\0", "an SQLite database; export"),
        ("a.arrow", b"ARROW1\0\0", "an Arrow file; save it as .parquet"),
        ("a.md", b"# Words", "cannot tell its format"),
        ("a", LINES, "cannot tell its format"),
        ("a.csv", b"prompt,completion\ra,b\r", "carriage return alone"),
        ("a.jsonl", LINES.replace(b"\n", b"\r"), "carriage return alone"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "packed inside already"),
    ],
)
def test_the_real_cause_is_named_in_a_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        snapshot(tmp_path / name, tmp_path / "s")
    assert said in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_first_line_that_is_broken_is_a_bad_row_and_no_other_format(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"garbage, garbage\n" + LINES)
    rows = snapshot(tmp_path / "a.jsonl", tmp_path / "s", ReadOptions(skip_bad_rows=True))
    assert [row.line for row in rows.bad] == [1]


@pytest.mark.parametrize("word", ["ORC", "PAR1", "BZh", "GGUF", "GIF8"])
def test_words_that_look_like_signatures_are_text(tmp_path, word):
    (tmp_path / "a.csv").write_text(f"{word},text\n1,b\n")
    assert snapshot(tmp_path / "a.csv", tmp_path / "s").count == 1


@pytest.mark.parametrize(("content", "encoding"), [("é", "cp1252"), ("é", "utf-8"), ("a", "utf-8")])
def test_an_encoding_may_be_for_those_files_that_need_it(tmp_path, content, encoding):
    (tmp_path / "a.txt").write_bytes(content.encode(encoding))
    rows = open_container(str(tmp_path / "a.txt"), options=TextOptions("cp1252", where_needed=True))
    assert [record.fields for record in rows.records()] == [{"text": content}]


def test_a_truncated_parquet_is_told(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-6])
    with pytest.raises(InputError, match="not a parquet file"):
        open_container(str(tmp_path / "a.parquet"))


def test_a_first_line_that_is_no_object_is_a_bad_row_like_any_other(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('null\n{"text": "a"}\n')
    rows = snapshot(path, tmp_path / "s", ReadOptions(skip_bad_rows=True))
    assert [bad.row for bad in rows.bad] == [0]
    path.write_text("null\n")
    with pytest.raises(InputError, match="expected one JSON object a line"):
        open_container(str(path))
