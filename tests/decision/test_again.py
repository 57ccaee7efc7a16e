"""What a person decided stays: between two `filter` commands, and with another threshold."""

import json
import shlex

import pytest

import forgetfilter.pipeline
from forgetfilter.cli import main
from support.quick_runs import NOISY, QUICK, SAFE, scores, write_jsonl

FUSED = QUICK[: QUICK.index("--signal")]


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def command(run, model, tmp_path):
    noisy, safe = write_jsonl(tmp_path / "noisy.jsonl", NOISY), write_jsonl(tmp_path / "safe.jsonl", SAFE)
    return ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *FUSED]


@pytest.fixture
def stopped(command, run, tmp_path, monkeypatch):
    """A run that was stopped after its first look, and decided by a person and with another threshold."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forgetfilter.pipeline, "learn", interrupted)
        assert main(command) == 130
    overrides = tmp_path / "mine.json"
    overrides.write_text(json.dumps({"reviewer": "Ann", "decisions": {"n1": "removed", "n0": "kept"}}))
    assert main(["decide", str(run), "--overrides", str(overrides), "--threshold", "top:50%"]) == 0
    return run


def summary(run):
    return json.loads((run / "summary.json").read_text())


def decisions(run):
    found = scores(run)
    return dict(zip(found["id"], found["decision"], strict=True))


def check_stands(run):
    assert (summary(run)["threshold"], summary(run)["reviewer"]) == ("top:50%", "Ann")
    assert (decisions(run)["n1"], decisions(run)["n0"]) == ("removed", "kept")
    assert summary(run)["removed"] > 1


def test_it_stays_in_the_first_look_and_to_the_end(stopped, command, monkeypatch, capsys):
    looks = []
    learn = forgetfilter.pipeline.learn
    monkeypatch.setattr(forgetfilter.pipeline, "learn", lambda work: (looks.append(summary(stopped)), learn(work)))
    capsys.readouterr()
    assert main(command) == 0
    assert [(look["threshold"], look["reviewer"], look["trained"]) for look in looks] == [("top:50%", "Ann", False)]
    assert summary(stopped)["trained"]
    check_stands(stopped)
    told = [line for line in capsys.readouterr().err.splitlines() if "of your last decide" in line]
    assert len(told) == 1
    assert told[0].startswith("the 2 decisions by Ann and threshold top:50% of your last decide stay; ")
    # A finished run that is filtered again is no other case.
    assert main(command) == 0
    check_stands(stopped)
    assert main(shlex.split(told[0].partition("to decide without: forgetfilter ")[2])) == 0
    assert (summary(stopped)["threshold"], summary(stopped)["reviewer"]) == ("auto", "")
    assert main(command) == 0
    assert (summary(stopped)["threshold"], summary(stopped)["reviewer"]) == ("auto", "")


def test_a_threshold_of_the_command_holds_and_the_persons_decisions_stay(command, stopped, capsys):
    run = stopped
    assert main([*command, "--overwrite", "--no-training", "--threshold", "top:25%"]) == 0
    assert (summary(run)["threshold"], summary(run)["reviewer"]) == ("top:25%", "")
    mine = run.with_name("mine.json")
    assert main(["decide", str(run), "--overrides", str(mine), "--threshold", "top:50%"]) == 0
    capsys.readouterr()
    assert main([*command, "--threshold", "top:25%"]) == 0
    assert (summary(run)["threshold"], summary(run)["reviewer"]) == ("top:25%", "Ann")
    said = capsys.readouterr().err
    back = said.partition("the last decision comes back with: forgetfilter ")[2].splitlines()[0]
    assert main(shlex.split(back)) == 0
    check_stands(run)


def test_they_stay_with_another_threshold_until_they_are_dropped(stopped, tmp_path, capsys):
    capsys.readouterr()
    assert main(["decide", str(stopped), "--threshold", "top:25%"]) == 0
    assert "the 2 decisions by Ann still hold; --overrides none drops them" in capsys.readouterr().err
    assert (summary(stopped)["threshold"], summary(stopped)["reviewer"]) == ("top:25%", "Ann")
    assert (decisions(stopped)["n1"], decisions(stopped)["n0"]) == ("removed", "kept")
    assert main(["decide", str(stopped), "--overrides", "none"]) == 0
    assert (summary(stopped)["threshold"], summary(stopped)["reviewer"]) == ("top:25%", "")
    said = capsys.readouterr().err
    assert "the filter decides alone again" in said
    back = said.partition("a person's decisions come back with: forgetfilter ")[2].splitlines()[0]
    # What is dropped stays dropped.
    assert main(["decide", str(stopped), "--threshold", "top:50%"]) == 0
    assert summary(stopped)["reviewer"] == ""
    assert main(shlex.split(back)) == 0
    assert summary(stopped)["reviewer"] == "Ann"
    # Another file takes the place of the first.
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"reviewer": "Bea", "decisions": {"n2": "removed"}}))
    assert main(["decide", str(stopped), "--overrides", str(other), "--threshold", "top:0%"]) == 0
    assert [name for name, decision in decisions(stopped).items() if decision == "removed"] == ["n2"]


def test_a_file_may_be_called_none(stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").write_text(json.dumps({"reviewer": "Bea", "decisions": {"n2": "removed"}}))
    assert main(["decide", str(stopped), "--overrides", "./none"]) == 0
    assert summary(stopped)["reviewer"] == "Bea"
    assert main(["decide", str(stopped), "--overrides", "none"]) == 0
    assert summary(stopped)["reviewer"] == ""


@pytest.mark.parametrize("damage", ["missing", "other keys"])
def test_where_the_last_decision_is_not_known_it_is_said_how_ones_own_come_back(stopped, capsys, damage):
    path = stopped / "summary.json"
    if damage == "missing":
        path.unlink()
    else:
        # As an earlier version may have written it, with no checksum.
        (stopped / "checksums.json").unlink()
        path.write_text(
            json.dumps({name: summary(stopped)[name] for name in ("threshold", "signal", "drop_unscorable")})
        )
    capsys.readouterr()
    assert main(["decide", str(stopped), "--threshold", "top:25%"]) == 0
    said = capsys.readouterr().err
    assert f"what was last decided is not known: {path}: lost, or damaged" in said
    assert summary(stopped)["reviewer"] == ""
    back = said.partition("a person's decisions come back with: forgetfilter ")[2].splitlines()[0]
    assert main(shlex.split(back)) == 0
    assert summary(stopped)["reviewer"] == "Ann"


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_a_persons_decisions_that_are_lost_are_not_decided_without_unless_one_says_so(
    stopped, command, tmp_path, capsys, lost
):
    kept = stopped / "overrides.json"
    kept.unlink() if lost == "gone" else kept.write_text("{}")
    before = (stopped / "kept.jsonl").read_bytes()
    for refused in (command, ["decide", str(stopped), "--threshold", "top:25%"]):
        capsys.readouterr()
        assert main(refused) == 2
        assert f"{kept}: " in capsys.readouterr().err
        assert (stopped / "kept.jsonl").read_bytes() == before
    assert main(["decide", str(stopped), "--overrides", str(tmp_path / "mine.json")]) == 0
    assert summary(stopped)["reviewer"] == "Ann"
    assert main(["decide", str(stopped), "--overrides", "none"]) == 0
    assert summary(stopped)["reviewer"] == ""
