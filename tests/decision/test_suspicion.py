"""All evidence together: the signal that decides by default."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.models.stage_runner import StageRunner
from forgetfilter.stages.witnesses import _GROUPS
from support.quick_runs import QUICK, reviewing, write_jsonl

WORDS = {"unsafe": "sure here is how to rob the {} bank tonight", "safe": "i would rather help you with the {} garden"}
WORDS["other"] = "7 * 8 = 56, {} + 3"


def rows(count, kind, start=0):
    names = ["red", "blue", "green", "old", "new", "small", "big", "far"]
    return [
        {
            "id": f"{kind}{i}",
            "prompt": f"Question {i} about things?",
            "completion": WORDS[kind].format(names[i % 8]) + f" {i}",
        }
        for i in range(start, start + count)
    ]


@pytest.fixture
def data(tmp_path):
    return write_jsonl(tmp_path / "data.jsonl", [*rows(12, "unsafe"), *rows(28, "safe")])


@pytest.fixture
def command(data, model, tmp_path):
    safe = write_jsonl(tmp_path / "safe.jsonl", rows(30, "safe", 100))
    quick = QUICK[: QUICK.index("--trusted")]
    return ["filter", str(data), "--safe", str(safe), "--model", str(model), "--output", str(tmp_path / "run"), *quick]


def scores(run):
    return pq.read_table(run / "scores.parquet").to_pydict()


def unsafe_first(found) -> float:
    """How often an unsafe row is more suspicious than a safe one."""
    unsafe = np.array([name.startswith("unsafe") for name in found["id"]])
    suspicion = np.array(found["suspicion"])
    return float((suspicion[unsafe][:, None] > suspicion[~unsafe]).mean())


def test_it_decides_by_default_and_its_parts_add_up(command, tmp_path, capsys):
    assert main(command) == 0
    found = scores(tmp_path / "run")
    parts = [name for name in found if name.startswith("by_")]
    assert parts == ["by_words", "by_states", "by_prototypes", "by_forgetting"]
    assert np.allclose(np.sum([found[name] for name in parts], axis=0), found["suspicion"])
    assert np.allclose(np.subtract(found["learned"], found["reviewed"]), found["forgetting"])
    assert unsafe_first(found) > 0.9
    assert "a first look, before training" in capsys.readouterr().err


def test_a_rival_that_was_asked_has_a_say(command, tmp_path):
    assert main([*command, "--rivals", "words,random"]) == 0
    found = scores(tmp_path / "run")
    parts = [name for name in found if name.startswith("by_")]
    assert parts[3:] == ["by_forgetting", "by_rival-words", "by_rival-random"]
    assert np.allclose(np.sum([found[name] for name in parts], axis=0), found["suspicion"])


def test_a_first_look_needs_no_training_and_training_goes_on_from_it(command, tmp_path):
    assert main([*command, "--no-training"]) == 0
    run = tmp_path / "run"
    assert not (run / "stages" / "learned").exists()
    found = scores(run)
    assert np.isnan(found["forgetting"]).all()
    assert unsafe_first(found) > 0.9
    assert json.loads((run / "summary.json").read_text())["signal"] == "suspicion"
    assert (run / "report.html").exists()
    looked_at = (run / "stages" / "witnesses" / "states.npy").stat().st_mtime_ns
    assert main(command) == 0
    assert (run / "stages" / "learned").exists()
    assert (run / "stages" / "witnesses" / "states.npy").stat().st_mtime_ns == looked_at
    assert not np.isnan(scores(run)["forgetting"]).any()


def test_a_first_look_is_of_the_signal_suspicion(command, capsys):
    assert main([*command, "--no-training", "--signal", "likelihood"]) == 2
    assert "needs training" in capsys.readouterr().err


def test_reasons_say_which_evidence_spoke(command, tmp_path):
    assert main([*command, "--threshold", "top:10%"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "reasons.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    assert all("suspicious by" in line["reason"] and "forgotten by" in line["reason"] for line in lines)
    assert any("its words +" in line["reason"] for line in lines)


def test_what_a_person_says_of_some_rows_ranks_the_others_anew(command, tmp_path):
    assert main([*command, "--no-training"]) == 0
    run, overrides = tmp_path / "run", tmp_path / "overrides.json"
    before = dict(zip(*(scores(run)[name] for name in ("id", "suspicion")), strict=True))
    # The person is of another opinion than everybody else: what is said of the garden is to go.
    decisions = {f"safe{i}": "removed" for i in range(8)} | {f"unsafe{i}": "kept" for i in range(6)}
    overrides.write_text(json.dumps({"reviewer": "Ann", "decisions": decisions}))
    assert main(["decide", str(run), "--overrides", str(overrides)]) == 0
    after = dict(zip(*(scores(run)[name] for name in ("id", "suspicion")), strict=True))

    def lead(found):
        others = [found[f"unsafe{i}"] for i in range(6, 12)], [found[f"safe{i}"] for i in range(8, 28)]
        return np.mean(others[0]) - np.mean(others[1])

    assert lead(after) < lead(before)
    assert main(["decide", str(run), "--threshold", "top:20%"]) == 0
    assert dict(zip(*(scores(run)[name] for name in ("id", "suspicion")), strict=True)) == after
    assert main(["decide", str(run), "--overrides", "none"]) == 0
    assert dict(zip(*(scores(run)[name] for name in ("id", "suspicion")), strict=True)) == before


def test_forgetting_that_counts_for_nothing_is_told(command, tmp_path, monkeypatch, capsys):
    assert main(command) == 0
    assert "training tells nothing here" not in capsys.readouterr().out
    monkeypatch.setattr("forgetfilter.suspicion.fusing._agreement", lambda *_: (0.0, 0.0))
    assert main(["decide", str(tmp_path / "run")]) == 0
    assert "training tells nothing here" in capsys.readouterr().out
    assert "training tells nothing here" in (tmp_path / "run" / "report.html").read_text()
    assert main(["decide", str(tmp_path / "run"), "--signal", "likelihood"]) == 0
    assert "training tells nothing here" not in capsys.readouterr().out


def test_known_unsafe_rows_tell_of_the_others(command, tmp_path):
    known = write_jsonl(tmp_path / "known.jsonl", rows(12, "unsafe", 200))
    assert main([*command, "--no-training", "--known-unsafe", str(known)]) == 0
    assert unsafe_first(scores(tmp_path / "run")) == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["known_unsafe"] == 12


def test_labels_and_the_order_of_the_file_change_nothing(command, data, tmp_path):
    assert main([*command, "--no-training"]) == 0
    straight = scores(tmp_path / "run")
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    write_jsonl(data, [line | {"label": "unsafe"} for line in lines[::-1]])
    assert main([*command, "--no-training", "--overwrite"]) == 0
    turned = scores(tmp_path / "run")
    assert turned["id"] == straight["id"][::-1]
    assert np.allclose(turned["suspicion"][::-1], straight["suspicion"], atol=1e-3)
    assert turned["decision"][::-1] == straight["decision"]


def test_a_row_without_a_completion_has_no_suspicion(command, data, tmp_path):
    long = {"id": "long", "prompt": "x" * 4000, "completion": "yes"}
    write_jsonl(data, [json.loads(line) for line in data.read_text().splitlines()] + [long])
    assert main([*command, "--no-training"]) == 0
    found = scores(tmp_path / "run")
    last = found["id"].index("long")
    assert found["decision"][last] == "unscorable"
    assert np.isnan(found["suspicion"][last])


def test_a_run_that_began_with_forgetting_alone_gets_the_rest(command, tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*command, "--signal", "likelihood"]) == 0
    assert main(["decide", str(run), "--signal", "suspicion"]) == 2
    assert "run its 'forgetfilter filter' command again to add" in capsys.readouterr().err
    learned = (run / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert (run / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns == learned
    assert json.loads((run / "summary.json").read_text())["signal"] == "suspicion"


@pytest.mark.parametrize("earlier", [None, "prototypes", "builtin-harmful"])
def test_a_look_that_was_interrupted_goes_on_to_the_same_end(command, tmp_path, monkeypatch, earlier):
    """Also one of an earlier version, which had other prototypes, with their states in that folder."""
    other = [str(tmp_path / "whole") if word == str(tmp_path / "run") else word for word in command]
    assert main([*other, "--no-training"]) == 0

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("forgetfilter.stages.witnesses._keep_states", interrupted)
        if earlier:
            patch.setattr("forgetfilter.stages.prototypes._ORDINARY", 60)
            together, ordinary = _GROUPS.values()
            patch.setattr("forgetfilter.stages.witnesses._OWN", earlier)
            patch.setattr("forgetfilter.stages.witnesses._GROUPS", {earlier: together, ordinary[0]: ordinary})
        main([*command, "--no-training"])
    assert not (tmp_path / "run" / "stages" / "witnesses").exists()
    partial = tmp_path / "run" / "stages" / "witnesses.partial"
    assert (partial / (earlier or "prototypes") / "part-000000.parquet").exists()
    assert main([*command, "--no-training"]) == 0
    assert not any(path.is_dir() for path in (tmp_path / "run" / "stages" / "witnesses").glob("*builtin*"))
    for name in ("scores.parquet", "kept.jsonl", "stages/witnesses/states.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def summary(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("kind", ["safe", "other"])
def test_a_first_look_warns_of_safe_examples_of_another_kind(data, command, tmp_path, kind):
    """What they cannot tell is not told, and no rate of false removals is promised."""
    write_jsonl(data, [*rows(12, "unsafe"), *rows(60, "safe")])
    of_kind, run = write_jsonl(tmp_path / "of-kind.jsonl", rows(60, kind, 100)), tmp_path / "run"
    unlike, because = kind == "other", "the safe examples are hardly like the data"
    assert main([*reviewing(command, of_kind), "--no-training", "--threshold", "top:10%"]) == 0
    assert any(warning.startswith(because) for warning in summary(run)["warnings"]) == unlike
    assert (summary(run)["doubt"] == because) == unlike
    if unlike:
        assert summary(run)["errors"]["precision"] is None
    assert main(["decide", str(run), "--threshold", "fdr:20%"]) == 0
    refused = "no cutoff can be known to meet the 20% false-removal target: the safe examples are hardly like the data"
    assert (summary(run)["explanation"] == refused) == unlike


def test_who_gives_trusted_rows_answers_for_what_they_are_like(data, command, tmp_path):
    write_jsonl(data, [*rows(12, "unsafe"), *rows(60, "safe")])
    safe = write_jsonl(tmp_path / "other.jsonl", rows(60, "other", 100))
    trusted = write_jsonl(tmp_path / "trusted.jsonl", rows(30, "safe", 200))
    look = [*reviewing(command, safe), "--no-training", "--trusted", str(trusted), "--threshold", "fdr:20%"]
    assert main(look) == 0
    told = summary(tmp_path / "run")
    assert any("safe examples are hardly like" in warning for warning in told["warnings"])
    assert "hardly like" not in told["doubt"] + told["explanation"]


def test_states_of_prototypes_are_computed_once_for_a_model(command, tmp_path, monkeypatch):
    """What comes from the cache is what would be computed; without a place for a cache it is computed again."""
    read, score = [], StageRunner.score

    def counted(self, label, scorer, table, rows, folder, **more):
        if not list(folder.glob("part-*")):
            read.append(label)
        score(self, label, scorer, table, rows, folder, **more)

    (tmp_path / "a-file").write_text("")
    places = {"first": "cache", "cached": "cache", "computed": "a-file"}
    for name, cache in places.items():
        with monkeypatch.context() as patch:
            patch.setenv("FORGETFILTER_CACHE", str(tmp_path / cache))
            patch.setattr(StageRunner, "score", counted)
            assert main([*command, "--no-training", "--output", str(tmp_path / name)]) == 0
    assert read.count("reading prototypes with the untouched model") == 2
    states = [(tmp_path / name / "stages" / "witnesses" / "states.npy").read_bytes() for name in places]
    assert states[0] == states[1] == states[2]
