"""A random sample of the data: what is in the files, what is not, and that the order of the data does not matter."""

import json

import pytest

from support.quick_runs import NOISY, run, scores, write_jsonl


def kept_and_removed(folder):
    lines = [(folder / name).read_text().splitlines() for name in ("kept.jsonl", "removed.jsonl")]
    return {json.loads(line)["id"]: json.loads(line) for of_file in lines for line in of_file}


def test_a_sample_is_filtered_and_the_rest_is_counted(command, noisy, tmp_path, capsys):
    gated = "--limit", "5", "--examples", "0", "--threshold", "top:40%", "--fail-above", "1"
    assert run(command, *gated) == 3
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "forgetfilter: 2 of 5 rows are removed, 40.00%; --fail-above allows 1"
    sample = kept_and_removed(tmp_path / "run")
    assert len(sample) == 5
    assert all(row in NOISY for row in sample.values())
    assert sorted(scores(tmp_path / "run")["id"]) == sorted(sample)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["rows"], summary["left_out"], summary["kept"] + summary["removed"]) == (5, 7, 5)
    assert "a random sample of 5 of 12 rows" in shown.err
    assert "a random sample: 7 rows are left out, and in none of these files" in shown.out
    assert noisy.read_text() == "".join(json.dumps(row) + "\n" for row in NOISY)
    write_jsonl(noisy, NOISY[::-1])
    again = [word if word != str(tmp_path / "run") else str(tmp_path / "again") for word in command]
    assert run(again, "--limit", "5", "--examples", "0", "--finetune") == 0
    assert kept_and_removed(tmp_path / "again") == sample
    assert (tmp_path / "again" / "model" / "adapter_model.safetensors").exists()


def test_a_limit_beyond_the_data_is_all_of_it(command, tmp_path, capsys):
    assert run(command, "--limit", "500", "--no-training", "--signal", "suspicion", "--trusted", "none") == 0
    shown = capsys.readouterr()
    assert "sample" not in shown.err + shown.out
    assert len(kept_and_removed(tmp_path / "run")) == len(NOISY)


@pytest.mark.parametrize("limit", ["0", "-1", "some"])
def test_a_sample_has_rows(command, limit, capsys):
    assert run(command, "--limit", limit) == 2
    assert "limit must be" in capsys.readouterr().err
