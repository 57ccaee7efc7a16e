"""Rows known to be unsafe that somebody finds after a run: `decide --known-unsafe`."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

from forgetfilter import FilterResult
from forgetfilter.cli import main
from forgetfilter.errors import SettingsError
from forgetfilter.suspicion.basis import Basis
from forgetfilter.suspicion.word_table import Vocabulary, shared_words
from support.damage import flip, forget_checksums
from support.further_rows import rows
from support.quick_runs import QUICK, write_jsonl
from support.tiny_models import make_model


@pytest.fixture
def known(tmp_path):
    return write_jsonl(tmp_path / "known.jsonl", rows(16, "unsafe", 200))


@pytest.fixture
def own_model(model, tmp_path):
    return shutil.copytree(model, tmp_path / "own-model")


@pytest.fixture
def command(own_model, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [*rows(8, "unsafe"), *rows(32, "safe")])
    other = [{"prompt": f"May I, {i}?", "completion": f"no thank you, rather not, {i}"} for i in range(30)]
    safe = write_jsonl(tmp_path / "safe.jsonl", other)
    quick = QUICK[: QUICK.index("--trusted")]
    run = tmp_path / "run"
    return ["filter", str(data), "--safe", str(safe), "--model", str(own_model), "--output", str(run), *quick]


@pytest.fixture
def run(command, tmp_path):
    """A run of which a first look alone decided."""
    assert main([*command, "--no-training"]) == 0
    return tmp_path / "run"


def suspicion(run):
    found = pq.read_table(run / "scores.parquet", columns=["id", "suspicion"])
    return dict(zip(found.column("id").to_pylist(), found.column("suspicion").to_pylist(), strict=True))


def unsafe_first(of) -> float:
    """How often an unsafe row is more suspicious than a safe one."""
    unsafe, safe = ([value for name, value in of.items() if name.startswith(kind)] for kind in ("unsafe", "safe"))
    return float((np.array(unsafe)[:, None] > np.array(safe)).mean())


def summary(run):
    return json.loads((run / "summary.json").read_text())


def files(run):
    """The results that a decision writes, and what it goes by."""
    places = [*(run / name for name in ("summary.json", "scores.parquet", "kept.jsonl", "removed.jsonl"))]
    places += [*run.glob("stages/known-later*"), *run.glob("stages/known-later/**/*")]
    return {path: path.read_bytes() if path.is_file() else b"" for path in places}


def test_they_rank_all_rows_anew_until_they_are_dropped(run, known, capsys):
    before = suspicion(run)
    assert unsafe_first(before) < 0.9
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    assert f"known to be unsafe from now on: 16 rows of {known}" in capsys.readouterr().err
    after = suspicion(run)
    assert unsafe_first(after) == 1
    told = summary(run)
    assert (told["known_unsafe"], told["known_later"]) == (16, 16)
    # Nothing learned these rows, so that they look less suspicious than their like, and the recall is too low.
    assert told["errors"]["recall"]["value"] > 0.3
    known.unlink()
    assert main(["decide", str(run), "--threshold", "top:20%"]) == 0
    assert f"known to be unsafe, as an earlier decision was told: 16 rows of {known}" in capsys.readouterr().err
    assert suspicion(run) == after
    removed = [json.loads(line)["id"] for line in (run / "removed.jsonl").read_text().splitlines()]
    assert removed == [f"unsafe{i}" for i in range(8)]
    assert main(["decide", str(run), "--known-unsafe", "none"]) == 0
    assert "known to be unsafe no more: 16 rows" in capsys.readouterr().err
    assert suspicion(run) == before
    assert summary(run)["known_later"] == 0
    assert not (run / "stages" / "known-later").exists()


def test_they_tell_what_rows_named_at_the_start_tell(command, run, known, tmp_path):
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    planted = tmp_path / "planted"
    again = [str(planted) if word == str(run) else word for word in command]
    assert main([*again, "--no-training", "--known-unsafe", str(known)]) == 0
    later, named = suspicion(run), suspicion(planted)
    # What words and directions there are was found without them.
    assert np.corrcoef(list(later.values()), list(named.values()))[0, 1] > 0.95
    recalls = [summary(folder)["errors"]["recall"]["value"] for folder in (run, planted)]
    # Of 16 rows, so that three make .19.
    assert recalls[0] == pytest.approx(recalls[1], abs=0.19)
    parts = [pq.read_table(folder / "planted.parquet").column("part").to_pylist() for folder in (run, planted)]
    assert [part.count("known-unsafe") for part in parts] == [16, 16]


def test_what_is_damaged_of_them_is_made_again_as_the_message_says(run, known, capsys):
    given = ["decide", str(run), "--known-unsafe", str(known)]
    assert main(given) == 0
    before, folder = suspicion(run), run / "stages" / "known-later"
    flip(folder / "states.npy")
    assert main(["decide", str(run)]) == 2
    told = f"; delete {folder} and run 'forgetfilter decide' with --known-unsafe again"
    assert told in capsys.readouterr().err
    shutil.rmtree(folder)
    assert main(given) == 0
    assert suspicion(run) == before


def test_a_new_file_takes_the_place_of_the_last(run, known, tmp_path):
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    first = summary(run)
    other = write_jsonl(tmp_path / "other.jsonl", rows(12, "safe", 300))
    assert main(["decide", str(run), "--known-unsafe", str(other)]) == 0
    assert summary(run)["known_later"] == 12
    assert summary(run)["known_later_key"] != first["known_later_key"]
    assert unsafe_first(suspicion(run)) < 0.1


def test_beside_rows_that_were_planted_and_after_training(command, known, tmp_path, capsys):
    run, planted = tmp_path / "run", write_jsonl(tmp_path / "planted.jsonl", rows(5, "unsafe", 400))
    assert main([*command, "--known-unsafe", str(planted)]) == 0
    assert main(["decide", str(run), "--known-unsafe", str(known), "--finetune"]) == 0
    assert (summary(run)["known_unsafe"], summary(run)["known_later"]) == (21, 16)
    assert (run / "model").is_dir()
    capsys.readouterr()
    # The same command again goes by them, too, and says so.
    assert main([*command, "--known-unsafe", str(planted)]) == 0
    assert "as an earlier decision was told: 16 rows" in capsys.readouterr().err
    assert summary(run)["known_later"] == 16


def test_what_cannot_be_used_leaves_the_last_decision(run, known, tmp_path, capsys):
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    before = files(run)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{broken\n" + known.read_text())
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    long = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "x" * 4000, "completion": "yes"}])
    wrong = tmp_path / "overrides.json"
    wrong.write_text(json.dumps({"decisions": {"nobody": "kept"}}))
    capsys.readouterr()
    for options, said in [
        (["--known-unsafe", str(tmp_path / "missing.jsonl")], "missing.jsonl"),
        (["--known-unsafe", ""], "a name of nothing but blanks"),
        (["--known-unsafe", str(broken)], "1 row of it cannot be used: line 1: found"),
        (["--known-unsafe", str(empty)], "the file is empty"),
        (["--known-unsafe", str(long)], "no completion begins within"),
        (["--known-unsafe", str(known), "--signal", "likelihood"], "--signal suspicion"),
        # What fails after the rows were looked at, or dropped.
        (["--known-unsafe", str(known), "--overrides", str(wrong)], "has no row nobody"),
        (["--known-unsafe", "none", "--overrides", str(wrong)], "has no row nobody"),
    ]:
        assert main(["decide", str(run), *options]) == 2, options
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("forgetfilter: "), options
        assert said in line, options
        assert files(run) == before, options


def test_bad_rows_are_set_aside_where_those_of_the_run_are(command, known, tmp_path):
    run, broken = tmp_path / "run", tmp_path / "broken.jsonl"
    broken.write_text("{broken\n" + known.read_text())
    assert main([*command, "--no-training", "--skip-bad-rows"]) == 0
    assert main(["decide", str(run), "--known-unsafe", str(broken)]) == 0
    assert summary(run)["known_later"] == 16
    assert (run / "bad-known-later.jsonl").read_text() == "{broken\n"


def test_without_the_model_or_with_another(run, known, own_model, capsys):
    before = files(run)
    shutil.rmtree(own_model)
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 2
    assert str(own_model) in capsys.readouterr().err.splitlines()[-1]
    make_model("gpt2", own_model)
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 2
    assert "model changed since this run was made" in capsys.readouterr().err.splitlines()[-1]
    assert files(run) == before


def test_runs_of_before_say_what_to_do_and_it_helps(command, run, known, capsys):
    for name in ("basis.npz", "vocabulary.parquet"):
        (run / "stages" / "witnesses" / name).unlink()
    forget_checksums(run)
    before = suspicion(run)
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 2
    assert "run its 'forgetfilter filter' command again" in capsys.readouterr().err.splitlines()[-1]
    assert main([*command, "--no-training"]) == 0
    assert suspicion(run) == before
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0


def test_a_run_that_looked_at_nothing_says_so(command, known, tmp_path, capsys):
    assert main([*command, "--signal", "likelihood"]) == 0
    assert main(["decide", str(tmp_path / "run"), "--signal", "suspicion", "--known-unsafe", str(known)]) == 2
    assert "has no scores for the signal 'suspicion'" in capsys.readouterr().err.splitlines()[-1]


def test_another_signal_does_not_heed_them_and_says_so(command, known, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(command) == 0
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    capsys.readouterr()
    assert main(["decide", str(run), "--signal", "likelihood"]) == 0
    assert "which tells nothing by this signal: 16 rows" in capsys.readouterr().err
    assert summary(run)["known_later"] == 0
    assert main(["decide", str(run), "--signal", "suspicion"]) == 0
    assert summary(run)["known_later"] == 16


def test_later_decisions_take_no_model(run, known):
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    code = (
        "import sys; from forgetfilter.cli import main; "
        f"assert main(['decide', {str(run)!r}, '--threshold', 'top:20%']) == 0; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert summary(run)["known_later"] == 16


def test_from_python(run):
    result = FilterResult(run)
    assert unsafe_first(dict(zip(result.scores["id"], result.scores["suspicion"], strict=True))) < 0.9
    frame = pandas.DataFrame(rows(16, "unsafe", 200))
    assert result.decide("top:20%", known_unsafe=frame).summary.known_later == 16
    assert set(result.removed["id"]) == {f"unsafe{i}" for i in range(8)}
    assert result.decide(known_unsafe="none").summary.known_later == 0
    with pytest.raises(SettingsError, match="signal suspicion"):
        result.decide(signal="likelihood", known_unsafe=rows(2, "unsafe"))


def test_further_rows_are_weighed_as_those_of_the_table(tmp_path):
    documents = [["a", "b"], ["b", "c"], ["a", "c", "x"], [], ["all", "a"], ["b", "all", "b"], ["y"]]
    table, vocabulary = shared_words(documents)
    vocabulary.save(tmp_path / "vocabulary.parquet")
    again = Vocabulary.load(tmp_path / "vocabulary.parquet").weigh([*documents, ["new", "c"], ["new"]])
    assert (again.count, again.vocabulary) == (9, table.vocabulary)
    for name in ("rows", "words", "weights"):
        assert np.array_equal(getattr(again, name)[: len(table.rows)], getattr(table, name)), name
    assert again.rows[len(table.rows) :].tolist() == [7]
    both = table.followed_by(again)
    vector = np.arange(1.0, table.vocabulary + 1)
    assert np.array_equal(both.times(vector), np.concatenate([table.times(vector), again.times(vector)]))


def test_a_vocabulary_may_be_empty(tmp_path):
    table, vocabulary = shared_words([["a"], ["b"]])
    vocabulary.save(tmp_path / "vocabulary.parquet")
    assert Vocabulary.load(tmp_path / "vocabulary.parquet").weigh([["a"]]).vocabulary == table.vocabulary == 0


def test_a_basis_projects_the_same_once_it_was_kept(tmp_path):
    states = np.random.default_rng(0).normal(size=(40, 2 * 24)).astype(np.float32)
    basis = Basis.fit(states, 2)
    basis.save(tmp_path / "basis.npz")
    kept = basis.project(states)
    assert kept.shape == (40, basis.size) == (40, 48)
    assert np.linalg.norm(kept, axis=1) == pytest.approx(1)
    assert np.array_equal(Basis.load(tmp_path / "basis.npz").project(states[3:5]), basis.project(states[3:5]))


def test_rows_known_to_be_unsafe_are_not_named_as_harmless_ones_too(command, run, known, tmp_path, capsys):
    before = files(run)
    assert main(["decide", str(run), "--known-unsafe", str(tmp_path / "safe.jsonl")]) == 2
    assert "holds the same as the safe examples" in capsys.readouterr().err
    assert files(run) == before
    copy, other = shutil.copy(known, tmp_path / "copy.jsonl"), ["--output", str(tmp_path / "other"), "--no-training"]
    assert main([*command, *other, "--trusted", str(known), "--known-unsafe", str(copy)]) == 2
    assert "copy.jsonl: holds the same as the trusted rows" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--safe", "--trusted", "--known-unsafe"])
def test_the_data_is_not_what_is_known_of_it(option, noisy, safe, model, tmp_path, capsys):
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(tmp_path / "out")]
    assert main([*command, option, str(shutil.copy(noisy, tmp_path / "copy.jsonl"))]) == 2
    assert "copy.jsonl: holds the same as the data; nothing is known of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
