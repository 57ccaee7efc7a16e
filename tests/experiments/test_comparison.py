"""Filters and strategies side by side, on a tiny model; and how cells become tables."""

import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.experiments.comparison.filters import measure_filter
from forgetfilter.experiments.comparison.records import Record, mean_estimate, over_seeds, read_records, write_records
from forgetfilter.experiments.comparison.tables import markdown
from forgetfilter.experiments.strategies.strategy import strategies
from forgetfilter.forgetting.estimates import Estimate
from forgetfilter.settings.experiments import STRATEGIES
from support.guards import EXCLAMATIONS, make_guard
from support.small_mixes import OPTIONS, make_mix

FILTERS = "likelihood,base-loss,random"


@pytest.fixture(scope="module")
def mixes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixes")
    return [make_mix(folder, f"harm-{seed}", "harmfulness", seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def compared(mixes, model, tmp_path_factory):
    """Everything compared on two draws."""
    out = tmp_path_factory.mktemp("compared") / "out"
    folders = [str(mix.folder) for mix in mixes]
    command = ["compare", *folders, "--model", str(model), "--output", str(out), "--filters", FILTERS, *OPTIONS]
    assert main(command) == 0
    return out, command


def test_a_comparison_measures_every_filter_and_strategy_on_every_draw(compared):
    records = read_records(compared[0] / "records.jsonl")
    filters = [*FILTERS.split(","), "(words, trained on the labels)"]
    for seed in (0, 1):
        here = [record for record in records if record.seed == seed]
        assert [r.name for r in here if r.table == "filters"] == filters
        assert [r.name for r in here if r.table == "strategies"] == list(STRATEGIES)
    # "Hit it" against "I won't": the words of this data give its labels away.
    words = [r for r in records if r.name == filters[-1]]
    assert all(r.measures["AUROC"].value > 0.9 for r in words)
    for record in records:
        assert {"F1", "task lost"} <= set(record.measures) or "harmfulness.refusals" in record.measures
    tables = (compared[0] / "tables.md").read_text()
    assert "### Filters: harmfulness, 50% unsafe, mean of 2 draws" in tables
    assert "| forgetfilter+self-correction |" in tables
    drawn = sorted(path.name.rsplit("-", 1)[0] for path in compared[0].glob("*.svg"))
    assert drawn == ["filters-harmfulness-0.5", "strategies-harmfulness-0.5"]


def test_what_is_told_of_a_filter_is_what_its_run_decided(compared, mixes):
    run = compared[0] / "harm-0" / "filter"
    table = pq.read_table(run / "scores.parquet").to_pydict()
    label = {row["id"]: row["label"] for row in map(json.loads, mixes[0].noisy.read_text().splitlines())}
    gone = {id for id, d in zip(table["id"], table["decision"], strict=True) if d == "removed"}
    unsafe = {id for id, name in label.items() if name == "unsafe"}
    record = next(r for r in read_records(compared[0] / "records.jsonl") if (r.name, r.seed) == ("likelihood", 0))
    assert record.measures["recall"].value == pytest.approx(len(gone & unsafe) / len(unsafe))
    assert record.measures["precision"].value == pytest.approx(len(gone & unsafe) / len(gone))


def test_rows_without_a_score_that_go_with_the_removed_ones_count_as_removed(mixes, model, tmp_path):
    out = tmp_path / "out"
    command = ["compare", str(mixes[0].folder), "--model", str(model), "--output", str(out), "--filters", "likelihood"]
    assert main([*command, "--strategies", "", *OPTIONS, "--max-length", "60", "--drop-unscorable"]) == 0
    run = out / "harm-0" / "filter"
    assert "unscorable" in pq.read_table(run / "scores.parquet").column("decision").to_pylist()
    rows, gone = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (mixes[0].noisy, run / "removed.jsonl")
    )
    lost, of = (sum(row["label"] == "task" for row in some) for some in (gone, rows))
    assert read_records(out / "records.jsonl")[0].measures["task lost"].value == pytest.approx(lost / of)


def test_strategies_share_sessions_and_the_final_model_has_the_kept_rows(compared):
    stages = {path.name for path in (compared[0] / "harm-0" / "lab" / "stages").iterdir()}
    states = {name for name in stages if name.startswith("base") and "!" not in name}
    # 24 rows, 3 steps a pass: learned once, then reviewed for 2 steps or for a pass over the 12 safe rows.
    assert {"base.noisy-3", "base.noisy-3.safe-2", "base.noisy+safe-5"} <= states
    assert sum("noisy-3" in name for name in states) == 2
    kept = (compared[0] / "harm-0" / "lab" / "stages" / "data-kept" / "rows" / "info.json").read_text()
    assert json.loads(kept)["count"] == len((compared[0] / "harm-0" / "filter" / "kept.jsonl").read_text().splitlines())


def test_a_comparison_goes_on_where_it_stopped(compared, tmp_path):
    out, command = compared
    again = tmp_path / "again"
    shutil.copytree(out, again)
    shutil.rmtree(again / "harm-1" / "lab" / "stages" / "base.noisy-3.safe-2")
    for answers in (again / "harm-1" / "lab" / "stages").glob("base.noisy-3.safe-2!asked*"):
        shutil.rmtree(answers)
    kept = (again / "harm-1" / "lab" / "stages" / "base.noisy-3" / "history.json").stat().st_mtime_ns
    command = [str(again) if part == str(out) else part for part in command]
    assert main(command) == 0
    assert (again / "harm-1" / "lab" / "stages" / "base.noisy-3" / "history.json").stat().st_mtime_ns == kept
    assert (again / "records.jsonl").read_bytes() == (out / "records.jsonl").read_bytes()


def test_another_learning_rate_is_refused(compared, capsys):
    assert main([*compared[1], "--learning-rate", "0.5"]) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_what_is_no_comparison_is_left_alone(compared, mixes, tmp_path, capsys):
    (tmp_path / "notes.md").write_text("mine")
    for place in (tmp_path, mixes[0].folder, mixes[0].folder.parent):
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        assert main([*compared[1], "--output", str(place)]) == 2
        assert "it is no comparison; name another folder" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_another_threshold_decides_again_but_what_was_trained_on_its_rows_stays(compared, tmp_path, capsys):
    out, command = compared
    again = tmp_path / "again"
    shutil.copytree(out, again)
    command = [str(again) if part == str(out) else part for part in command]
    assert main([*command, "--threshold", "top:50%", "--strategies", ""]) == 0
    kept = (again / "harm-0" / "filter" / "kept.jsonl").read_text().splitlines()
    assert len(kept) == 12
    capsys.readouterr()
    assert main([*command, "--threshold", "top:50%"]) == 2
    assert "kept.jsonl: its content is not what the sessions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"), [("--filters", "there is no filter 'nonsense'"), ("--strategies", "there is no strategy")]
)
def test_unknown_names_are_refused(compared, option, told, capsys):
    assert main([*compared[1], option, "nonsense"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "asked"),
    [
        ("--judge", ["--filters", "random"]),
        ("--judge", ["--filters", "judge", "--strategies", ""]),
        ("--toxicity-classifier", ["--filters", "toxicity", "--strategies", ""]),
    ],
)
def test_an_impossible_judge_or_classifier_is_told_before_any_work(mixes, model, tmp_path, option, asked, capsys):
    command = ["compare", str(mixes[0].folder), "--model", str(model), "--output", str(tmp_path / "out"), *OPTIONS]
    assert main([*command, "--align", *asked, option, "nosuch/thing"]) == 2
    assert "nosuch/thing: cannot load this model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_aligned_model_is_made_once_and_compared_with(mixes, model, tmp_path):
    command = ["compare", str(mixes[0].folder), "--model", str(model), "--output", str(tmp_path / "out")]
    assert main([*command, "--align", "--filters", "base-loss", "--strategies", "aligned", *OPTIONS]) == 0
    aligned = tmp_path / "out" / "harm-0" / "aligning" / "stages" / "aligned-base.safe-2"
    assert (aligned / "model.safetensors").is_file()
    config = (tmp_path / "out" / "harm-0" / "filter" / "config.yaml").read_text()
    assert str(aligned) in config


def test_self_correction_asks_with_a_request_and_trains_with_it_on_safe_rows_alone(compared, mixes):
    lab = compared[0] / "harm-0" / "lab" / "stages"
    (asked,) = (path.read_text() for path in lab.glob("base.noisy-requested-3!requested*/answers.jsonl"))
    assert asked.count("Decline what would do harm") == 3
    label = {row["id"]: row["label"] for row in map(json.loads, mixes[0].noisy.read_text().splitlines())}
    from forgetfilter.data.tokens import TokenTable

    table = TokenTable(lab / "data-noisy-requested" / "tokens.arrow")
    requested = {
        id for id, length, plain in zip(
            table.ids.to_pylist(),
            table.lengths,
            TokenTable(lab / "data-noisy" / "tokens.arrow").lengths,
            strict=True,
        ) if length > plain
    }  # fmt: skip
    assert requested == {id for id, name in label.items() if name == "safe"}


def test_every_strategy_that_the_options_name_is_there():
    assert tuple(strategies(1, 1)) == STRATEGIES
    assert strategies(1, 1, thought_through=True)["self-correction"].sessions[0].data[-1] == "thought-through"


def test_measures_of_a_filter_by_hand():
    unsafe = np.array([True, True, False, False, False])
    task = np.array([False, False, False, True, True])
    suspicion = np.array([3.0, 1.0, 2.0, 0.0, np.nan])
    removed = np.array([True, False, True, True, False])
    found = {name: e.value for name, e in measure_filter(suspicion, removed, unsafe, task).items()}
    assert found["AUROC"] == pytest.approx(5 / 6)
    assert found["precision"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(1 / 2)
    assert found["F1"] == pytest.approx(2 / 5)
    assert found["F1 of the top"] == pytest.approx(1 / 2)
    assert found["task lost"] == pytest.approx(1 / 2)


def test_sets_drawn_otherwise_are_not_averaged():
    records = [Record("filters", "bias", 0.5, recipe, seed, "x", {}) for recipe, seed in (("a", 0), ("a", 1), ("b", 0))]
    assert [(cell.recipe, cell.draws) for cell in over_seeds(records)] == [("a", 2), ("b", 1)]


def test_filters_of_two_kinds_are_refused_before_anything_is_trained(mixes, model, tmp_path, capsys):
    command = ["compare", str(mixes[0].folder), "--model", str(model), "--output", str(tmp_path / "out"), *OPTIONS]
    assert main([*command, "--filters", "likelihood,rouge"]) == 2
    assert "comparison each" in capsys.readouterr().err


def test_other_held_out_rows_are_asked_anew(compared, mixes, tmp_path):
    out, command = compared
    again, mix = tmp_path / "again", tmp_path / "harm-0"
    shutil.copytree(out, again)
    shutil.copytree(mixes[0].folder, mix)
    rows = (mix / "held-out.jsonl").read_text().splitlines(keepends=True)
    (mix / "held-out.jsonl").write_text("".join(rows[:-1]))
    command = [str(again) if part == str(out) else part for part in [command[0], str(mix), *command[3:]]]
    assert main(command) == 0
    answers = list((again / "harm-0" / "lab" / "stages").glob("base!asked*"))
    assert len(answers) == 2


def test_ties_at_the_top_count_in_part():
    unsafe = np.array([True, False, False, True])
    everything = np.zeros(4)
    # Two are removed of four that look alike, of which two are unsafe: one of them on average.
    assert measure_filter(everything, everything > 0, unsafe, ~unsafe)["F1 of the top"].value == pytest.approx(0.5)


def test_a_mean_over_draws_has_the_wider_of_two_intervals():
    close = mean_estimate([Estimate(0.5, 0.3, 0.7), Estimate(0.5, 0.3, 0.7)])
    assert (close.value, close.high - close.low) == pytest.approx((0.5, 0.4 / math.sqrt(2)))
    apart = mean_estimate([Estimate(0.0, 0.0, 0.0), Estimate(1.0, 1.0, 1.0)])
    # Two draws: Student's t with one degree of freedom, 12.7 standard errors of .5.
    assert apart.high - apart.value == pytest.approx(12.706 * 0.5, abs=1e-3)
    assert mean_estimate([Estimate(0.5, 0.3, 0.7), Estimate(math.nan, math.nan, math.nan)]).value == 0.5


def test_records_survive_a_file_and_hostile_names_a_table(tmp_path):
    record = Record("filters", "bias", 0.5, "r", 3, "a|b<script>", {"F|1": Estimate(math.nan, math.nan, math.nan)})
    write_records([record], tmp_path / "r.jsonl")
    (again,) = read_records(tmp_path / "r.jsonl")
    assert math.isnan(again.measures["F|1"].value)
    table = markdown(over_seeds([again]))
    assert "a\\|b&lt;script>" in table
    assert "F\\|1" in table
    assert "| – |" in table


def test_a_guard_model_is_compared_as_other_filters_are(mixes, model, tmp_path):
    guard, out = str(make_guard(EXCLAMATIONS, tmp_path)), tmp_path / "out"
    command = ["compare", str(mixes[0].folder), "--model", str(model), "--output", str(out), *OPTIONS]
    assert main([*command, "--filters", "guard,random", "--guard", guard, "--strategies", ""]) == 0
    named = {record.name: record for record in read_records(out / "records.jsonl")}
    assert {"guard", "random"} <= set(named)
    assert 0 <= named["guard"].measures["AUROC"].value <= 1
