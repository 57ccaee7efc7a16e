"""Rows of known kind, set-aside safe rows, and safe sets that need no file."""

import json

import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.runs.inputs import Material
from forgetfilter.runs.run import Run
from support.quick_runs import NOISY, SAFE, reviewing, write_jsonl

OTHERS = [{"prompt": f"How many is {i}?", "completion": "Forty-three."} for i in range(30)]


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def planted(command, tmp_path):
    trusted = write_jsonl(tmp_path / "trusted.jsonl", OTHERS)
    unsafe = write_jsonl(tmp_path / "unsafe.jsonl", [{**row, "id": f"u{i}"} for i, row in enumerate(NOISY[:3])])
    return [*command, "--trusted", str(trusted), "--known-unsafe", str(unsafe)]


def test_planted_rows_tell_the_errors_and_stay_out_of_the_output(planted, tmp_path, capsys):
    assert main([*planted, "--threshold", "top:25%"]) == 0
    found = summary_of(tmp_path / "run")
    assert (found["rows"], found["trusted"], found["known_unsafe"]) == (12, 30, 3)
    assert found["kept"] + found["removed"] == 12
    for name in ("precision", "recall", "harmless_removed"):
        assert 0 <= found["errors"][name]["low"] <= found["errors"][name]["value"] <= found["errors"][name]["high"] <= 1
    assert pq.read_table(tmp_path / "run" / "scores.parquet").num_rows == 12
    assert "judged by 30 trusted rows" in capsys.readouterr().out


def test_planted_rows_are_learned(planted, command, tmp_path):
    main([*planted, "--threshold", "fdr:50%"])
    main([*command[:-1], command[-1], "--output", str(tmp_path / "without")])
    steps = [
        len(json.loads((tmp_path / run / "stages" / "learned" / "history.json").read_text()))
        for run in ("run", "without")
    ]
    assert steps == [12, 3]


def test_planted_rows_are_part_of_the_run(planted, command, tmp_path, capsys):
    assert main(planted) == 0
    write_jsonl(tmp_path / "trusted.jsonl", OTHERS[1:])
    assert main(planted) == 2
    assert "trusted: its content" in capsys.readouterr().err
    assert main(command) == 2


def test_bad_planted_rows_stop_the_run(planted, tmp_path, capsys):
    write_jsonl(tmp_path / "trusted.jsonl", [{"prompt": "a"}, *OTHERS])
    assert main(planted) == 2
    assert "trusted.jsonl" in capsys.readouterr().err


def test_safe_rows_can_be_set_aside(command, tmp_path):
    assert main([*command, "--set-aside", "0.5"]) == 0
    assert summary_of(tmp_path / "run")["trusted"] == len(SAFE) // 2
    assert main(["decide", str(tmp_path / "run"), "--threshold", "fdr:40%"]) == 0


def test_fdr_without_trusted_rows_is_refused_before_any_work(command, tmp_path, capsys):
    assert main([*command, "--threshold", "fdr:5%"]) == 2
    assert "--trusted" in capsys.readouterr().err
    assert not (tmp_path / "run" / "stages" / "learned").exists()


def test_own_answers_are_not_set_aside(command, tmp_path):
    assert main([*reviewing(command, "self"), "--set-aside", "0.5"]) == 0
    assert summary_of(tmp_path / "run")["trusted"] == 0


def test_ordinary_rows_of_the_package_and_safe_rows_set_aside_are_trusted(command, tmp_path):
    assert main([*command, "--trusted", "builtin", "--set-aside", "0.5"]) == 0
    # At most a quarter as many of each as the data has rows.
    assert summary_of(tmp_path / "run")["trusted"] == 3 + 3


def test_the_layout_of_the_data_is_not_asked_of_the_packages_rows(command, tmp_path):
    write_jsonl(tmp_path / "noisy.jsonl", [{"q": f"Why {i}?", "a": "No."} for i in range(20)])
    columns = ["--layout", "prompt-completion", "--columns", "prompt=q,completion=a"]
    builtin = reviewing(command, "builtin")
    assert main([*builtin, *columns, "--trusted", "builtin", "--set-aside", "0.25"]) == 0
    assert summary_of(tmp_path / "run")["trusted"] == 5 + 5


def test_the_safe_set_of_the_package(command, tmp_path):
    assert main(reviewing(command, "builtin")) == 0
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "safe: builtin" in config


def test_the_models_own_answers_are_reviewed(command, tmp_path):
    assert main([*reviewing(command, "self"), "--self-answers", "5"]) == 0
    folder = tmp_path / "run" / "stages" / "answers"
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert 0 < len(answers) <= 5
    prompts = {row["id"]: row["prompt"] for row in NOISY}
    for answer in answers:
        assert answer["messages"][0]["content"] == prompts[answer["id"]]
        assert answer["messages"][-1]["role"] == "assistant"
    before = summary_of(tmp_path / "run")
    assert main([*reviewing(command, "self"), "--self-answers", "5"]) == 0
    assert summary_of(tmp_path / "run") == before
    assert main([*command]) == 2


def test_answers_of_the_data_are_no_words_of_the_models_own(command, tmp_path):
    before = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "Unsafe words of the data."}]
    rows = [
        {
            "prompt": [*before, {"role": "user", "content": f"{i}?"}],
            "completion": [{"role": "assistant", "content": "A"}],
        }
        for i in range(8)
    ]
    write_jsonl(tmp_path / "noisy.jsonl", rows)
    assert main(reviewing(command, "self")) == 0
    run = Run.open(tmp_path / "run")
    texts = list(Material(run).texts("safe"))
    assert texts
    for prompt, completion in texts:
        assert "Unsafe words of the data." in prompt
        assert "Unsafe words of the data." not in completion


def test_own_answers_continue_plain_text(command, tmp_path):
    texts = [{"text": f"This is a text of some kind, number {i}."} for i in range(8)]
    write_jsonl(tmp_path / "noisy.jsonl", texts)
    assert main(reviewing(command, "self")) == 0
    lines = (tmp_path / "run" / "stages" / "answers" / "answers.jsonl").read_text().splitlines()
    assert lines
    assert all(json.loads(line)["text"].startswith("This is a") for line in lines)
