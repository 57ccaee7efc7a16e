"""Run folders of an earlier version, made by `old_runs/make.py`, are decided, gone on with and refused as ever."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from forgetfilter import FilterResult
from forgetfilter.cli import main
from old_runs.make import EXPECTED, KILLED, REPORT, STEPS, decided, filter_command, unpack


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Where runs and all that they were made from lie now; the runs name places of the machine that made them."""
    unpack(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def expected() -> dict:
    """What the version that made the runs decided, by run and step."""
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


def stage_files(run: Path) -> dict[str, tuple[int, bytes]]:
    """What all that took long left in a run, the final model among it, and when that was written."""
    files = [path for folder in ("stages", "model") for path in (run / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def stages(files: dict) -> set[str]:
    return {Path(name).parts[1] for name in files}


def check(run: Path, expected: dict) -> None:
    """See that a run is decided as the version that made it decided, on whatever machine this is."""
    found = decided(run)
    for name in ("columns", "decisions", "kept", "removed", "summary"):
        assert found[name] == expected[name], name
    suspicion, cut = expected["suspicion"], expected["cut"]
    # Where nothing is removed there is no cut.
    assert (found["cut"] is None) == (cut is None)
    assert [found["cut"] or 0, *found["suspicion"]] == pytest.approx([cut or 0, *suspicion], rel=1e-3, abs=1e-3)
    assert (run / REPORT).is_file()


@pytest.mark.parametrize("name", STEPS)
def test_a_run_is_decided_and_gone_on_with_as_before(place, expected, name):
    run, added = place / name, {"all evidence": {"witnesses"}}
    for step, command in STEPS[name].items():
        before = stage_files(run)
        assert main(command) == 0, step
        check(run, expected[name][step])
        after = stage_files(run)
        if command[0] == "filter":
            # Nothing of what took long was done again, but for the final model, which is of what is decided now.
            kept = {path: of for path, of in before.items() if not path.startswith("model/")}
            assert {path: after[path] for path in kept} == kept, step
            assert stages(after) - stages(before) == added.get(step, set()), step


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_goes_on_to_the_same_end(place, expected, name):
    run, (stage, checkpoints) = place / name, KILLED[name]
    folder = run if stage == "model" else run / "stages"
    with safe_open(folder / f"{stage}.partial" / "checkpoint.safetensors", framework="numpy") as checkpoint:
        steps = json.loads(checkpoint.metadata()["history"])
    assert len(steps) == checkpoints
    before = {path: of for path, of in stage_files(run).items() if ".partial" not in path and "-states" not in path}
    assert main(filter_command(name)) == 0
    after = stage_files(run)
    assert {path: after[path] for path in before} == before
    # These steps were not done again: by the clock of who made the run each took days. The final model is of what is
    # decided now, by prototypes and rules that have changed since.
    if stage != "model":
        assert json.loads((folder / stage / "history.json").read_text(encoding="utf-8"))[:checkpoints] == steps
    assert stages(after) == stages(stage_files(place / "finished")) - {"known-later"}
    check(run, expected["finished"]["filter again"])
    # What its final model was trained on was decided by earlier weights, and by a person.
    for step in ("known-unsafe none", "alone", "filter again"):
        assert main(STEPS["finished"][step]) == 0
    for path in ("stages/learned", "stages/reviewed", "stages/reviewed-2", "model"):
        found, whole = (load_file(at / path / "adapter_model.safetensors") for at in (run, place / "finished"))
        assert found.keys() == whole.keys()
        assert all(np.allclose(found[key], whole[key], rtol=1e-3, atol=1e-4) for key in whole), path


def test_what_differs_is_refused_and_named(place, capsys):
    before = {name: stage_files(place / name) for name in ("finished", "killed-review")}
    for name in before:
        assert main([*filter_command(name), "--epochs", "4", "--seed", "1"]) == 2
        said = capsys.readouterr().err
        assert "this run was started differently. " in said
        assert "epochs: was 3.0, is now 4.0" in said
        assert "seed: was 0, is now 1" in said
        assert "Name another --output, or pass --overwrite to start again" in said
        # A person decided about rows of the one run, and starting again would drop that.
        taken = f"forgetfilter decide OTHER --overrides {place / name / 'overrides.json'}"
        assert (taken in said) == (name == "finished")
    with (place / "data.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            '{"id": "new", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
        )
    assert main(filter_command("finished")) == 2
    assert "data: its content is not what the run was made from" in capsys.readouterr().err
    assert main([*filter_command("likelihood"), "--threshold", "top:10%", "--safe", "courteous.jsonl"]) == 2
    assert "safe-2: its content is not what the run was made from" in capsys.readouterr().err
    assert {name: stage_files(place / name) for name in before} == before


def test_another_threshold_is_for_decide(place, expected, capsys):
    assert main([*filter_command("likelihood"), "--threshold", "top:20%"]) == 2
    said = capsys.readouterr().err
    assert "threshold: was 'auto', is now 'top:20%'" in said
    assert said.strip().endswith(f"forgetfilter decide {place / 'likelihood'} --threshold top:20%")
    assert main(["decide", "likelihood", "--threshold", "top:20%"]) == 0
    check(place / "likelihood", expected["likelihood"]["threshold"])


def test_a_run_whose_model_moved_says_so_until_filter_is_told_where_it_is(place, expected, capsys):
    known = ["decide", "finished", "--known-unsafe", "known.jsonl"]
    assert main(known) == 2
    assert "there is no such model file or folder" in capsys.readouterr().err
    assert main(["decide", "finished", "--known-unsafe", "none", "--overrides", "none"]) == 0
    assert main(filter_command("finished")) == 0
    assert main(known) == 0
    check(place / "finished", expected["finished"]["known-unsafe"])


def test_python_reads_and_decides_an_old_run(place, expected):
    # A decision needs nothing of what the run was made from.
    for path in ("data.jsonl", "safe.jsonl", "courteous.jsonl", "model"):
        shutil.rmtree(place / path) if (place / path).is_dir() else (place / path).unlink()
    result = FilterResult(place / "finished")
    as_it_is, decided_again = expected["finished"]["as it is"], expected["finished"]["threshold"]
    assert result.kept["id"] == as_it_is["kept"]
    assert result.removed["id"] == as_it_is["removed"]
    assert result.scores.column_names == as_it_is["columns"]
    assert result.summary.reviewer == "Ann"
    assert result.decide("top:20%").removed["id"] == decided_again["removed"]


def test_figures_are_drawn_of_an_old_run(place):
    pytest.importorskip("matplotlib")
    assert main(["figure", "finished"]) == 0
    assert any((place / "finished" / "figures").glob("*.svg"))
