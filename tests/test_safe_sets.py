"""Several safe sets: each reviewed by itself, all from the same learned model."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from forgetfilter import ForgetFilter, pipeline
from forgetfilter.cli import main
from forgetfilter.errors import SettingsError
from forgetfilter.forgetting.measuring import columns_of
from forgetfilter.forgetting.signals import SIGNALS
from forgetfilter.report.figure import write_figures
from forgetfilter.report.review_curve import read_curve
from forgetfilter.runs.run import Run
from support.quick_runs import NOISY, SAFE, reviewing, write_jsonl

COURTEOUS = [{"id": f"c{i}", "prompt": f"What of {i}?", "completion": f"Thank you for {i}."} for i in range(8)]
SHORT = {"device": "cpu", "dtype": "float32", "epochs": 1, "review_steps": 2, "batch_size": 4}
ONE_SET = {"rows", "tokens", "learned", "learned-scores", "reviewed", "reviewed-scores", "forgetting", "examples"}
MORE = {"reviewed-2", "reviewed-2-scores", "reviewed-forgetting", "reviewed-2-forgetting"}


@pytest.fixture
def courteous(tmp_path):
    return write_jsonl(tmp_path / "courteous.jsonl", COURTEOUS)


@pytest.fixture
def two(command, safe, courteous):
    return [*reviewing(command, safe, courteous), "--set-aside", "0.5"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def elsewhere(command, folder):
    return [*command, "--output", str(folder)]


def scores(folder):
    return pq.read_table(folder / "scores.parquet").to_pydict()


def stages(folder):
    return {stage.name for stage in (folder / "stages").iterdir()}


def forgotten(folder, stage, signal, part="data"):
    """What a stage has of a signal's forgetting of each row."""
    columns = columns_of(SIGNALS[signal])[:2]
    learned, reviewed = pq.read_table(folder / "stages" / stage / f"{part}.parquet", columns=list(columns)).columns
    return np.subtract(learned.to_numpy(), reviewed.to_numpy())


def ids(folder, part):
    return set(pq.read_table(folder / "stages" / "forgetting" / f"{part}.parquet").column("id").to_pylist())


def test_each_set_has_a_review_of_its_own(two, out):
    assert main(two) == 0
    assert stages(out) == ONE_SET | MORE
    states = ("learned", "reviewed", "reviewed-2")
    adapters = {(out / "stages" / state / "adapter_model.safetensors").read_bytes() for state in states}
    assert len(adapters) == 3


def test_a_review_is_the_same_beside_others(command, safe, courteous, out, tmp_path):
    assert main(reviewing(command, safe, courteous)) == 0
    for state, one in (("reviewed", safe), ("reviewed-2", courteous)):
        alone = tmp_path / state
        assert main(elsewhere(reviewing(command, one), alone)) == 0
        of_one = forgotten(alone, "forgetting", "likelihood")
        of_two = forgotten(out, f"{state}-forgetting", "likelihood")
        assert np.allclose(of_two, of_one, atol=1e-5)
        assert np.ptp(of_one) > 1e-4


def test_forgetting_is_the_mean_over_the_reviews(two, out):
    signal = "likelihood-mean"
    assert main(two) == 0
    each = [forgotten(out, stage, signal) for stage in ("reviewed-forgetting", "reviewed-2-forgetting")]
    assert not np.allclose(*each, atol=1e-4)
    assert np.allclose(forgotten(out, "forgetting", signal), np.mean(each, axis=0), atol=1e-6)
    assert main(["decide", str(out), "--signal", signal]) == 0
    assert np.allclose(scores(out)["forgetting"], np.mean(each, axis=0), atol=1e-6)


def test_answers_are_compared_after_each_review(two, out):
    assert main([*two, "--signal", "rouge"]) == 0
    each = [forgotten(out, stage, "rouge") for stage in ("reviewed-forgetting", "reviewed-2-forgetting")]
    assert np.allclose(scores(out)["forgetting"], np.mean(each, axis=0))


def test_in_suspicion_each_review_is_a_witness(two, out):
    assert main([*two, "--signal", "suspicion", "--threshold", "top:25%"]) == 0
    found = scores(out)
    parts = [name for name in found if name.startswith("by_")]
    assert parts == ["by_words", "by_states", "by_prototypes", "by_forgetting", "by_forgetting-2"]
    assert np.allclose(np.sum([found[name] for name in parts], axis=0), found["suspicion"])


def test_estimates_are_apart(two, safe, courteous, out, noisy, capsys):
    # As many rows that each set may have rows set aside.
    write_jsonl(noisy, [{**row, "id": f"{i}-{row['id']}"} for i in range(4) for row in NOISY])
    assert main([*two, "--threshold", "top:50%"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert {name: of["count"] for name, of in summary["by_safe_set"].items()} == {str(safe): 3, str(courteous): 4}
    cut = summary["cut"]
    for stage, part, name in (("forgetting", "set-aside", safe), ("forgetting", "set-aside-2", courteous)):
        of = summary["by_safe_set"][str(name)]
        assert of["removed"] == np.mean(forgotten(out, stage, "likelihood", part) > cut)
        assert 0 <= of["low"] <= of["removed"] <= of["high"] <= 1
    assert summary["trusted"] == 7
    shown = capsys.readouterr().out
    assert "of 3 from safe.jsonl, " in shown
    assert "of 4 from courteous.jsonl" in shown
    assert "by_safe_set" in (out / "report.html").read_text()


def test_a_row_is_covered_by_any_of_the_sets(command, noisy, tmp_path, out):
    rows = [{**row, "id": f"{i}-{row['id']}", "prompt": f"{row['prompt']} {i}"} for i in range(16) for row in NOISY]
    write_jsonl(noisy, rows)
    sets = [
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"May I do {i}?", "completion": said} for i in range(50)])
        for name, said in (("no", "No, please do not."), ("yes", "Thank you for this."))
    ]
    assert main([*reviewing(command, *sets), "--set-aside", "0.5"]) == 0
    covered = np.zeros(len(rows), dtype=bool)
    for state, aside in (("reviewed", "set-aside"), ("reviewed-2", "set-aside-2")):
        own, known = (forgotten(out, f"{state}-forgetting", "likelihood", part) for part in ("data", aside))
        assert len(known) == 24
        covered |= own <= np.quantile(known, 0.95)
    assert scores(out)["covered"] == covered.tolist()


def test_a_warning_names_its_set(two, safe, courteous, out, monkeypatch):
    monkeypatch.setattr("forgetfilter.decision.decide.safe_set_is_of_another_kind", lambda *_: "of another kind")
    assert main(two) == 0
    warnings = json.loads((out / "summary.json").read_text())["warnings"]
    assert warnings[-2:] == [f"{safe}: of another kind", f"{courteous}: of another kind"]


def test_the_order_of_the_sets_does_not_change_which_rows_are_learned(two, command, safe, courteous, out, tmp_path):
    assert main(two) == 0
    other = tmp_path / "other"
    assert main([*elsewhere(reviewing(command, courteous, safe), other), "--set-aside", "0.5"]) == 0
    assert ids(out, "set-aside") == ids(other, "set-aside-2")
    assert ids(out, "set-aside-2") == ids(other, "set-aside")
    one, two = (forgotten(folder, "forgetting", "likelihood") for folder in (out, other))
    assert np.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("where", ["reviewed", "reviewed-2"])
def test_a_run_that_ends_between_the_reviews_goes_on_to_the_same_bytes(two, out, tmp_path, monkeypatch, where):
    whole = tmp_path / "whole"
    assert main(elsewhere(two, whole)) == 0
    score = pipeline.score

    def killed(self, state):
        if state == where:
            raise KeyboardInterrupt
        score(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "score", killed)
        assert main(two) == 130
    assert (out / "stages" / where).is_dir()
    assert not (out / "stages" / "forgetting").exists()
    learned = (out / "stages" / "learned" / "history.json").stat().st_mtime_ns
    assert main(two) == 0
    assert (out / "stages" / "learned" / "history.json").stat().st_mtime_ns == learned
    for name in ("scores.parquet", "kept.jsonl", "removed.jsonl", "reasons.jsonl", "summary.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_the_models_own_answers_may_be_one_of_the_sets(command, safe, out, capsys):
    mixed = [*reviewing(command, safe, "self"), "--self-answers", "5", "--set-aside", "0.5"]
    assert main(mixed) == 0
    assert {"answers", "reviewed-2"} <= stages(out)
    assert len(ids(out, "set-aside")) == 1
    capsys.readouterr()
    assert main([*reviewing(command, safe), "--self-answers", "5", "--set-aside", "0.5"]) == 2
    assert "safe-2: its content" in capsys.readouterr().err
    assert main(mixed) == 0


def test_rows_of_the_package_and_rivals_go_with_several_sets(command, safe, out):
    unsafe = write_jsonl(safe.with_name("unsafe.jsonl"), NOISY[:3])
    more = ["--rivals", "neighbours,gradient", "--signal", "suspicion", "--known-unsafe", str(unsafe)]
    assert main([*reviewing(command, "builtin", safe), *more]) == 0
    found = scores(out)
    assert {"by_rival-neighbours", "by_rival-gradient", "by_forgetting-2"} <= set(found)
    rows = pq.read_table(out / "stages" / "witnesses" / "rows.parquet").column("part").to_pylist()
    assert {"safe", "safe-2"} <= set(rows)
    assert "builtin-safe" not in rows


def test_a_set_that_is_named_twice_is_refused(command, safe, out, capsys):
    for sets in ((safe, safe), ("self", "self"), (safe, f"{safe.parent}/../{safe.parent.name}/{safe.name}")):
        assert main(reviewing(command, *sets)) == 2
        assert f"safe: '{sets[1]}' is named twice" in capsys.readouterr().err
    assert not out.exists()


def test_another_set_is_another_run(two, command, safe, capsys):
    assert main(two) == 0
    assert main([*reviewing(command, safe), "--set-aside", "0.5"]) == 2
    assert "safe-2: its content is not what the run was made from" in capsys.readouterr().err


def test_bad_rows_of_a_set_are_told_apart(two, courteous, out):
    write_jsonl(courteous, [*COURTEOUS, {"prompt": "a"}])
    assert main([*two, "--skip-bad-rows"]) == 0
    assert (out / "bad-safe-2.jsonl").read_text() == '{"prompt": "a"}\n'


def test_one_set_is_stored_as_it_always_was(command, safe, out):
    assert main([*command, "--set-aside", "0.5"]) == 0
    assert stages(out) == ONE_SET
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["safe"] == str(safe)
    assert json.loads((out / "summary.json").read_text())["by_safe_set"] == {}
    # A run folder of before, whose summary knows of one set alone.
    summary = json.loads((out / "summary.json").read_text())
    del summary["by_safe_set"]
    (out / "summary.json").write_text(json.dumps(summary))
    before = (out / "scores.parquet").read_bytes()
    assert main([*command, "--set-aside", "0.5"]) == 0
    assert (out / "scores.parquet").read_bytes() == before


def test_a_configuration_file_names_several(command, safe, courteous, out, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"safe": [str(safe), str(courteous)]}))
    assert main([*reviewing(command), "--config", str(config)]) == 0
    assert Run.open(out).settings.safe.safe == (str(safe), str(courteous))
    assert main(["filter", "--config", str(out / "config.yaml"), "--output", str(tmp_path / "again")]) == 0
    assert scores(tmp_path / "again") == scores(out)


def test_report_and_figures_show_every_review(two, out):
    assert main([*two, "--review-steps", "3"]) == 0
    page = (out / "report.html").read_text()
    assert "Safety review" in page
    assert "Safety review-2" in page
    of_first = forgotten(out, "reviewed-forgetting", "likelihood-mean")
    assert np.allclose(read_curve(Run.open(out)).forgetting[:, -1], of_first)
    pytest.importorskip("matplotlib")
    assert (out / "figures" / "sessions.svg") in write_figures(out, out / "figures")


def test_python_takes_a_list(model, noisy, safe, tmp_path):
    filter = ForgetFilter(model=model, quiet=True, trusted="none", set_aside=0.0, **SHORT)
    named = filter.run(noisy, [safe, "builtin"], output=tmp_path / "named")
    assert Run.open(named.path).settings.safe.safe == (str(safe), "builtin")
    sets = [SAFE, str(write_jsonl(tmp_path / "courteous.jsonl", COURTEOUS))]
    mixed = filter.run(noisy, sets, output=tmp_path / "mixed")
    assert Run.open(mixed.path).settings.safe.safe == ("<safe in memory>", sets[1])
    assert "reviewed-2" in stages(mixed.path)
    both = filter.run(noisy, [SAFE, COURTEOUS], output=tmp_path / "both")
    assert Run.open(both.path).settings.safe.safe == ("<safe in memory>", "<safe-2 in memory>")
    again = filter.run(noisy, [SAFE, COURTEOUS], output=tmp_path / "both")
    assert again.scores[:] == both.scores[:]
    assert filter.run(noisy, SAFE, output=tmp_path / "rows").summary.rows == 12
    with pytest.raises(SettingsError, match="'self' is named twice"):
        filter.run(noisy, ["self", "self"], output=tmp_path / "twice")
