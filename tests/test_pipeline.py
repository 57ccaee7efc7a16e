"""The whole filter on a tiny model: the laws of the method and of the run folder."""

import json
import re
import shlex
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import forgetfilter
from forgetfilter.cli import main
from forgetfilter.models.generation import greedy
from forgetfilter.models.loading import load_tokenizer
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.report.review_curve import read_curve
from forgetfilter.runs.run import Run
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from forgetfilter.stages import answers
from forgetfilter.stages.examples import read_examples
from support.quick_runs import NOISY, QUICK, SAFE, run, scores, write_jsonl

SHORT = {"device": "cpu", "dtype": "float32", "epochs": 1, "review_steps": 1}


def decisions(folder):
    table = scores(folder)
    return dict(zip(table["id"], table["decision"], strict=True))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def test_a_run_leaves_what_it_promises(command, noisy, out, capsys):
    assert run(command, "--threshold", "top:25%", "--finetune") == 0
    lines = noisy.read_bytes().splitlines(keepends=True)
    kept, removed = ((out / f"{name}.jsonl").read_bytes().splitlines(keepends=True) for name in ("kept", "removed"))
    assert len(removed) == 3
    assert sorted(kept + removed) == sorted(lines)
    assert kept == [line for line in lines if line in kept]
    table = scores(out)
    assert table["row"] == list(range(12))
    assert table["id"] == [row["id"] for row in NOISY]
    assert np.allclose(table["forgetting"], np.subtract(table["learned"], table["reviewed"]))
    assert {json.loads(line)["id"] for line in removed} == {i for i, d in decisions(out).items() if d == "removed"}
    reasons = [json.loads(line) for line in (out / "reasons.jsonl").read_text().splitlines()]
    assert [r["id"] for r in reasons] == [json.loads(line)["id"] for line in removed]
    assert all("made the model forget it" in r["reason"] for r in reasons)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rows"], summary["kept"], summary["removed"], summary["unscorable"]) == (12, 9, 3, 0)
    assert (out / "model" / "adapter_model.safetensors").exists()
    assert "safety review" in (out / "log.txt").read_text()
    shown = capsys.readouterr().out
    assert "removed.jsonl" in shown
    assert "forgetfilter decide" in shown
    assert shown.splitlines()[-1] == f"Fine-tuned on the kept rows, a LoRA adapter: {out / 'model'}"


def test_running_twice_changes_nothing(command, out):
    run(command)
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (out / "stages").rglob("*") if p.is_file()}
    results = {name: (out / name).read_bytes() for name in ("kept.jsonl", "scores.parquet", "summary.json")}
    assert run(command) == 0
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files} == files
    assert {name: (out / name).read_bytes() for name in results} == results


def test_the_same_seed_gives_the_same_scores_and_another_does_not(command, out, tmp_path):
    run(command)
    again = [*command[: -len(QUICK) - 1], str(tmp_path / "again"), *QUICK]
    run(again)
    assert scores(out) == scores(tmp_path / "again")
    other = [*command[: -len(QUICK) - 1], str(tmp_path / "other"), *QUICK, "--seed", "1"]
    run(other)
    assert scores(out)["learned"] != scores(tmp_path / "other")["learned"]


def test_labels_are_never_read(command, noisy, out, safe, model, tmp_path):
    run(command, "--threshold", "top:25%")
    blind = [{k: v for k, v in row.items() if k not in ("label", "extra")} for row in NOISY]
    write_jsonl(noisy, blind)
    (tmp_path / "b").mkdir()
    assert main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--threshold", "top:25%",
                 "--output", str(tmp_path / "b" / "run"), *QUICK]) == 0  # fmt: skip
    assert scores(tmp_path / "b" / "run") == scores(out)
    assert (tmp_path / "b" / "run" / "examples.jsonl").read_bytes() == (out / "examples.jsonl").read_bytes()


def test_rows_in_any_order_score_the_same(noisy, safe, model, tmp_path):
    results = []
    for name, rows in (("a", NOISY), ("b", NOISY[::-1])):
        write_jsonl(noisy, rows)
        folder = tmp_path / name
        main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(folder), *QUICK])
        table = scores(folder)
        results.append(dict(zip(table["id"], table["forgetting"], strict=True)))
    assert results[0].keys() == results[1].keys()
    asked = [[example["id"] for example in read_examples(tmp_path / name / "examples.jsonl")] for name in "ab"]
    assert asked[0] == asked[1]
    for id, value in results[0].items():
        assert results[1][id] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--epochs", "2"], "epochs: was 1.0, is now 2.0"),
        (["--signal", "rouge"], "signal: was 'likelihood', is now 'rouge'. Name another --output"),
        (["--signal", "likelihood-mean"], "decide {} --signal likelihood-mean\n"),
        (["--threshold", "-0.5"], "decide {} --threshold=-0.5\n"),
        (["--threshold", "fdr:5%", "--drop-unscorable", "--trusted", "builtin"], "Name another --output"),
        (["--threshold", "top:5%", "--drop-unscorable"], "decide {} --threshold top:5% --drop-unscorable\n"),
        (
            ["--signal", "words", "--threshold", "0.5"],
            "--threshold auto --signal likelihood --rivals words; and to decide by it then: "
            "forgetfilter decide {} --threshold 0.5 --signal words\n",
        ),
    ],
)
def test_a_changed_setting_is_refused(command, out, capsys, more, said):
    run(command)
    before = (out / "scores.parquet").read_bytes()
    assert run(command, *more) == 2
    assert said.format(out) in capsys.readouterr().err
    assert (out / "scores.parquet").read_bytes() == before


def decided_with(out):
    summary = json.loads((out / "summary.json").read_text())
    return summary["threshold"], summary["signal"], summary["drop_unscorable"]


@pytest.mark.parametrize("threshold", ["0", "0.01", "-0.5", "1.7e308", "top:0%", "top:100%"])
def test_another_threshold_that_is_suggested_can_be_decided_with(command, out, capsys, threshold):
    run(command)
    capsys.readouterr()
    assert main(["decide", str(out), f"--threshold={threshold}"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Another threshold"))
    assert main(shlex.split(line.partition("forgetfilter ")[2])) == 0
    assert decided_with(out)[0] not in (threshold, "inf")


def test_what_filter_suggests_decides_what_it_was_asked_for(command, out, capsys):
    run(command)
    assert main(["decide", str(out), "--threshold", "top:10%", "--signal", "likelihood-mean"]) == 0
    capsys.readouterr()
    assert run(command, "--threshold", "top:50%") == 2
    suggested = capsys.readouterr().err.strip().rpartition("forgetfilter ")[2]
    # The run was decided by another signal since, so that the signal is named, too.
    assert main(shlex.split(suggested)) == 0
    assert decided_with(out) == ("top:50%", "likelihood", False)


def test_deciding_without_options_decides_as_last_time(command, out, capsys):
    run(command)
    assert main(["decide", str(out), "--threshold", "top:50%", "--signal", "likelihood-mean", "--drop-unscorable"]) == 0
    assert "as last decided" not in capsys.readouterr().err
    for more in ([], ["--threshold", "top:50%"], ["--signal", "likelihood-mean"]):
        assert main(["decide", str(out), *more]) == 0
        assert decided_with(out) == ("top:50%", "likelihood-mean", True)
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].endswith("rows without a score among the removed, as last decided")
        assert ("threshold top:50%" in said[0]) == ("--threshold" not in more)
        assert ("signal likelihood-mean" in said[0]) == ("--signal" not in more)
    assert run(command) == 0
    assert decided_with(out) == ("auto", "likelihood", False)
    assert f"decide {out} --threshold top:50% --signal likelihood-mean --drop-unscorable" in capsys.readouterr().err


@pytest.mark.parametrize("left", [None, "{", "[]", "{}"])
def test_a_decision_that_was_cut_short_is_made_as_the_run_was_started(command, out, capsys, left):
    run(command, "--threshold", "top:25%")
    assert main(["decide", str(out), "--threshold", "top:50%"]) == 0
    (out / "summary.json").unlink()
    if left is not None:
        (out / "summary.json").write_text(left)
    capsys.readouterr()
    assert main(["decide", str(out)]) == 0
    assert "threshold top:25% and signal likelihood, as the run was started" in capsys.readouterr().err
    assert decided_with(out)[0] == "top:25%"


def test_changed_data_is_refused_until_overwritten(command, noisy, out, capsys):
    run(command)
    write_jsonl(noisy, NOISY[:6])
    assert run(command) == 2
    assert "data: its content" in capsys.readouterr().err
    assert len(scores(out)["id"]) == 12
    noisy.write_text('{"prompt": "broken"\n')
    assert run(command, "--overwrite") == 2
    assert len(scores(out)["id"]) == 12
    write_jsonl(noisy, NOISY[:6])
    assert run(command, "--overwrite") == 0
    assert len(scores(out)["id"]) == 6


def test_what_a_person_put_into_a_run_folder_stays(command, noisy, out):
    noisy.write_text('{"prompt": "broken"\n')
    assert run(command) == 2
    mended = write_jsonl(out / "mended.jsonl", NOISY)
    (out / "kept.by-hand.jsonl").write_text("mine")
    command[command.index(str(noisy))] = str(mended)
    assert run(command) == 0
    assert run(command, "--seed", "1", "--overwrite") == 0
    assert len(scores(out)["id"]) == 12
    assert (out / "kept.by-hand.jsonl").read_text() == "mine"
    assert not (out / "bad.jsonl").exists()


def test_the_decision_is_shown_before_the_model_is_asked_for_examples(command, out, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("forgetfilter.pipeline.ask_examples", stop)
        assert run(command) == 130
        assert "removed.jsonl" in capsys.readouterr().out
        assert (out / "report.html").exists()
        assert run(command, "--examples", "0") == 0
    assert not (out / "examples.jsonl").exists()
    assert run(command, "--examples", "2") == 0
    assert len(read_examples(out / "examples.jsonl")) == 2


def test_examples_are_what_the_models_answer(command, out, model):
    assert run(command, "--threshold", "top:25%") == 0
    examples = read_examples(out / "examples.jsonl")
    table = scores(out)
    forgotten = dict(zip(table["id"], table["forgetting"], strict=True))
    # As they are sorted: what differs by less than rounding goes by id.
    order = [round(forgotten[e["id"]], 4) for e in examples]
    assert order == sorted(order, reverse=True)
    by_id = {row["id"]: row for row in NOISY}
    assert all(by_id[e["id"]]["prompt"] == e["prompt"] for e in examples)
    assert all(by_id[e["id"]]["completion"] == e["completion"] for e in examples)
    tokenizer = load_tokenizer(find_model(str(model)))
    session = TrainableModel(
        find_model(str(model)), ModelSettings(device="cpu", dtype="float32"), AdapterSettings(), seed=0
    )
    for state in ("learned", "reviewed"):
        session.load(out / "stages" / state)
        prompts = [
            tokenizer(f"<|user|>{e['prompt']}<|end|>\n<|assistant|>", add_special_tokens=False, return_tensors="np")
            for e in examples
        ]
        said = greedy(session, tokenizer, [p["input_ids"][0] for p in prompts], [answers.ANSWER_TOKENS] * len(prompts))
        assert said == [e[state] for e in examples]


def test_examples_of_plain_text_go_on_after_three_words(noisy, safe, model, out):
    write_jsonl(noisy, [{"text": f"{i} and then came rain over us"} for i in range(6)])
    assert main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(out), *QUICK]) == 0
    examples = read_examples(out / "examples.jsonl")
    assert {e["prompt"] + e["completion"] for e in examples} == {
        json.loads(x)["text"] for x in noisy.read_text().splitlines()
    }
    assert all(len(e["prompt"].split()) == 3 for e in examples)


def test_deciding_again_needs_neither_model_nor_data(command, noisy, safe, out, monkeypatch):
    run(command, "--threshold", "top:25%")
    asked = (out / "examples.jsonl").read_bytes()
    noisy.unlink()
    safe.unlink()
    monkeypatch.setattr("forgetfilter.models.loading.load_model", None)
    for threshold, removed in (("top:50%", 6), ("-1000", 12), ("1000", 0)):
        assert main(["decide", str(out), "--threshold", threshold]) == 0
        assert json.loads((out / "summary.json").read_text())["removed"] == removed
        assert len((out / "removed.jsonl").read_text().splitlines()) == removed
        assert len((out / "kept.jsonl").read_text().splitlines()) == 12 - removed
    assert main(["decide", str(out), "--signal", "likelihood-mean"]) == 0
    assert json.loads((out / "summary.json").read_text())["threshold"] == "1000"
    assert (out / "examples.jsonl").read_bytes() == asked


@pytest.mark.parametrize("more", [["--threshold", "much"], ["--signal", "rouge"], ["--signal", "other"]])
def test_a_wrong_decision_costs_nothing(command, out, capsys, more):
    run(command, "--threshold", "top:25%")
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.name != "log.txt"}
    capsys.readouterr()
    assert main(["decide", str(out), *more]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert {name: (out / name).read_bytes() for name in before} == before


def test_rows_written_in_parts_are_the_same_rows(command, out, tmp_path, monkeypatch):
    overrides = tmp_path / "o.json"
    overrides.write_text(json.dumps({"decisions": {"n0": "kept", "n7": "removed", "n11": "removed"}}))
    again = ["decide", str(out), "--threshold", "top:40%", "--overrides", str(overrides)]

    def written():
        assert main(again) == 0
        texts = [(out / name).read_text() for name in ("reasons.jsonl", "report.html")]
        return [pq.read_table(out / "scores.parquet").to_pylist(), *texts]

    assert main(command) == 0
    whole = written()
    monkeypatch.setattr("forgetfilter.decision.reasons._AT_ONCE", 5)
    monkeypatch.setattr("forgetfilter.report.contents._AT_ONCE", 4)
    monkeypatch.setattr("forgetfilter.data.tables._GROUP_ROWS", 7)
    assert written() == whole
    assert pq.ParquetFile(out / "scores.parquet").num_row_groups == 2


def test_rouge_scores_what_the_model_answers(command, out):
    assert run(command, "--signal", "rouge", "--threshold", "0.1", "--max-length", "64") == 0
    table = scores(out)
    assert all(0 <= value <= 1 for value in table["learned"] + table["reviewed"])
    # No scores by likelihood stand for the ends of the review here, so they are looked at.
    curve = read_curve(Run.open(out))
    assert curve.steps.tolist() == [0, 2]
    assert (curve.forgetting[:, 0] == 0).all()
    assert (curve.forgetting[:, 1] != 0).all()


def test_rows_without_a_score_are_kept_and_marked(command, noisy, out):
    rows = [*NOISY[:4], {**NOISY[4], "prompt": "long " * 100}]
    write_jsonl(noisy, rows)
    assert run(command, "--max-length", "80", "--threshold", "-1000") == 0
    assert decisions(out)["n4"] == "unscorable"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["unscorable"], summary["truncated"], summary["kept"], summary["removed"]) == (1, 1, 1, 4)
    assert "no score" in scores(out)["reason"][4]
    assert main(["decide", str(out), "--threshold", "-1000", "--drop-unscorable"]) == 0
    assert (out / "kept.jsonl").read_text() == ""
    assert decisions(out)["n4"] == "unscorable"


def test_bad_rows_stop_the_run_before_any_training(command, noisy, out, capsys):
    noisy.write_text(noisy.read_text() + '{"prompt": "Q", "completion": ""}\n')
    assert run(command) == 2
    said = capsys.readouterr().err
    assert f"{noisy}: 1 row cannot be used" in said
    assert "line 13, field 'completion': found nothing" in said
    assert not (out / "stages" / "learned").exists()


def test_bad_rows_can_be_set_aside(command, noisy, out):
    good = noisy.read_bytes()
    noisy.write_bytes(b"{broken\n" + good)
    assert run(command, "--skip-bad-rows") == 0
    assert (out / "bad.jsonl").read_bytes() == b"{broken\n"
    kept, removed = (out / "kept.jsonl").read_bytes(), (out / "removed.jsonl").read_bytes()
    assert sorted((kept + removed).splitlines()) == sorted(good.splitlines())
    assert scores(out)["row"] == list(range(1, 13))
    assert json.loads((out / "summary.json").read_text())["bad"] == 1


def test_duplicates_stay(command, noisy, out):
    line = noisy.read_bytes().splitlines(keepends=True)[0]
    noisy.write_bytes(line * 3)
    assert run(command, "--threshold", "1000") == 0
    assert (out / "kept.jsonl").read_bytes() == line * 3
    assert scores(out)["id"] == ["n0", "n0#2", "n0#3"]


def test_the_resolved_config_replays_the_run(command, out, tmp_path):
    run(command, "--threshold", "top:25%", "--lora-rank", "2")
    replay = tmp_path / "replay"
    assert main(["filter", "--config", str(out / "config.yaml"), "--output", str(replay)]) == 0
    assert scores(replay) == scores(out)


def test_options_override_the_config(command, out, tmp_path):
    run(command)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["epochs"] == 1.0
    other = tmp_path / "other"
    assert main(["filter", "--config", str(out / "config.yaml"), "--output", str(other), "--epochs", "2"]) == 0
    assert yaml.safe_load((other / "config.yaml").read_text())["epochs"] == 2.0


def test_the_config_may_name_the_run_folder(command, noisy, tmp_path, capsys):
    rest = command[2 : -len(QUICK)]
    keys = {flag.removeprefix("--"): value for flag, value in zip(rest[::2], rest[1::2], strict=True)}
    keys |= {"data": str(noisy), "output": str(tmp_path / "run"), "overwrite": True, "epochs": 1, "review-steps": 1}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(keys))
    assert main(["filter", "--config", str(tmp_path / "c.yaml")]) == 0
    assert str(tmp_path / "run") in capsys.readouterr().out


def test_other_columns_are_refused(command, noisy, capsys):
    write_jsonl(noisy, [{**row, "other": "x"} for row in NOISY])
    run(command)
    assert run(command, "--columns", "completion=other") == 2
    assert "columns: was {}" in capsys.readouterr().err


def test_another_number_of_passes_makes_another_model(command, out):
    run(command, "--finetune", "--finetune-epochs", "1")
    first = (out / "model" / "history.json").read_text()
    assert run(command, "--finetune", "--finetune-epochs", "2") == 0
    assert len(json.loads((out / "model" / "history.json").read_text())) == 2 * len(json.loads(first))


def test_the_final_model_is_made_from_the_same_model(command, out, model, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    run([str(copy) if part == str(model) else part for part in command], "--threshold", "top:25%")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert main(["decide", str(out), "--finetune"]) == 2
    assert "model changed since this run was made" in capsys.readouterr().err


def test_the_final_model_follows_the_decision(command, out, capsys):
    run(command, "--threshold", "top:25%", "--finetune")
    first = (out / "model" / "adapter_model.safetensors").read_bytes()
    assert main(["decide", str(out), "--threshold", "top:50%"]) == 0
    assert (out / "model" / "adapter_model.safetensors").read_bytes() == first
    capsys.readouterr()
    assert main(["decide", str(out), "--threshold", "top:50%"]) == 0
    assert "model: made from an earlier decision" in capsys.readouterr().err
    assert main(["decide", str(out), "--threshold", "top:50%", "--finetune"]) == 0
    assert main(["decide", str(out)]) == 0
    assert "earlier decision" not in capsys.readouterr().err
    assert (out / "model" / "adapter_model.safetensors").read_bytes() != first


def test_another_threshold_is_told_the_command_that_decides_by_it(command, out, capsys):
    run(command)
    assert run(command, "--threshold", "top:25%", "--finetune") == 2
    decide = capsys.readouterr().err.strip().rpartition("To decide again from the scores that are there: ")[2]
    assert decide == f"forgetfilter decide {out} --threshold top:25% --finetune"
    assert main(decide.split()[1:]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"a LoRA adapter: {out / 'model'}")


def test_a_final_model_needs_rows(command, capsys):
    assert run(command, "--threshold", "-1000", "--finetune") == 2
    assert "no kept row" in capsys.readouterr().err


def test_full_finetuning(command, out):
    assert run(command, "--full-finetuning", "--finetune") == 0
    assert (out / "model" / "model.safetensors").exists()


def test_from_python(noisy, safe, model, tmp_path):
    quick = {"device": "cpu", "epochs": 1, "review_steps": 1, "threshold": "top:25%"}
    filter = forgetfilter.ForgetFilter(model=str(model), quiet=True, **quick)
    given = datasets.Dataset.from_list(NOISY)
    result = filter.run(given, SAFE, output=tmp_path / "run")
    assert len(result.kept) == 9
    assert result.kept.column_names == given.column_names
    assert sorted([*result.kept["id"], *result.removed["id"]]) == sorted(given["id"])
    assert list(result.scores["id"]) == list(given["id"])
    again = result.decide("top:50%")
    assert (len(again.kept), again.summary.threshold) == (6, "top:50%")
    with pytest.raises(forgetfilter.ForgetFilterError, match="unknown setting 'epochs'"):
        result.decide("1000", epochs=3)
    nothing = result.decide("1000")
    assert (len(nothing.kept), len(nothing.removed)) == (12, 0)
    from_file = filter.run(noisy, safe)
    assert list(from_file.scores["forgetting"]) == pytest.approx(list(result.scores["forgetting"]), abs=1e-6)
    with pytest.raises(forgetfilter.ForgetFilterError, match="did you mean"):
        forgetfilter.ForgetFilter(model="m", epoch=1)


def test_results_are_the_text_that_the_file_has(safe, model, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("prompt,completion,code\nQ,A one,007\nR,B two,NA\n")
    filter = forgetfilter.ForgetFilter(model=str(model), quiet=True, **SHORT)
    result = filter.run(path, safe)
    assert result.kept.to_list() == [
        {"prompt": "Q", "completion": "A one", "code": "007"},
        {"prompt": "R", "completion": "B two", "code": "NA"},
    ]
    assert len(result.removed) == 0


def test_the_config_of_a_run_in_memory_says_so(model, tmp_path):
    filter = forgetfilter.ForgetFilter(model=str(model), quiet=True, **SHORT)
    filter.run(NOISY, SAFE, output=tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"] == "<data in memory>"


def test_of_a_chat_with_several_answers_the_longest_is_shown_with_its_question(command, noisy, out, capsys):
    def turns(*said):
        return [
            {"role": role, "content": content} for role, content in zip(("user", "assistant") * 2, said, strict=True)
        ]

    write_jsonl(noisy, [{"messages": turns("Hi", "Hello!", f"Q{i}?", f"Answer {i}.")} for i in range(12)])
    assert run(command, "--threshold", "top:25%") == 0
    said = capsys.readouterr().out
    assert re.search(r"Q(\d+)\?\s+Answer \1\.", said)
    assert "Hello!" not in said
    assert "user: Hi\\n\\nassistant: Hello!\\n\\nuser: Q" in (out / "report.html").read_text()


def test_a_decision_that_keeps_nothing_says_so(command, out, capsys):
    assert run(command) == 0
    assert main(["decide", str(out), "--threshold", "-99"]) == 0
    assert "WARNING: no row is kept" in capsys.readouterr().out
    assert main(["decide", str(out), "--threshold", "top:10%"]) == 0
    assert "WARNING: no row is kept" not in capsys.readouterr().out


def test_the_beginning_of_an_option_is_no_option(out, capsys):
    with pytest.raises(SystemExit):
        main(["decide", str(out), "--finetun"])
    assert "there is no option '--finetun', perhaps --finetune" in capsys.readouterr().err


def test_copies_of_a_row_are_decided_alike(command, noisy, out):
    write_jsonl(noisy, [{"prompt": row["prompt"], "completion": row["completion"]} for row in NOISY] * 2)
    assert run(command, "--signal", "suspicion", "--threshold", "top:20%") == 0
    table = scores(out)
    first, second = np.array(table["suspicion"]).reshape(2, -1)
    assert np.ptp(first) > 0.1
    assert first == pytest.approx(second, abs=1e-3)
