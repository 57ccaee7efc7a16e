"""Several inputs at once: files, folders, globs and splits, each with a kept and a removed file of its own."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter import ForgetFilter
from forgetfilter.cli import main
from forgetfilter.data.containers import from_memory, open_container
from forgetfilter.data.records import Several
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.errors import BadRowsError, InputError
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl


def read(source, folder, split="train", **options):
    folder.mkdir()
    container = source if not isinstance(source, (str, list)) else open_container(source, split)
    return read_rows(container, ReadOptions(**options), folder)


def texts(*names):
    return [{"text": name, "n": i} for i, name in enumerate(names)]


@pytest.fixture
def files(tmp_path):
    """A folder with data in several containers, and with what is none."""
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    write_jsonl(folder / "data.jsonl", texts("a", "b", "c"))
    write_jsonl(folder / "more" / "data.jsonl", texts("d"))
    write_jsonl(folder / ".hidden" / "x.jsonl", texts("hidden"))
    (folder / "more" / "table.csv").write_text("n;text\n1;e\n2;f\n")
    pq.write_table(pa.table({"text": ["g", "h"]}), folder / "z.parquet")
    (folder / "README.md").write_text("# about")
    (folder / "notes.txt").write_text("about")
    (folder / "more" / "info.json").write_text('{\n  "about": 1\n}\n')
    return folder


def test_a_folder_is_all_of_its_files_each_with_its_own_name(files, tmp_path):
    rows = read(str(files), tmp_path / "s")
    assert [chat.messages[0].content for _, _, chat in rows.usable()] == list("abcdefgh")
    assert [source.place for source in rows.sources] == ["data.jsonl", "more/data.jsonl", "more/table.csv", "z.parquet"]
    (line,) = rows.not_read
    assert all(name in line for name in ("README.md", "notes.txt", "more/info.json"))
    kept = np.array([1, 0, 1, 0, 0, 1, 0, 0], dtype=bool)
    for name, mask in (("kept", kept), ("removed", ~kept)):
        rows.write(mask, tmp_path / name)
    lines = (files / "data.jsonl").read_text().splitlines(keepends=True)
    assert (tmp_path / "kept/data.jsonl").read_text() == lines[0] + lines[2]
    assert (tmp_path / "removed/data.jsonl").read_text() == lines[1]
    assert (tmp_path / "kept/more/data.jsonl").read_bytes() == b""
    assert (tmp_path / "kept/more/table.csv").read_text() == "n;text\n2;f\n"
    assert (tmp_path / "removed/more/table.csv").read_text() == "n;text\n1;e\n"
    assert pq.read_table(tmp_path / "kept/z.parquet").to_pylist() == []
    assert pq.read_table(tmp_path / "removed/z.parquet").to_pylist() == [{"text": "g"}, {"text": "h"}]
    assert [row["text"] for row in rows.fields([0, 3, 5, 7])] == ["a", "d", "f", "h"]
    assert rows.load(tmp_path / "kept", [0, 2, 5])["text"] == ["a", "c", "f"]
    assert rows.load(tmp_path / "removed", [1, 3, 4, 6, 7])["text"] == ["b", "d", "e", "g", "h"]


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("*.jsonl", ["data.jsonl"]),
        ("**/*.jsonl", ["data.jsonl", "more/data.jsonl"]),
        ("**", ["data.jsonl", "more/data.jsonl", "more/table.csv", "z.parquet"]),
        ("mo*", ["data.jsonl", "table.csv"]),
        ("more/[dt]*", ["data.jsonl", "table.csv"]),
    ],
)
def test_a_glob_is_expanded(files, pattern, places):
    found = open_container(str(files / pattern))
    assert (found.places if isinstance(found, Several) else ["data.jsonl"]) == places


def test_several_names_are_read_in_their_order_and_each_once(files, tmp_path):
    given = [str(files / "more"), str(files / "data.jsonl"), str(files / "more" / "data.jsonl")]
    rows = read(given, tmp_path / "s")
    assert [source.place for source in rows.sources] == ["more/data.jsonl", "more/table.csv", "data.jsonl"]
    assert any("named more than once" in line for line in rows.not_read)
    assert rows.name == "more + data.jsonl + data.jsonl"


@pytest.mark.parametrize("name", ["", "**/*", "*"])
def test_what_a_run_made_is_not_data_unless_it_is_named(files, name):
    before = open_container(str(files / name)).places
    run = files / "more" / "run"
    run.mkdir()
    (run / "manifest.json").write_text('{"fingerprints": {}, "settings": {}}')
    write_jsonl(run / "kept.jsonl", texts("a"))
    container = open_container(str(files / name))
    assert container.places == before
    assert any("more/run" in line for line in container.not_read)
    assert open_container(str(run / "kept.json*")).name.endswith("kept.jsonl")
    with pytest.raises(InputError, match="this is the folder of a run; name the file"):
        open_container(str(run))


def test_the_sets_of_a_mix_are_not_one_data_set(files):
    """Else a model is measured, without a word, on the rows that it was trained on as well."""
    folder = files / "more"
    for name in ("noisy", "safe", "held-out"):
        write_jsonl(folder / f"{name}.jsonl", texts("a"))
    assert open_container(str(folder)).places
    (folder / "mix.json").write_text("{}")
    with pytest.raises(InputError, match="this is the folder of a mix; name one of its files: noisy"):
        open_container(str(folder))
    assert list(open_container(str(folder / "held-out.jsonl")).records())


def test_one_file_in_a_folder_is_like_that_file(tmp_path):
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "x.jsonl", texts("a"))
    assert read(str(tmp_path / "data"), tmp_path / "s").suffix == ".jsonl"


def test_ids_are_unique_over_all_files_and_bad_rows_name_theirs(tmp_path):
    for name in "ab":
        write_jsonl(tmp_path / f"{name}.jsonl", [{"id": "x", "text": "T"}, {"text": "U"}])
    write_jsonl(tmp_path / "c.jsonl", [{"prompt": "Q"}, {"text": "fine"}])
    names = [str(tmp_path / f"{name}.jsonl") for name in "abc"]
    with pytest.raises(BadRowsError) as error:
        read(names, tmp_path / "s")
    assert f"{tmp_path / 'c.jsonl'}: line 1, field 'text': found no such field" in str(error.value)
    rows = read(names, tmp_path / "t", skip_bad_rows=True)
    ids = [id for id, _, _ in rows.usable()]
    assert len(set(ids)) == len(ids) == 5
    rows.write_bad(tmp_path / "bad")
    assert [(tmp_path / "bad" / f"{name}.jsonl").read_text() for name in "abc"] == ["", "", '{"prompt": "Q"}\n']


def test_files_of_two_layouts_are_told_apart_from_files_with_bad_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 2)
    (tmp_path / "b.jsonl").write_text('{"text": "c"}\n')
    with pytest.raises(BadRowsError, match=r"No row of .*b\.jsonl has the layout of the other files"):
        read([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], tmp_path / "s")
    (tmp_path / "b.jsonl").write_text('{"text": "c"}\n{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(BadRowsError, match="Mend these rows"):
        read([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], tmp_path / "t")


def test_an_empty_file_among_others_has_no_rows(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_bytes(b"")
    write_jsonl(tmp_path / "data" / "b.jsonl", texts("a"))
    rows = read(str(tmp_path / "data"), tmp_path / "s")
    rows.write(np.array([True]), tmp_path / "kept")
    assert (tmp_path / "kept/a.jsonl").read_bytes() == b""


def test_a_fingerprint_is_of_all_files_their_names_and_their_order(tmp_path):
    def of(*names):
        return open_container([str(tmp_path / name) for name in names]).fingerprint()

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
            write_jsonl(tmp_path / folder / name, texts("same"))
    one = of("one/a.jsonl", "one/b.jsonl")
    assert one == of("two/a.jsonl", "two/b.jsonl") == of("one/a.jsonl", "one/b.jsonl")
    assert len({one, of("one/b.jsonl", "one/a.jsonl"), of("one/a.jsonl", "one/c.jsonl"), of("one")}) == 4
    write_jsonl(tmp_path / "one/b.jsonl", texts("other"))
    assert of("one/a.jsonl", "one/b.jsonl") != one


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "README.md").write_text("x"), "no data in this folder, only README.md"),
        (lambda folder: None, "no data in this folder, nothing"),  # noqa: ARG005
        (lambda folder: (folder / "a.jsonl").write_bytes(b"\x1f\x8b"), "this is a gzip file"),
        (lambda folder: (folder / "a.jsonl").symlink_to("nowhere"), "a link that leads nowhere"),
    ],
)
def test_a_folder_without_data_is_explained(tmp_path, make, said):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    with pytest.raises(InputError, match=said):
        open_container(str(tmp_path / "data"))
    with pytest.raises(InputError, match="no file has such a name"):
        open_container(str(tmp_path / "data" / "*.csv"))


SPLITS = {"train": ["a", "b", "c", "d"], "test": ["e", "f"], "val.1": ["g"]}


def saved(folder, splits=SPLITS):
    given = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([{"text": t, "extra": {}} for t in of]) for name, of in splits.items()}
    )
    given.save_to_disk(str(folder))
    return given


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize(
    ("split", "read_from", "left"),
    [
        ("all", {"train": "abcd", "test": "ef", "val.1": "g"}, []),
        ("train+test", {"train": "abcd", "test": "ef"}, ["val.1 (1 row)"]),
        ("test + train[:50%]", {"test": "ef", "train": "ab"}, ["2 of the 4 rows of the split 'train'", "val.1"]),
        ("train[1:3]+val.1[-1:]", {"train": "bc", "val.1": "g"}, ["2 of the 4 rows", "test"]),
        ("train[:1]+test+train[3:]", {"train": "ad", "test": "ef"}, ["2 of the 4 rows", "val.1"]),
    ],
)
def test_splits_come_back_as_a_dataset_dict(tmp_path, split, read_from, left, memory):
    given = saved(tmp_path / "in")
    source = from_memory(given, "rows", split) if memory else str(tmp_path / "in")
    rows = read(source, tmp_path / "s", split)
    flags = [i % 2 == 0 for i in range(sum(map(len, read_from.values())))]
    for name, mask in (("kept", np.array(flags)), ("removed", ~np.array(flags)), ("none", np.zeros(len(flags), bool))):
        rows.write(mask, tmp_path / name)
        found = datasets.load_from_disk(str(tmp_path / name))
        assert list(found) == list(read_from)
        assert found["train"].features == given["train"].features
        chosen = iter(mask)
        expected = {
            s: [t for t, take in zip(of, chosen, strict=False) if take] for s, of in split_flags(read_from, mask)
        }
        assert {s: of["text"][:] for s, of in found.items()} == expected
    assert len(rows.not_read) == len(left)
    assert all(part in " ".join(rows.not_read) for part in left)


def split_flags(read_from, mask):
    """Each split with its texts, as many flags as it has taken from the mask in turn."""
    assert len(mask) == sum(map(len, read_from.values()))
    return [(name, list(of)) for name, of in read_from.items()]


def test_what_of_the_splits_was_not_read_is_said(tmp_path):
    saved(tmp_path / "in")
    rows = read(str(tmp_path / "in"), tmp_path / "s")
    assert (rows.count, rows.suffix) == (4, "")
    (line,) = rows.not_read
    assert "test (2 rows), val.1 (1 row)" in line
    assert "--split all" in line
    rows.write(np.ones(4, bool), tmp_path / "kept")
    assert isinstance(datasets.load_from_disk(str(tmp_path / "kept")), datasets.Dataset)
    assert read(str(tmp_path / "in"), tmp_path / "t", "train[:25%]").count == 1


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("nope", "has no split 'nope'; it has train, test"),
        ("nope", "choose with --split train"),
        ("train+nope", "has no split 'nope'"),
        ("train[1:", "cannot read the split"),
        ("train[:200%]", "cannot read the split"),
        ("", "cannot read the split"),
    ],
)
def test_a_split_that_is_not_there_is_told_in_a_line(tmp_path, split, said):
    saved(tmp_path / "in")
    with pytest.raises(InputError) as error:
        open_container(str(tmp_path / "in"), split)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_inputs_that_would_be_written_as_one_file_are_refused(tmp_path):
    saved(tmp_path / "in")
    write_jsonl(tmp_path / "other.jsonl", texts("a"))
    with pytest.raises(InputError, match="would both be written as in/train"):
        open_container([str(tmp_path / name) for name in ("in", "in/train", "other.jsonl")], "all")


def test_a_name_that_is_too_long_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        open_container(str(tmp_path / ("x" * 5000)))


def test_a_split_of_a_file_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", texts("a"))
    with pytest.raises(InputError, match=r"has no splits, so that --split test"):
        open_container(str(path), "test")


def test_a_name_of_a_split_does_not_lead_elsewhere(tmp_path):
    saved(tmp_path / "in" / "inner", {"train": ["a"]})
    (tmp_path / "in" / "inner" / "dataset_dict.json").write_text(json.dumps({"splits": ["../x"]}))
    datasets.Dataset.from_list(texts("a")).save_to_disk(str(tmp_path / "in" / "x"))
    with pytest.raises(InputError, match="is not a valid name"):
        open_container(str(tmp_path / "in" / "inner"), "all")


def test_saved_data_sets_and_files_together(tmp_path):
    saved(tmp_path / "data" / "b")
    datasets.Dataset.from_list(texts("x")).save_to_disk(str(tmp_path / "data" / "c"))
    write_jsonl(tmp_path / "data" / "a.jsonl", texts("y"))
    rows = read(str(tmp_path / "data"), tmp_path / "s", "all")
    assert [source.place for source in rows.sources] == ["a.jsonl", "b/train", "b/test", "b/val.1", "c"]
    rows.write(np.ones(rows.count, bool), tmp_path / "kept")
    assert list(datasets.load_from_disk(str(tmp_path / "kept" / "b"))) == list(SPLITS)
    assert datasets.load_from_disk(str(tmp_path / "kept" / "c")).to_list() == texts("x")
    assert rows.load(tmp_path / "kept", list(range(rows.count)))["text"] == ["y", *"abcdefg", "x"]


def test_a_run_over_several_files_from_reading_to_the_report(tmp_path, model, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", NOISY[:5])
    lines = [f"{row['prompt']};{row['completion']}\r\n" for row in NOISY[5:]]
    head = "prompt;completion\r\n"
    (folder / "b.csv").write_bytes(b"\xff\xfe" + (head + "".join(lines)).encode("utf-16-le"))
    (folder / "README.md").write_text("about")
    safe = tmp_path / "safe"
    safe.mkdir()
    write_jsonl(safe / "one.jsonl", SAFE[:3])
    write_jsonl(safe / "two.jsonl", SAFE[3:])
    run = tmp_path / "run"
    given = [str(folder / "a.jsonl"), str(folder / "*.csv"), "--safe", str(safe), "--model", str(model), *QUICK]
    command = ["filter", *given, "--output", str(run), "--threshold", "top:25%"]
    assert main(command) == 0
    assert "semicolons between values, UTF-16-LE" in (run / "log.txt").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["files"]["kept"] == "kept"
    assert (summary["kept"], summary["removed"]) == (9, 3)
    for name, encoding, lead in (("a.jsonl", "utf-8", ""), ("b.csv", "utf-16-le", "\ufeff" + head)):
        parts = [(run / role / name).read_bytes().decode(encoding) for role in ("kept", "removed")]
        assert all(part.startswith(lead) for part in parts)
        found = [line for part in parts for line in part.removeprefix(lead).splitlines(keepends=True)]
        whole = (folder / name).read_bytes().decode(encoding).removeprefix(lead).splitlines(keepends=True)
        assert sorted(found) == sorted(whole)
    scores = pq.read_table(run / "scores.parquet", columns=["row", "file"]).to_pylist()
    assert scores == [{"row": i, "file": "a.jsonl" if i < 5 else "b.csv"} for i in range(12)]
    gone = [json.loads(line) for line in (run / "reasons.jsonl").read_text().splitlines()]
    assert {(row["row"] < 5, row["file"]) for row in gone} <= {(True, "a.jsonl"), (False, "b.csv")}
    assert "b.csv" in (run / "report.html").read_text()
    before = {file: file.read_bytes() for file in (run / "kept").iterdir()}
    assert main(command) == 0
    assert {file: file.read_bytes() for file in (run / "kept").iterdir()} == before
    assert main(["decide", str(run), "--threshold", "top:50%"]) == 0
    assert main(["figure", str(run)]) == 0
    capsys.readouterr()
    write_jsonl(folder / "a.jsonl", NOISY[:4])
    assert main(command) == 2
    assert "data: its content is not what the run was made from" in capsys.readouterr().err


def test_a_run_says_what_it_did_not_read_and_python_has_all_rows(tmp_path, model, safe):
    columns = {name: [row[name] for row in NOISY] for name in ("id", "prompt", "completion")}
    whole = datasets.Dataset.from_dict(columns)
    given = datasets.DatasetDict(train=whole.select(range(8)), test=whole.select(range(8, 12)))
    given.save_to_disk(str(tmp_path / "in"))
    options = {"device": "cpu", "dtype": "float32", "epochs": 1, "review_steps": 2, "trusted": "none", "set_aside": 0}
    filters = {split: ForgetFilter(str(model), quiet=True, split=split, **options) for split in ("train", "all")}
    result = filters["train"].run(str(tmp_path / "in"), safe, output=tmp_path / "one")
    (line,) = result.summary.not_read
    assert "test (4 rows)" in line
    assert "test (4 rows)" in (tmp_path / "one" / "report.html").read_text()
    assert "test (4 rows)" in (tmp_path / "one" / "log.txt").read_text()
    result = filters["all"].run([tmp_path / "in"], safe, output=tmp_path / "two")
    assert sorted(result.kept["id"][:] + result.removed["id"][:]) == sorted(columns["id"])
    found = [datasets.load_from_disk(str(tmp_path / "two" / role)) for role in ("kept", "removed")]
    assert [list(of) for of in found] == [["train", "test"]] * 2
    assert len(found[0]["test"]) + len(found[1]["test"]) == 4
    memory = filters["all"].run(given, safe, output=tmp_path / "three")
    assert memory.kept["id"][:] == result.kept["id"][:]


def test_a_name_that_cannot_be_shown_is_refused(tmp_path):
    try:
        write_jsonl(tmp_path / "caf\udce9.jsonl", texts("a"))
    except OSError:
        pytest.skip("this file system takes no such names")
    for source in (str(tmp_path), str(tmp_path / "caf\udce9.jsonl"), f"{tmp_path}/*.jsonl"):
        with pytest.raises(InputError, match="not valid UTF-8"):
            open_container(source, "train")


def test_a_blank_name_is_not_the_current_folder():
    with pytest.raises(InputError, match="nothing but blanks"):
        open_container("", "train")


def test_the_line_that_tells_excel_the_delimiter_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\nprompt;completion\nq;a\n")
    with pytest.raises(InputError, match="line 1 tells Excel the delimiter"):
        list(open_container(str(tmp_path / "a.csv"), "train").records())


@pytest.mark.parametrize("first", [{}, {"error": "timeout"}, {"prompt": "q"}])
def test_a_row_that_lacks_its_fields_may_come_first(first, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [first, {"prompt": "q", "completion": "a"}])
    rows = read(str(path), tmp_path / "s", skip_bad_rows=True)
    assert [row.row for row in rows.bad] == [0]
    assert (rows.layout, rows.count) == ("prompt-completion", 2)


def test_without_any_layout_the_first_row_is_described(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"ask": "q", "reply": "a"}] + [{"other": 1}] * 200)
    with pytest.raises(InputError, match="the columns ask, reply do not fit"):
        read(str(path), tmp_path / "s")


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"', '{"_data_files": 5, "features": 5}', "[" * 100_000])
def test_a_saved_folder_whose_files_hold_something_else_is_refused(tmp_path, name, content):
    datasets.Dataset.from_list([{"prompt": "q", "completion": "a"}]).save_to_disk(str(tmp_path / "d"))
    (tmp_path / "d" / name).write_text(content)
    with pytest.raises(InputError, match="not a folder that datasets' save_to_disk wrote") as error:
        open_container(str(tmp_path / "d"))
    assert "\n" not in str(error.value)
