"""A run folder is whole, or says what is not: one line, or the same result, whatever happens to its files."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from forgetfilter import FilterResult
from forgetfilter.errors import RunError
from forgetfilter.runs import files
from forgetfilter.runs.checksums import Checksum, differences, hash_part
from forgetfilter.runs.damage import damage_named
from forgetfilter.runs.files import folder_lock, seal, start_afresh, written_whole
from forgetfilter.runs.run import Run
from forgetfilter.settings.groups import Settings
from support.damage import (
    DAMAGES,
    complaint,
    copy_along,
    damaged,
    files_of,
    fresh,
    patch_commit,
    results_of,
    without_checksums,
)
from support.quick_runs import NOISY, QUICK, SAFE, run, write_jsonl

# Where a run is killed: the stage, and how often checksums had been noted there.
KILLED = {
    "learning": ("learned", 3),
    "scoring": ("learned-scores", 2),
    "reading": ("safe-states", 3),
    "final": ("model", 5),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory, model):
    """A folder with a finished run and killed ones, and the command of all of them, which are to lie at one place."""
    folder = tmp_path_factory.mktemp("damage")
    noisy = write_jsonl(folder / "noisy.jsonl", NOISY)
    safe = write_jsonl(folder / "safe.jsonl", [*SAFE, {"prompt": "no answer"}])
    place = folder / "run"
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(place), *QUICK]
    command += ["--skip-bad-rows", "--finetune", "--finetune-epochs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forgetfilter.models.training._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        patch.setattr("forgetfilter.models.scoring._ROWS_PER_SHARD", 7)
        patch.setattr("forgetfilter.models.activation_cache._ROWS_AT_ONCE", 2)
        killed = {folder / name: (f"{stage}.partial/checksums", count) for name, (stage, count) in KILLED.items()}
        with pytest.MonkeyPatch.context() as copying:
            copy_along(place, killed, copying)
            assert run(command) == 0
        assert all(copy.is_dir() for copy in killed)
        place.rename(folder / "finished")
        yield folder, place, command


def failures(work, state: str, capfd, kinds, chosen=slice(None), *, old: bool = False) -> list[str]:
    """What damage of a run leads to neither one line nor the same result."""
    folder, place, command = work
    source, expected = folder / state, results_of(folder / "finished")
    if old:
        source = without_checksums(source, folder / f"{state}-old")
    commands = [command, ["decide", str(place)]] if state == "finished" else [command]
    names = files_of(source)
    if state not in ("finished", "final"):
        names = [name for name in names if ".partial/" in name]
    bad = []
    for command in commands:
        for kind, name in damaged(source, place, names[chosen], kinds):
            said = complaint(command, capfd)
            if said is None and not old:
                found = results_of(place)
                # A run that was killed says in its report how long it took.
                differing = {each for each in expected if found.get(each) != expected[each]} - (
                    set() if state == "finished" else {"report.html"}
                )
                said = f"another {', '.join(sorted(differing))}" if differing else ""
            bad += [f"{kind} {name}: {command[0]}: {said}"] if said else []
    return bad


@pytest.mark.parametrize("state", ["finished", *KILLED])
@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damage_is_named_or_makes_no_difference(work, capfd, state, number):
    kind = list(DAMAGES)[number]
    # A part of the files here; all of them where there is time.
    chosen = slice(number, None, 2 * len(DAMAGES)) if state in ("finished", "final") else slice(None)
    assert failures(work, state, capfd, {kind: DAMAGES[kind]}, chosen) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("state", ["finished", *KILLED])
def test_whatever_is_damaged_is_named_or_makes_no_difference(work, capfd, state):
    assert failures(work, state, capfd, DAMAGES) == []


@pytest.mark.parametrize("kind", ["cut", "empty", "delete"])
def test_of_an_earlier_version_what_cannot_be_read_is_named(work, capfd, kind):
    # Without checksums other damage of the bytes cannot be told from what was written.
    assert failures(work, "finished", capfd, {kind: DAMAGES[kind]}, slice(1, None, 3), old=True) == []


def test_what_is_damaged_is_mended_as_the_message_says(work, capfd):
    folder, place, command = work
    expected = results_of(folder / "finished")
    for name in (
        "rows/data/rows.arrow",
        "tokens/data.arrow",
        "learned/adapter_model.safetensors",
        "forgetting/data.parquet",
    ):
        stage = place / "stages" / Path(name).parts[0]
        for damage in (DAMAGES["flip"], DAMAGES["delete"]):
            damage(fresh(folder / "finished", place) / "stages" / name)
            assert run(command) == 2
            said = capfd.readouterr().err
            assert f"forgetfilter: {place}/stages/{name}: " in said
            assert f"; delete {stage} and run the 'forgetfilter filter' command of this run again" in said
            shutil.rmtree(stage)
            assert run(command) == 0
            found = results_of(place)
            assert {each for each in expected if found[each] != expected[each]} <= {"report.html"}


def test_a_damaged_final_model_is_made_again_once_it_is_deleted(work, capfd):
    folder, place, command = work
    (fresh(folder / "finished", place) / "model" / "adapter_model.safetensors").unlink()
    assert run(command) == 2
    assert f"{place}/model/adapter_model.safetensors: missing; delete {place}/model and run" in capfd.readouterr().err
    shutil.rmtree(place / "model")
    assert run(command) == 0
    assert (place / "model" / "adapter_model.safetensors").is_file()


def test_a_damaged_manifest_is_named_and_may_be_overwritten(work, capfd):
    folder, place, command = work
    for damage in DAMAGES.values():
        damage(fresh(folder / "finished", place) / "manifest.json")
        assert run(command) == 2
        said = capfd.readouterr().err
        assert f"{place}/manifest.json: " in said
        assert said.endswith("; name another --output, or pass --overwrite to start again\n")
    assert run(command, "--overwrite") == 0
    assert results_of(place)["kept.jsonl"] == results_of(folder / "finished")["kept.jsonl"]


def test_a_decision_whose_settings_are_damaged_is_not_taken_for_another(work, capfd):
    folder, place, _ = work
    fresh(folder / "finished", place)
    assert run(["decide", str(place), "--threshold", "top:50%"]) == 0
    summary = place / "summary.json"
    summary.write_text(summary.read_text().replace("top:50%", "top:10%"))
    assert run(["decide", str(place)]) == 0
    said = capfd.readouterr().err
    assert f"what was last decided is not known: {summary}: changed since it was written" in said
    assert json.loads(summary.read_text())["threshold"] == "auto"


def test_python_names_what_is_damaged(work):
    folder, place, _ = work
    for name, read in (("scores.parquet", lambda r: r.scores), ("stages/rows/data/rows.arrow", lambda r: r.kept)):
        result = FilterResult(fresh(folder / "finished", place))
        DAMAGES["flip"](place / name)
        with pytest.raises(RunError, match="changed since it was written: its checksum differs"):
            read(result)


@pytest.mark.parametrize(
    ("how", "count"), [("delete", 8), ("delete", 64), ("rename", 24), ("rename", 96), ("replace", 4), ("replace", 40)]
)
def test_a_folder_that_goes_away_is_said_and_nothing_is_made_there(work, capfd, monkeypatch, how, count):
    _, place, command = work
    shutil.rmtree(place, ignore_errors=True)
    left, commit = count, files.commit

    def moving(partial: Path, final: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            if how == "delete":
                shutil.rmtree(place)
            else:
                shutil.rmtree(place.with_name("moved"), ignore_errors=True)
                place.rename(place.with_name("moved"))
            if how == "replace":
                place.mkdir()
        commit(partial, final)

    patch_commit(moving, monkeypatch)
    assert complaint(command, capfd) == ""
    assert list(place.iterdir()) == [] if how == "replace" else not place.exists()
    monkeypatch.undo()
    if how == "rename":
        place.with_name("moved").rename(place)
        assert run(command) == 0


def test_a_file_that_changes_while_it_is_read_is_refused(work, capfd, monkeypatch):
    folder, place, command = work
    shutil.rmtree(place, ignore_errors=True)
    noisy, before = folder / "noisy.jsonl", (folder / "noisy.jsonl").read_bytes()
    from forgetfilter.runs import inputs

    read = inputs.read_rows

    def appended(container, *rest):
        rows = read(container, *rest)
        if container.name == str(noisy):
            noisy.write_bytes(before + before.splitlines(keepends=True)[0].replace(b'"n0"', b'"new"'))
        return rows

    monkeypatch.setattr(inputs, "read_rows", appended)
    assert run(command) == 2
    assert f"{noisy}: changed while it was read; run the same command again" in capfd.readouterr().err
    monkeypatch.undo()
    assert run(command) == 0
    assert json.loads((place / "summary.json").read_text())["rows"] == len(NOISY) + 1
    noisy.write_bytes(before)


def test_a_file_that_is_deleted_before_it_is_read_is_said(work, capfd, monkeypatch):
    folder, place, command = work
    shutil.rmtree(place, ignore_errors=True)
    gone = folder / "noisy.jsonl"
    content = gone.read_bytes()
    from forgetfilter.stages import filter_run

    read = filter_run.read_parts
    monkeypatch.setattr(filter_run, "read_parts", lambda *rest: (gone.unlink(), read(*rest)))
    assert run(command) == 2
    assert f"{gone}: is not there any more" in capfd.readouterr().err
    gone.write_bytes(content)


def test_a_hash_is_of_the_bytes_between(tmp_path):
    content = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "part").write_bytes(content[5 : 2 << 20])
    assert hash_part(tmp_path / "whole", 5, 2 << 20) == Checksum.of(tmp_path / "part").hash
    assert Checksum.of(tmp_path / "whole").hash != Checksum.of(tmp_path / "part").hash


def test_a_sealed_folder_knows_each_of_its_files(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_text("abc")
    (tmp_path / "gone").write_text("")
    seal(tmp_path)
    assert list(differences(tmp_path, contents=True)) == []
    (tmp_path / "gone").unlink()
    (tmp_path / "deep" / "er" / "file").write_text("abd")
    (tmp_path / "new").write_text("nobody knows this one")
    assert list(differences(tmp_path, contents=False)) == [("gone", "missing")]
    assert dict(differences(tmp_path, contents=True)).keys() == {"gone", "deep/er/file"}


def test_what_is_written_into_an_unfinished_stage_is_noted_until_it_is_replaced(tmp_path):
    run = Run.start(tmp_path, Settings(), {})
    stage = run.partial("learned")
    (stage / "deep").mkdir()
    for content in ("first", "second"):
        with written_whole(stage / "deep" / "file") as beside:
            beside.write_text(content)
        run.partial("learned")
    (stage / "deep" / "file").write_text("secone")
    with pytest.raises(
        RunError, match=r"learned\.partial/deep/file: changed since .*; delete .*learned\.partial, which"
    ):
        run.partial("learned")
    start_afresh(stage)
    run.partial("learned")


def test_a_stage_that_was_killed_just_before_it_was_finished_may_be_written_anew(tmp_path):
    run = Run.start(tmp_path, Settings(), {})
    stage = run.partial("learned")
    (stage / "weights").write_text("first")
    seal(stage)
    (run.partial("learned") / "weights").write_text("half of the se")
    (run.partial("learned") / "weights").write_text("second")
    run.finish("learned")
    assert (Run.open(tmp_path).folder("learned") / "weights").read_text() == "second"


def test_only_a_folder_of_ours_keeps_checksums(tmp_path):
    for place in (tmp_path / "out.partial", tmp_path):
        place.mkdir(exist_ok=True)
        with written_whole(place / "file") as beside:
            beside.write_text("x")
        assert not (place / "checksums.json").exists()


@pytest.mark.parametrize("content", ["", "[", "[]", '{"a": 1}', '{"a": [1]}', '{"a": ["1", "2"]}', "\0", "[" * 99999])
def test_damaged_checksums_are_one_line(tmp_path, content):
    run = Run.start(tmp_path, Settings(), {})
    run.partial("rows")
    run.finish("rows")
    (run.path / "stages" / "rows" / "checksums.json").write_text(content)
    with pytest.raises(RunError, match=r"rows/checksums\.json: changed since it was written; delete it"):
        Run.open(tmp_path).folder("rows")


@pytest.mark.parametrize("suffix", [".json", ".arrow", ".parquet", ".safetensors", ".npy", ".npz"])
def test_each_kind_of_file_is_named_once_reading_it_failed(tmp_path, suffix):
    values = pa.table({"a": list(range(100))})
    whole, path = tmp_path / "stages" / "a" / f"whole{suffix}", tmp_path / "stages" / "b" / f"file{suffix}"
    for file in (whole, path):
        file.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".json":
            file.write_text('{"a": 1}')
        elif suffix == ".arrow":
            with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, values.schema) as writer:
                writer.write_table(values)
        elif suffix == ".parquet":
            pq.write_table(values, file)
        elif suffix == ".safetensors":
            save_file({"a": np.zeros(100)}, file)
        elif suffix == ".npy":
            np.save(file, np.zeros(100))
        else:
            np.savez(file, a=np.zeros(100))
    with pytest.raises(KeyError), damage_named(tmp_path):
        raise KeyError("our own fault")
    DAMAGES["cut"](path)
    with (
        pytest.raises(RunError, match=f"stages/b/file\\{suffix}: damaged: .*; delete .*stages/b and") as error,
        damage_named(tmp_path),
    ):
        raise KeyError("whatever")
    assert "\n" not in str(error.value)


def test_a_lock_that_is_held_knows_its_folder(tmp_path):
    with pytest.raises(RunError, match="deleted, renamed or replaced"), folder_lock(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "run"):
        raise ZeroDivisionError


def test_a_full_disk_is_not_taken_for_a_damaged_file(tmp_path):
    (tmp_path / "half.arrow").write_bytes(b"ARROW1")
    with pytest.raises(OSError, match="No space"), damage_named(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(RunError, match=r"half\.arrow: damaged"), damage_named(tmp_path):
        raise OSError("Expected to be able to read 16 bytes")
