"""Further rows are divided by what a run has learned: `forgetfilter apply`, and the same from Python."""

import json
import pickle
import re
import shutil

import datasets
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import forgetfilter
from forgetfilter import RowScorer
from forgetfilter.applying import apply as applying
from forgetfilter.applying.fitting import fitted_rule
from forgetfilter.cli import main
from forgetfilter.decision import suspicion as suspicion_module
from forgetfilter.errors import InputError, RunError, SettingsError
from forgetfilter.runs.layout import CHECKSUMS
from forgetfilter.runs.run import Run
from forgetfilter.suspicion.fusing import OWN_ROWS
from forgetfilter.suspicion.nearest import Overlap
from support.damage import DAMAGES
from support.quick_runs import write_jsonl


def apply(run, data, output, *more):
    return main(["apply", str(run), str(data), "--output", str(output), *more])


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def suspicion(output):
    return pq.read_table(output / "scores.parquet").column("suspicion").to_numpy()


@pytest.mark.parametrize("evidence", ["words", "states"])
def test_what_is_like_removed_rows_is_removed(run, more, tmp_path, evidence, capsys):
    data = write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(run, data, tmp_path / "out", "--evidence", evidence) == 0
    removed, unsafe = ids(tmp_path / "out" / "removed.jsonl"), {row["id"] for row in more[::2]}
    assert ids(tmp_path / "out" / "kept.jsonl") == [row["id"] for row in more if row["id"] not in removed]
    # The states of a model of random weights say less than words do.
    assert unsafe <= set(removed)
    assert len(removed) - len(unsafe) <= {"words": 0, "states": 1}[evidence]
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert [row["id"] for row in scores] == [row["id"] for row in more]
    assert {"garden", "fenc"} & set(scores[0]["most_suspicious"])
    assert scores[0]["reason"].startswith("like rows that the run removed: suspicious by ")
    assert scores[1]["reason"] is None
    assert (evidence == "states") == any(row["by_states"] for row in scores)
    told = capsys.readouterr().out
    agreed = re.search(r"on 40 rows held out in the run: the same decision for (\d+)% \(\d+% to \d+%\)", told)
    assert int(agreed[1]) >= {"words": 95, "states": 80}[evidence]
    assert "WARNING: the run has only 40 rows with a score" in told


def test_rows_of_the_run_itself_are_told(run, more, tmp_path, capsys):
    own = pq.read_table(run / "scores.parquet").column("id").to_pylist()
    data = write_jsonl(
        tmp_path / "more.jsonl", [row | {"id": id} for row, id in zip(more[:2], own, strict=False)] + more[2:]
    )
    assert apply(run, data, tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "WARNING: 2 rows of these have the id of a row of the run" in told
    assert str(run / "scores.parquet") in told
    assert apply(run, write_jsonl(tmp_path / "new.jsonl", more), tmp_path / "new") == 0
    assert "have the id" not in capsys.readouterr().out


def test_a_line_of_text_comes_back_as_it_was(run, more, tmp_path):
    lines = [json.dumps(row, indent=None, separators=(", ", ":  ")) + "\n" for row in more]
    lines[3:3] = ["{broken\n"]
    (tmp_path / "more.jsonl").write_text("".join(lines))
    assert apply(run, tmp_path / "more.jsonl", tmp_path / "out") == 2
    assert apply(run, tmp_path / "more.jsonl", tmp_path / "out", "--skip-bad-rows") == 0
    written = [(tmp_path / "out" / f"{role}.jsonl").read_text() for role in ("kept", "removed", "bad")]
    assert all(written)
    assert written[2] == "{broken\n"
    assert sorted("".join(written).splitlines(keepends=True)) == sorted(lines)


@pytest.mark.parametrize("kind", ["messages", "csv", "parquet", "folder", "text"])
def test_every_layout_and_container_is_divided(run, more, tmp_path, kind):
    chats = [
        [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in more
    ]
    if kind == "messages":
        data = write_jsonl(tmp_path / "more.jsonl", [{"messages": chat, "n": i} for i, chat in enumerate(chats)])
    elif kind == "text":
        data = write_jsonl(tmp_path / "more.jsonl", [{"text": row["completion"], "n": 1} for row in more])
    elif kind == "folder":
        data = tmp_path / "parts"
        data.mkdir()
        write_jsonl(data / "a.jsonl", more[:4])
        write_jsonl(data / "b.jsonl", more[4:])
    else:
        data = tmp_path / f"more.{kind}"
        getattr(datasets.Dataset.from_list(more), f"to_{kind}")(data)
    result = forgetfilter.apply(run, str(data), output=tmp_path / "out", quiet=True)
    assert (result.summary.kept, result.summary.removed) == (10, 10)
    columns = result.kept.column_names
    both = [*result.kept.to_list(), *result.removed.to_list()]
    assert len(both) == 20
    assert result.removed.column_names == columns
    assert all("garden" in str(row) for row in result.removed)
    assert not any("garden" in str(row) for row in result.kept)


def test_rows_in_memory_and_a_result_read_again(run, more, tmp_path):
    result = forgetfilter.apply(run, datasets.Dataset.from_list(more), output=tmp_path / "out", quiet=True)
    again = forgetfilter.AppliedResult(tmp_path / "out")
    assert again.summary == result.summary
    assert again.scores["decision"][:2] == ["removed", "kept"]
    assert repr(again) == repr(result)
    assert "removed.parquet" in repr(again)


def test_a_scorer_adds_a_column_whatever_the_batch(run, more, tmp_path):
    write_jsonl(tmp_path / "more.jsonl", more)
    apply(run, tmp_path / "more.jsonl", tmp_path / "out")
    scorer = RowScorer.load(run)
    table = datasets.Dataset.from_list(more)
    for rows in (
        table.map(pickle.loads(pickle.dumps(scorer)), batched=True),
        table.map(scorer, batched=True, batch_size=3, num_proc=2),
        table.to_iterable_dataset().map(scorer, batched=True, batch_size=1),
    ):
        got = [row["forgetfilter_suspicion"] for row in rows]
        np.testing.assert_allclose(got, suspicion(tmp_path / "out"), rtol=1e-12)
        assert [scorer.keeps(value) for value in got] == [False, True] * 10


def test_states_are_those_of_the_run_however_many_rows_come_at_once(run, more):
    scorer = RowScorer.load(run, "states")
    together = scorer({name: [row[name] for row in more] for name in more[0]})["forgetfilter_suspicion"]
    again = pickle.loads(pickle.dumps(scorer))
    one_by_one = [again({k: [v] for k, v in row.items()})["forgetfilter_suspicion"][0] for row in more[:3]]
    # States are kept in half precision.
    np.testing.assert_allclose(one_by_one, together[:3], atol=2e-2)


def test_a_row_without_words_has_no_score_and_is_kept(run, more, tmp_path):
    odd = [
        {"id": "odd", "prompt": "Well?", "completion": "…!?"},
        {"id": "new", "prompt": "Well?", "completion": "中文"},
    ]
    assert apply(run, write_jsonl(tmp_path / "m.jsonl", [*odd, *more]), tmp_path / "out") == 0
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert scores[0]["decision"] == "unscorable"
    assert scores[1]["decision"] == "kept"
    assert ids(tmp_path / "out" / "kept.jsonl")[:2] == ["odd", "new"]
    scorer = RowScorer.load(run)
    assert scorer({"prompt": ["?"], "completion": ["…"]}) == {"forgetfilter_suspicion": [None]}
    assert scorer.keeps(None)
    assert scorer({"prompt": [], "completion": []}) == {"forgetfilter_suspicion": []}


def test_a_batch_without_any_row_that_can_be_scored_has_no_score(run, tmp_path):
    scorer = RowScorer.load(run, "states")
    assert scorer({"prompt": ["?", "!"], "completion": ["", ""]}) == {"forgetfilter_suspicion": [None, None]}
    long = {"prompt": "word " * 5000, "completion": "Fine."}
    assert apply(run, write_jsonl(tmp_path / "m.jsonl", [long]), tmp_path / "out", "--evidence", "states") == 0
    assert pq.read_table(tmp_path / "out" / "scores.parquet").column("decision").to_pylist() == ["unscorable"]


def test_a_row_in_place_of_a_batch_is_refused(run, more):
    scorer = RowScorer.load(run)
    chats = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "id": 1}]
    pairs = [{"prompt": chat["messages"][:1], "completion": chat["messages"][1:]} for chat in chats]
    for rows in (more, chats, pairs, [{"from": {"file": 1}} | row for row in more]):
        with pytest.raises(SettingsError, match="batched=True"):
            datasets.Dataset.from_list(rows).map(scorer)
        assert len(datasets.Dataset.from_list(rows).map(scorer, batched=True)["forgetfilter_suspicion"]) == len(rows)
    for rows in (more, "text", None):
        with pytest.raises(SettingsError, match="by column"):
            scorer(rows)


def test_a_run_that_an_earlier_version_decided_has_to_be_decided_again(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    scores = pq.read_table(own / "scores.parquet")
    place = scores.column_names.index("suspicion")
    earlier = pc.multiply(scores.column("suspicion"), 1.3)
    pq.write_table(scores.set_column(place, "suspicion", earlier), own / "scores.parquet")
    (own / CHECKSUMS).unlink()
    shutil.rmtree(own / "stages" / "distilled-words", ignore_errors=True)
    with pytest.raises(RunError, match=r"earlier version.*; decide again: forgetfilter decide"):
        RowScorer.load(own)


@pytest.mark.parametrize("name", ["rule.npz", "held-out.npz", "decision.txt"])
def test_a_damaged_rule_is_fitted_again(run, more, tmp_path, name):
    own, data = shutil.copytree(run, tmp_path / "run"), write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(own, data, tmp_path / "out") == 0
    fitted = own / "stages" / "distilled-words" / name
    written = fitted.read_bytes()
    for damage in (*DAMAGES.values(), lambda path: path.write_bytes(b"\xff" + written[1:])):
        damage(fitted)
        RowScorer.load(own)
        assert fitted.read_bytes() == written


@pytest.mark.parametrize("kind", ["cut", "empty", "delete"])
def test_a_damaged_rule_without_checksums_is_named(run, more, tmp_path, kind, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    RowScorer.load(own)
    folder = own / "stages" / "distilled-words"
    (folder / CHECKSUMS).unlink()
    DAMAGES[kind](folder / "rule.npz")
    data = write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(own, data, tmp_path / "out") == 2
    told = rf"{folder}/rule\.npz: .*; delete {folder} and run the command that made it again\n"
    assert re.search(told, capsys.readouterr().err)
    shutil.rmtree(folder)
    assert apply(own, data, tmp_path / "out") == 0


def test_what_rests_on_safe_examples_is_trusted_as_far_as_they_are_like_the_data(run, tmp_path, monkeypatch):
    own, trusted, whole = shutil.copytree(run, tmp_path / "run"), [], suspicion_module.fuse
    monkeypatch.setattr(suspicion_module, "measure_overlap", lambda *_: Overlap(0.1, 0.9))
    monkeypatch.setattr(suspicion_module, "fuse", lambda *given: trusted.append(given[-1]) or whole(*given))
    assert main(["decide", str(own), "--threshold", "top:20%"]) == 0
    assert trusted == [{OWN_ROWS: 0.0, "forgetting": 0.5}]


def test_another_threshold_decides_the_same_folder_again(run, more, tmp_path, monkeypatch):
    data = write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(run, data, tmp_path / "out") == 0
    monkeypatch.setattr(RowScorer, "score", None)
    assert apply(run, data, tmp_path / "out", "--threshold", str(suspicion(tmp_path / "out").max())) == 0
    assert (tmp_path / "out" / "removed.jsonl").read_text() == ""
    assert ids(tmp_path / "out" / "kept.jsonl") == [row["id"] for row in more]


def test_a_share_is_one_of_the_runs_rows(run, more, tmp_path):
    data = write_jsonl(tmp_path / "more.jsonl", more[::2])
    assert apply(run, data, tmp_path / "out", "--threshold", "top:20%") == 0
    # A fifth of the run's rows were like these, so all of these are removed.
    assert ids(tmp_path / "out" / "removed.jsonl") == [row["id"] for row in more[::2]]


def test_what_was_started_differently_is_refused(run, more, tmp_path, capsys):
    data = write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(run, data, tmp_path / "out") == 0
    assert apply(run, data, tmp_path / "out", "--evidence", "states") == 2
    assert "evidence: was 'words', is now 'states'" in capsys.readouterr().err
    write_jsonl(data, more[1:])
    assert apply(run, data, tmp_path / "out") == 2
    assert "data: its content is not" in capsys.readouterr().err
    assert apply(run, data, run) == 2
    assert "there is something here already" in capsys.readouterr().err


def test_a_killed_attempt_goes_on_to_the_same_bytes(run, more, tmp_path, monkeypatch):
    monkeypatch.setattr("forgetfilter.data.records.BATCH", 4)
    data = write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(run, data, tmp_path / "whole") == 0
    score, calls = RowScorer.score, []

    def killed(self, chats):
        calls.append(len(chats))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, chats)

    monkeypatch.setattr(RowScorer, "score", killed)
    assert apply(run, data, tmp_path / "out") == 130
    assert apply(run, data, tmp_path / "out") == 0
    # Two batches of five were scored before.
    assert calls == [4] * 6
    for name in ("kept.jsonl", "removed.jsonl", "scores.parquet", "applied.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_is_decided_again_is_applied_anew(run, more, tmp_path):
    own, data = shutil.copytree(run, tmp_path / "run"), write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(own, data, tmp_path / "out") == 0
    removed = (tmp_path / "out" / "removed.jsonl").read_text()
    assert main(["decide", str(own), "--threshold", "1e9"]) == 0
    assert apply(own, data, tmp_path / "out") == 0
    assert removed
    assert (tmp_path / "out" / "removed.jsonl").read_text() == ""
    assert forgetfilter.AppliedResult(tmp_path / "out").summary.explanation == "the run removed nothing"


def test_a_decision_for_other_reasons_is_applied_anew(run, more, tmp_path):
    """Nothing is removed before and after, so that only suspicion tells the two decisions apart."""
    own = shutil.copytree(run, tmp_path / "run")
    assert main(["decide", str(own), "--threshold", "1e9"]) == 0
    before = RowScorer.load(own).score_texts([more[0]["completion"]]).suspicion
    known = write_jsonl(tmp_path / "known.jsonl", more)
    assert main(["decide", str(own), "--threshold", "1e9", "--known-unsafe", str(known)]) == 0
    summary = json.loads((own / "summary.json").read_text())
    (own / "summary.json").write_text(json.dumps(summary | {"known_later_key": ""}))
    (own / CHECKSUMS).unlink()
    assert RowScorer.load(own).score_texts([more[0]["completion"]]).suspicion != before


def test_a_persons_decisions_that_were_changed_since_are_refused(run, tmp_path):
    own, overrides = shutil.copytree(run, tmp_path / "run"), tmp_path / "overrides.json"
    overrides.write_text(json.dumps({"reviewer": "me", "decisions": {"safe1": "removed"}}))
    assert main(["decide", str(own), "--overrides", str(overrides)]) == 0
    (own / "overrides.json").write_text((own / "overrides.json").read_text().replace('"removed"', '"kept"   '))
    with pytest.raises(RunError, match="changed since it was written"):
        RowScorer.load(own)


def test_what_a_person_decided_counts(run, more, tmp_path):
    own, data = shutil.copytree(run, tmp_path / "run"), write_jsonl(tmp_path / "more.jsonl", more)
    assert apply(own, data, tmp_path / "out") == 0
    decisions = {f"safe{i}": "removed" for i in range(16)}
    (tmp_path / "overrides.json").write_text(json.dumps({"reviewer": "me", "decisions": decisions}))
    assert main(["decide", str(own), "--overrides", str(tmp_path / "overrides.json"), "--threshold", "top:20%"]) == 0
    assert apply(own, data, tmp_path / "after") == 0
    before, after = suspicion(tmp_path / "out"), suspicion(tmp_path / "after")
    assert (after[1::2] - after[::2]).mean() > (before[1::2] - before[::2]).mean()


def test_what_cannot_be_applied_is_told_in_one_line(run, more, tmp_path):
    data = write_jsonl(tmp_path / "more.jsonl", more)
    with pytest.raises(RunError, match="not a run folder"):
        forgetfilter.apply(tmp_path, str(data), output=tmp_path / "out")
    own = shutil.copytree(run, tmp_path / "run")
    (own / "stages" / "witnesses" / "vocabulary.parquet").unlink()
    with pytest.raises(RunError, match=r"vocabulary.parquet: missing"):
        RowScorer.load(own)
    # Earlier versions kept neither.
    (own / "stages" / "witnesses" / CHECKSUMS).unlink()
    with pytest.raises(RunError, match="earlier version"):
        RowScorer.load(own)
    (own / "summary.json").unlink()
    with pytest.raises(RunError, match=r"summary.json: missing; decide again"):
        RowScorer.load(own)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        forgetfilter.apply(run, str(data), output=tmp_path / "file" / "out")
    with pytest.raises(SettingsError, match="evidence must be one of words, states"):
        RowScorer.load(run, "everything")
    with pytest.raises(SettingsError, match="threshold"):
        RowScorer.load(run, threshold="half")
    with pytest.raises(InputError, match="do not fit any known layout"):
        RowScorer.load(run)({"what": ["is"], "this": ["?"]})
    with pytest.raises(RunError, match="nothing was applied here"):
        forgetfilter.AppliedResult(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_signal_says_how_to_go_on(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    summary = json.loads((own / "summary.json").read_text()) | {"signal": "likelihood"}
    (own / "summary.json").write_text(json.dumps(summary))
    (own / CHECKSUMS).unlink()
    with pytest.raises(RunError, match=r"decide .* --signal suspicion"):
        RowScorer.load(own)


def test_labels_are_not_looked_at(run, more, tmp_path):
    labelled = [{**row, "label": "unsafe" if i % 3 else "safe"} for i, row in enumerate(more)]
    assert apply(run, write_jsonl(tmp_path / "a.jsonl", more), tmp_path / "a") == 0
    assert apply(run, write_jsonl(tmp_path / "b.jsonl", labelled), tmp_path / "b", "--layout", "prompt-completion") == 0
    np.testing.assert_array_equal(suspicion(tmp_path / "a"), suspicion(tmp_path / "b"))


def test_rows_are_scored_some_at_a_time(run, more, tmp_path, monkeypatch):
    """However many rows there are, no more of them are held at once than a batch has."""
    most, score = 0, RowScorer.score

    def counted(self, chats):
        nonlocal most
        most = max(most, len(chats))
        return score(self, chats)

    monkeypatch.setattr(RowScorer, "score", counted)
    data = write_jsonl(tmp_path / "m.jsonl", [{**row, "id": f"{row['id']}-{i}"} for i in range(120) for row in more])
    assert apply(run, data, tmp_path / "out") == 0
    assert most == 1000
    assert applying.read_applied(tmp_path / "out").rows == 2400


def test_what_a_person_removed_counts_as_removed(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    scores = pq.read_table(own / "scores.parquet", columns=["id", "suspicion"]).to_pydict()
    order = np.argsort(scores["suspicion"])[::-1]
    decisions = {scores["id"][i]: "removed" for i in order[:8]}
    (tmp_path / "ov.json").write_text(json.dumps({"reviewer": "Ann", "decisions": decisions}))
    assert main(["decide", str(own), "--threshold", "99", "--overrides", str(tmp_path / "ov.json")]) == 0
    fitted = fitted_rule(Run.open(own), "words")
    assert fitted.removed.sum() == 8
    assert 0 < fitted.cut("auto").removes(fitted.predicted).sum() <= 8


def test_a_rule_that_is_there_is_read_without_writing_anything(run, tmp_path, monkeypatch):
    own = shutil.copytree(run, tmp_path / "run")
    fitted = fitted_rule(Run.open(own), "words")
    monkeypatch.setattr("filelock.FileLock", None)
    assert np.array_equal(fitted_rule(Run.open(own), "words").predicted, fitted.predicted)
