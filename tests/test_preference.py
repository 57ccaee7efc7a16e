"""Preference data through the whole filter: the chosen side decides, the rejected side is scored beside it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.data.chats import Chat, FieldError, Message
from forgetfilter.data.tokens import Encoder
from forgetfilter.forgetting.pairs import compare_answers
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl
from support.tiny_models import make_tokenizer

CHOSEN = [{"id": row["id"], "prompt": row["prompt"], "completion": row["completion"]} for row in NOISY]
PAIRS = [
    {"id": row["id"], "prompt": row["prompt"], "chosen": row["completion"], "rejected": f"{row['id']} is not said."}
    for row in NOISY
]


def filtered(rows, folder, model, *more):
    """The run folder of a quick filter of some rows."""
    folder.mkdir()
    data, safe = write_jsonl(folder / "data.jsonl", rows), write_jsonl(folder / "safe.jsonl", SAFE)
    command = ["filter", str(data), "--safe", str(safe), "--model", str(model), "--output", str(folder / "run"), *QUICK]
    assert main([*command, "--threshold", "top:25%", *more]) == 0
    return folder / "run"


def scores(run):
    return pq.read_table(run / "scores.parquet").to_pydict()


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    return filtered(PAIRS, tmp_path_factory.mktemp("preference") / "pairs", model, "--finetune")


def test_the_data_is_decided_as_if_there_were_no_rejected_answers(run, tmp_path, model):
    alone = filtered(CHOSEN, tmp_path / "alone", model, "--finetune")
    pairs, others = scores(run), scores(alone)
    assert set(pairs) - set(others) == {"rejected_forgetting", "looks_swapped"}
    for name in set(others) - {"reason"}:
        assert pairs[name] == others[name], name
    for one, other in zip(pairs["reason"], others["reason"], strict=True):
        assert one.startswith(other)
    for file in ("model/adapter_model.safetensors", "stages/learned/history.json", "examples.jsonl"):
        if file.endswith("history.json"):
            steps = [[step["loss"] for step in json.loads((folder / file).read_text())] for folder in (run, alone)]
            assert steps[0] == steps[1]
        else:
            assert (run / file).read_bytes() == (alone / file).read_bytes()


def test_rows_are_kept_and_removed_whole(run):
    lines = (run.parent / "data.jsonl").read_bytes().splitlines()
    kept, removed = ((run / f"{name}.jsonl").read_bytes().splitlines() for name in ("kept", "removed"))
    assert sorted(kept + removed) == sorted(lines)
    assert len(removed) == 3


def test_nothing_is_left_of_what_was_kept_for_speed(run):
    assert not list((run / "stages").glob("*-states"))


@pytest.mark.parametrize("more", [[], ["--signal", "rouge", "--max-completion", "8"]], ids=["likelihood", "rouge"])
def test_the_rejected_answer_is_measured_as_the_chosen_one(tmp_path, model, more):
    """Where both answers are the same text, they are forgotten by the same."""
    rows = [{**pair, "rejected": pair["chosen"]} for pair in PAIRS[:6]]
    found = scores(filtered(rows, tmp_path / "same", model, *more))
    assert found["rejected_forgetting"] == pytest.approx(found["forgetting"], abs=1e-6)
    assert not any(found["looks_swapped"])


def test_a_rejected_answer_has_a_score_of_its_own(run):
    found = scores(run)
    assert not np.isnan(found["rejected_forgetting"]).any()
    assert not np.allclose(found["rejected_forgetting"], found["forgetting"])
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["pairs"], summary["swapped"]) == (12, sum(found["looks_swapped"]))
    assert main(["decide", str(run), "--signal", "likelihood-mean"]) == 0
    assert scores(run)["rejected_forgetting"] != found["rejected_forgetting"]
    assert main(["decide", str(run), "--signal", "likelihood"]) == 0
    assert scores(run) == found


def test_reasons_tell_of_the_rejected_answer(run):
    for line in (run / "reasons.jsonl").read_text().splitlines():
        said = json.loads(line)
        only = "only " if said["looks_swapped"] else ""
        assert f"its rejected answer was forgotten by {only}{said['rejected_forgetting']:.3g}" in said["reason"]


def test_pairs_that_look_swapped_are_named(run, capsys):
    """With a threshold that removes all rows, the pairs of which the chosen answer was forgotten more than is usual."""
    assert main(["decide", str(run), "--threshold=-9"]) == 0
    found = scores(run)
    more = np.subtract(found["forgetting"], found["rejected_forgetting"])
    unusual = more > max(0, np.median(more))
    assert 0 < unusual.sum() < 12
    assert found["looks_swapped"] == unusual.tolist()
    shown = capsys.readouterr().out
    assert f"{unusual.sum()} of 12 pairs look swapped" in shown
    most = int(np.argmax(more))
    line = next(line for line in shown.split("look swapped")[1].splitlines() if PAIRS[most]["prompt"] in line)
    assert line.split()[:2] == [f"{found[name][most]:.2f}" for name in ("forgetting", "rejected_forgetting")]
    for swapped, reason in zip(found["looks_swapped"], found["reason"], strict=True):
        assert ("so the two look swapped" in reason) == swapped
    assert main(["decide", str(run), "--threshold", "top:25%"]) == 0


def test_rivals_say_nothing_of_rejected_answers(tmp_path, model):
    found = scores(filtered(PAIRS, tmp_path / "rival", model, "--signal", "random"))
    assert np.isnan(found["rejected_forgetting"]).all()
    assert not any(found["looks_swapped"])


def test_other_data_has_no_such_columns(tmp_path, model):
    assert not {"rejected_forgetting", "looks_swapped"} & set(scores(filtered(CHOSEN, tmp_path / "other", model)))


def test_the_labels_of_kto_are_not_read(tmp_path, model, capsys):
    labelled = [{**row, "label": i % 3 > 0} for i, row in enumerate(CHOSEN)]
    run = filtered(labelled, tmp_path / "labelled", model)
    assert "layout kto" in capsys.readouterr().err
    assert scores(run) == scores(filtered(CHOSEN, tmp_path / "blind", model))
    assert b'"label": ' in (run / "removed.jsonl").read_bytes()


def test_a_rejected_answer_that_the_template_refuses_makes_a_bad_row():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if 'refuse' in m['content'] %}{{ raise_exception('no such word') }}{% endif %}"
        "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    )
    encoder = Encoder(tokenizer, "chat", 64)
    asked = Message("user", "Q")
    good, bad = (Message("assistant", text, trained=True) for text in ("Yes", "I refuse"))
    encoder.check(Chat([asked, good], rejected=[asked, good]))
    with pytest.raises(FieldError, match="no such word") as chosen:
        encoder.check(Chat([asked, bad], rejected=[asked, good]))
    with pytest.raises(FieldError, match="no such word") as rejected:
        encoder.check(Chat([asked, good], rejected=[asked, bad]))
    assert not chosen.value.field.startswith("rejected")
    assert rejected.value.field.startswith("rejected")


def test_rows_with_one_answer_are_set_aside(tmp_path, model):
    rows = [*PAIRS, {"prompt": "Q", "chosen": "A", "rejected": None}, {"prompt": "Q", "chosen": None, "rejected": "B"}]
    run = filtered(rows, tmp_path / "unpaired", model, "--skip-bad-rows")
    bad = [json.loads(line) for line in (run / "bad.jsonl").read_text().splitlines()]
    assert bad == rows[-2:]
    assert scores(run)["row"] == list(range(12))


def test_rejected_answers_beyond_the_length_limit_have_no_score(tmp_path, model):
    rows = [
        {
            "id": pair["id"],
            "chosen": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": pair["chosen"]}],
            "rejected": [{"role": "user", "content": "Q " * 99}, {"role": "assistant", "content": "No."}],
        }
        for pair in PAIRS
    ]
    run = filtered(rows, tmp_path / "long", model, "--max-length", "64")
    found = scores(run)
    assert np.isnan(found["rejected_forgetting"]).all()
    assert not np.isnan(found["forgetting"]).any()
    assert json.loads((run / "summary.json").read_text())["pairs"] == 0


def test_much_more_is_more_by_what_removes_a_row():
    chosen = np.array([0.9, 0.9, 0.2, 0.1, np.nan, 0.9])
    rejected = np.array([0.1, 0.6, 0.9, 0.8, 0.0, np.nan])
    found = compare_answers(chosen, rejected, 0.5)
    assert found.swapped.tolist() == [True, False, False, False, False, False]
    assert found.limit == 0.5
    # However low the threshold, the chosen answer has to be forgotten more.
    assert compare_answers(chosen, rejected, -1.0).swapped.tolist() == [True, True, False, False, False, False]


def test_where_all_chosen_answers_are_forgotten_more_a_pair_has_to_differ_from_the_others():
    """They alone were learned, so that this says nothing of a pair."""
    more = np.array([0.6, 0.7, 0.8, 0.7, 1.4])
    found = compare_answers(more, np.zeros(5), 0.5)
    assert found.swapped.tolist() == [False, False, False, False, True]
    assert found.limit == pytest.approx(1.2)


def test_where_nothing_is_removed_much_more_is_an_outlier():
    more = np.array([*np.linspace(-1, 0, 21), 0.9, np.nan])
    found = compare_answers(more, np.zeros(23), None)
    assert np.flatnonzero(found.swapped).tolist() == [21]
    quartiles = np.quantile(more[:-1], (0.25, 0.75))
    assert found.limit == pytest.approx(quartiles[1] + 1.5 * (quartiles[1] - quartiles[0]))
    assert not compare_answers(-1 - more, np.zeros(23), None).swapped.any()
    assert not compare_answers(np.full(3, np.nan), np.zeros(3), None).swapped.any()
    assert not compare_answers(np.empty(0), np.empty(0), None).swapped.any()
