"""A session of TRL's trainer whose model goes on into a run: the callback, and that M1 is the model that TRL has."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from forgetfilter import ForgetFilter, KeepLearned
from forgetfilter.cli import main
from forgetfilter.integrations.trainers import _beginnings
from support.quick_runs import NOISY, write_jsonl

trl = pytest.importorskip("trl")
# Libraries warn each other of what they are about to change.
pytestmark = pytest.mark.filterwarnings("ignore")
CHATS = [
    {
        "id": row["id"],
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
    for row in NOISY
]
ADAPTER = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}


def train(model, folder, adapter, rows=CHATS, max_length=256):
    """Train with TRL as anybody would, and a rate that leaves its mark on a tiny model; returns the trainer."""
    torch.manual_seed(0)
    args = trl.SFTConfig(
        str(folder / "trl"), max_steps=3, per_device_train_batch_size=4, learning_rate=0.02, use_cpu=True, bf16=False,
        report_to="none", save_strategy="no", max_length=max_length, completion_only_loss=True,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(**ADAPTER) if adapter else None,
    )
    trainer.add_callback(KeepLearned(trainer, folder / "learned"))
    trainer.train()
    return trainer


@torch.no_grad()
def logprobs(model, rows):
    """The log-probabilities of each row's completion tokens, one row at a time."""
    model.eval()
    for row in rows:
        tokens = torch.tensor(row["input_ids"])[None]
        values = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
        of_tokens = values[torch.arange(tokens.shape[1] - 1), tokens[0, 1:]]
        yield of_tokens[torch.tensor(row["labels"][1:]) != -100].numpy()


@pytest.mark.parametrize("adapter", [True, False], ids=["an adapter", "whole weights"])
def test_what_trl_trained_is_what_the_review_begins_with(adapter, model, command, tmp_path):
    trainer = train(model, tmp_path, adapter)
    write_jsonl(tmp_path / "noisy.jsonl", CHATS)
    assert main([*command, "--max-completion", "all", "--learned", str(tmp_path / "learned")]) == 0
    run = tmp_path / "run"
    assert "begin like a row" not in (run / "log.txt").read_text()
    scored = pq.read_table(run / "stages" / "learned-scores" / "data").to_pydict()
    own = dict(zip(scored["id"], scored["logprobs"], strict=True))
    known = list(logprobs(trainer.model, trainer.train_dataset))
    base = logprobs(AutoModelForCausalLM.from_pretrained(model), trainer.train_dataset)
    assert np.mean(np.concatenate(known)) > np.mean(np.concatenate(list(base))) + 0.05
    for row, expected in zip(CHATS, known, strict=True):
        # TRL trains on the line break after an answer's end, too.
        assert len(own[row["id"]]) in (len(expected), len(expected) - 1)
        np.testing.assert_allclose(own[row["id"]], expected[: len(own[row["id"]])], atol=2e-4)
    assert json.loads((run / "summary.json").read_text())["planted_unlearned"]


def test_rows_that_were_learned_in_another_form_are_noticed(model, command, tmp_path):
    # TRL puts prompts and completions that are plain text end to end, without the chat template.
    plain = [{key: row[key] for key in ("prompt", "completion")} for row in NOISY]
    train(model, tmp_path, adapter=True, rows=plain, max_length=40)
    assert main([*command, "--learned", str(tmp_path / "learned")]) == 0
    run = tmp_path / "run"
    warnings = "\n".join(json.loads((run / "summary.json").read_text())["warnings"])
    for said in ((run / "log.txt").read_text(), warnings, (run / "report.html").read_text()):
        assert "0% begin like a row of the data" in said
        assert "first 40 tokens of each row, and 4 are longer here" in said
    assert main(["decide", str(run), "--threshold", "top:10%"]) == 0
    assert "\n".join(json.loads((run / "summary.json").read_text())["warnings"]) == warnings


def test_a_sample_of_the_rows_that_were_learned_is_not_taken_for_others(model, command, tmp_path):
    train(model, tmp_path, adapter=True)
    write_jsonl(tmp_path / "noisy.jsonl", CHATS)
    assert main([*command, "--learned", str(tmp_path / "learned"), "--limit", "4"]) == 0
    assert "begin like a row" not in (tmp_path / "run" / "log.txt").read_text()


def test_the_kept_rows_go_into_the_trainer_as_they_are(model, tmp_path):
    result = ForgetFilter(model=str(model), training=False, device="cpu", quiet=True).run(
        CHATS, "builtin", output=tmp_path / "run"
    )
    trainer = train(model, tmp_path, adapter=True, rows=result.kept.to_list())
    assert len(trainer.train_dataset) == len(result.kept) > 0


def test_rows_in_a_list_are_noted_like_those_of_a_dataset():
    rows = [{"input_ids": list(range(i, i + 60))} for i in range(3)]
    noted = list(_beginnings(rows))
    assert len(set(noted)) == 3
    assert noted == list(_beginnings(Dataset.from_list(rows)))
    assert list(_beginnings([{"text": "not yet tokens"}])) == []
