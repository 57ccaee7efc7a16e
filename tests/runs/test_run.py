"""Run folders: stages, changed settings, replacement."""

import pytest

from forgetfilter.errors import RunError
from forgetfilter.runs.run import Run, locked, replacing
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import settings_of

SETTINGS = settings_of(Settings, data=("d",), safe=("s",), model="m")
PRINTS = {"data": "1", "safe": "2", "model": "3"}


def start_training(run: Run) -> Run:
    (run.partial("learned") / "checkpoint.safetensors").write_text("x")
    return run


def test_a_stage_is_there_once_it_is_finished(tmp_path):
    run = Run.start(tmp_path / "run", SETTINGS, PRINTS)
    (run.partial("rows") / "file").write_text("x")
    assert not run.has("rows")
    run.finish("rows")
    assert (Run.open(tmp_path / "run").folder("rows") / "file").read_text() == "x"


@pytest.mark.parametrize("manifest", ["{}", "[]", "x", "[" * 99999, "\0", '{"fingerprints": [], "settings": {}}'])
def test_a_folder_with_somebody_elses_manifest_is_no_run(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "precious").write_text("x")
    with pytest.raises(RunError, match="it is not a run"), locked(tmp_path), replacing(tmp_path):
        pass
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"manifest.json", "precious"}


def test_the_same_run_goes_on(tmp_path):
    Run.start(tmp_path, SETTINGS, PRINTS)
    assert Run.start(tmp_path, SETTINGS, PRINTS).settings == SETTINGS


@pytest.mark.parametrize(
    ("changed", "prints", "said"),
    [
        ({"epochs": 9.0}, PRINTS, "epochs: was 5.0, is now 9.0"),
        ({}, PRINTS | {"safe": "x"}, "safe: its content"),
        ({"threshold": "0.5"}, PRINTS, "forgetfilter decide"),
    ],
)
def test_a_changed_run_is_refused_and_says_why(tmp_path, changed, prints, said):
    start_training(Run.start(tmp_path, settings_of(Settings, epochs=5.0), PRINTS))
    with pytest.raises(RunError) as error:
        Run.start(tmp_path, settings_of(Settings, **({"epochs": 5.0} | changed)), prints)
    assert said in str(error.value)


def test_the_place_of_the_same_content_may_change(tmp_path):
    Run.start(tmp_path, SETTINGS, PRINTS)
    Run.start(tmp_path, settings_of(Settings, data=("elsewhere",), safe=("s",), model="m"), PRINTS)


def test_a_run_that_never_trained_may_start_anew(tmp_path):
    run = Run.start(tmp_path, SETTINGS, PRINTS)
    run.partial("rows")
    run.finish("rows")
    changed = Run.start(tmp_path, settings_of(Settings, skip_bad_rows=True), PRINTS)
    assert changed.settings.data.skip_bad_rows
    assert not changed.has("rows")


def test_another_version_is_refused(tmp_path, monkeypatch):
    start_training(Run.start(tmp_path, SETTINGS, PRINTS))
    monkeypatch.setattr("forgetfilter.runs.manifest.__version__", "99")
    with pytest.raises(RunError, match="is now 99"):
        Run.start(tmp_path, SETTINGS, PRINTS)


def test_what_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not a run"), locked(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="another forgetfilter process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="not a run"), locked(tmp_path / "file"):
        pass


def test_a_failed_successor_brings_the_old_run_back(tmp_path):
    run = Run.start(tmp_path, SETTINGS, PRINTS)
    (run.partial("rows") / "file").write_text("old")
    run.finish("rows")
    with pytest.raises(KeyError), replacing(tmp_path):
        assert not (tmp_path / "manifest.json").exists()
        Run.start(tmp_path, settings_of(Settings, epochs=1.0), PRINTS)
        raise KeyError
    assert Run.open(tmp_path).settings == SETTINGS
    assert (run.folder("rows") / "file").read_text() == "old"


def test_a_successor_replaces_the_old_run(tmp_path):
    run = Run.start(tmp_path, SETTINGS, PRINTS)
    run.partial("rows")
    run.finish("rows")
    with replacing(tmp_path):
        Run.start(tmp_path, settings_of(Settings, epochs=1.0), PRINTS)
    assert not Run.open(tmp_path).has("rows")
    assert {file.name for file in tmp_path.iterdir()} == {"manifest.json", "config.yaml", "checksums.json"}


def test_what_an_attempt_that_was_killed_set_aside_does_not_come_back(tmp_path):
    start_training(Run.start(tmp_path, SETTINGS, PRINTS))
    killed = replacing(tmp_path)
    killed.__enter__()
    start_training(Run.start(tmp_path, settings_of(Settings, epochs=2.0), PRINTS))
    with pytest.raises(KeyError), replacing(tmp_path):
        raise KeyError
    assert Run.open(tmp_path).settings.sessions.epochs == 2.0


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    run = Run.start(tmp_path, SETTINGS, PRINTS)
    run.write_file("kept.jsonl", lambda path: path.write_text("old"))

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.write_file("kept.jsonl", fail)
    assert (tmp_path / "kept.jsonl").read_text() == "old"


def test_what_an_earlier_version_left_half_written_in_a_stage_goes(tmp_path):
    run = Run.start(tmp_path, SETTINGS, PRINTS)
    (run.partial("learned") / "checkpoint.partial").write_text("half")
    (run.partial("learned") / "checkpoint.safetensors").write_text("whole")
    run.finish("learned")
    files = {file.name for file in run.folder("learned").iterdir()}
    assert files == {"checkpoint.safetensors", "checksums.json"}
