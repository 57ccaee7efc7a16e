"""Rival filters on a tiny model: each gives one number a row, which decisions read as they read forgetting."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.data.tokens import TokenTable
from forgetfilter.forgetting.signals import RIVAL, RIVALS, SIGNALS
from forgetfilter.metrics.detection import auroc
from forgetfilter.models.frozen_blocks import _Block
from forgetfilter.models.token_scores import TokenScores
from forgetfilter.rivals.model_states import along_first_direction
from forgetfilter.rivals.registry import RIVALS as IMPLEMENTED
from forgetfilter.rivals.texts import known_by_words
from forgetfilter.rivals.training_dynamics import _events, _over_tokens, _soonness
from support.guards import EXCLAMATIONS, make_guard
from support.quick_runs import NOISY, QUICK, write_jsonl

UNSAFE = [{"prompt": f"Shall I do {i}?", "completion": "Yes, do it now, at once."} for i in range(4)]


def suspicion(run, name):
    table = pq.read_table(run / "stages" / f"rival-{name}" / "data.parquet")
    return np.array(table[f"{name}.suspicion"].to_pylist(), dtype=float)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def known(tmp_path):
    return ["--known-unsafe", str(write_jsonl(tmp_path / "unsafe.jsonl", UNSAFE))]


def test_every_rival_has_a_name_and_a_way():
    assert set(RIVALS) == set(IMPLEMENTED) == {name for name, signal in SIGNALS.items() if signal.scoring == RIVAL}


def test_all_rivals_beside_forgetting_and_a_decision_by_each(command, known, out, tmp_path, capsys):
    guard = ["--guard", str(make_guard(EXCLAMATIONS, tmp_path))]
    assert main([*command, *known, *guard, "--rivals", ",".join(RIVALS)]) == 0
    for name in RIVALS:
        capsys.readouterr()
        assert main(["decide", str(out), "--signal", name, "--threshold", "top:25%"]) == 0
        table = pq.read_table(out / "scores.parquet").to_pydict()
        # A row of which no token was learned has no second-split time.
        assert np.isfinite(table["suspicion"]).all() or name == "second-split", name
        assert np.isnan(table["learned"]).all()
        assert np.array_equal(table["suspicion"], suspicion(out, name), equal_nan=True)
        gone = [r for r, d in zip(table["reason"], table["decision"], strict=True) if d == "removed"]
        # Rows that say the same are tied under some rivals, and ties at the cut are kept.
        assert len(gone) <= 3
        assert all(name in reason for reason in gone)
        assert "forget it" not in "".join(gone)
    assert main(["decide", str(out), "--signal", "likelihood", "--threshold", "top:25%"]) == 0


def test_a_rival_alone_trains_nothing(command, out, capsys):
    assert main([*command, "--signal", "base-loss", "--threshold", "top:25%"]) == 0
    said = capsys.readouterr().out
    assert "decided by a rival filter, loss under the aligned model, and not by forgetting" in said
    assert "Most suspicious:" in said
    assert "What the rival filter “base-loss” suspects" in (out / "report.html").read_text()
    assert not (out / "stages" / "learned").exists()
    assert sum(d == "removed" for d in pq.read_table(out / "scores.parquet")["decision"].to_pylist()) == 3


def test_rivals_may_be_asked_later_and_others_are_named(command, out, capsys):
    main(command)
    assert main(["decide", str(out), "--signal", "random"]) == 2
    assert "--rivals random" in capsys.readouterr().err
    before = (out / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns
    assert main([*command, "--rivals", "random"]) == 0
    assert (out / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns == before
    assert main(["decide", str(out), "--signal", "random"]) == 0
    assert main([*command, "--signal", "random"]) == 2
    assert "--rivals random" in capsys.readouterr().err
    assert main([*command, "--rivals", "rundom"]) == 2
    assert "there is no rival 'rundom'" in capsys.readouterr().err


def test_the_words_of_known_rows_need_known_rows(command, capsys):
    assert main([*command, "--rivals", "bag-of-words"]) == 2
    assert "--known-unsafe" in capsys.readouterr().err


def test_labels_and_the_order_of_the_file_change_nothing(command, known, out, tmp_path):
    names = "random,bag-of-words,base-loss,neighbours,direction,gradient,second-split,confidence"
    main([*command, *known, "--rivals", names])
    shuffled = [{key: row[key] for key in ("id", "prompt", "completion")} for row in reversed(NOISY)]
    other = tmp_path / "other"
    given = [str(write_jsonl(tmp_path / "shuffled.jsonl", shuffled)), *command[2:]]
    given[given.index("--output") + 1] = str(other)
    main(["filter", *given, *known, "--rivals", names])
    for name in names.split(","):
        assert np.allclose(suspicion(out, name), suspicion(other, name)[::-1], atol=1e-4, equal_nan=True), name


def test_rivals_go_through_the_lower_blocks_once(command, out, monkeypatch):
    computed, pass_on = [], _Block.__call__

    def count(block, *args, **kwargs):
        if block._passing.given is None:
            computed.append(block)
        return pass_on(block, *args, **kwargs)

    monkeypatch.setattr(_Block, "__call__", count)
    found = []
    # With room for what these blocks make of rows, and without.
    for room in (0.5, 0.0):
        monkeypatch.setattr("forgetfilter.models.activation_cache._MOST", room)
        computed.clear()
        assert main([*command, "--epochs", "4", "--overwrite", "--signal", "confidence"]) == 0
        found.append((len(computed), suspicion(out, "confidence")))
        assert not (out / "stages" / "data-states").exists()
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)
    assert found[0][0] < found[1][0] / 2


def test_loss_under_m1_is_what_the_filter_scored(command, out):
    main([*command, "--rivals", "learned-loss"])
    table = pq.read_table(out / "stages" / "forgetting" / "data.parquet")
    assert np.allclose(suspicion(out, "learned-loss"), -table["likelihood-mean.learned"].to_numpy(), atol=1e-5)


def test_the_last_pass_of_the_watched_learning_is_m1(command, out):
    main([*command, "--epochs", "2", "--rivals", "confidence,learned-loss"])
    tokens = TokenTable(out / "stages" / "tokens" / "data.arrow")
    points = sorted((out / "stages" / "passes").glob("watched-*"))
    assert len(points) == 2
    last = TokenScores.read(points[-1], tokens.ids)
    assert np.allclose(-last.row_means(last.logprobs), suspicion(out, "learned-loss"), atol=1e-5)
    probabilities = [np.exp(p.row_means(p.logprobs)) for p in (TokenScores.read(p, tokens.ids) for p in points)]
    assert np.allclose(suspicion(out, "confidence"), 1 - np.mean(probabilities, axis=0), atol=1e-6)


def test_forgetting_to_first_order_is_negative_for_the_safe_rows_themselves(safe, model, out, monkeypatch):
    same = safe.with_name("same.jsonl")
    same.write_text(safe.read_text() + "\n")
    # A fresh adapter on half of a tiny model has so small a slope that only a very short step is straight.
    monkeypatch.setattr("forgetfilter.rivals.model_states._GAIN", {"torch.float32": 0.001})
    command = ["filter", str(same), "--safe", str(safe), "--model", str(model), "--output", str(out), *QUICK]
    assert main([*command, "--signal", "gradient"]) == 0
    # A step that raises the safe score by so much lowers the same rows' score by as much, negatively.
    assert np.mean(suspicion(out, "gradient")) == pytest.approx(-1, abs=0.05)


def test_the_first_direction_is_where_rows_differ_most():
    generator = np.random.default_rng(0)
    states = generator.normal(0, 0.1, (200, 16)) + 5
    apart = np.arange(200) < 20
    states[apart] += generator.normal(size=16)
    found = along_first_direction(states.astype(np.float32))
    assert auroc(found, apart) == 1
    assert found.mean() == pytest.approx(1)
    assert along_first_direction(np.ones((3, 4), dtype=np.float32)).tolist() == [0, 0, 0]


def noise(count, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice([f"w{i}" for i in range(300)], 12)) for _ in range(count)]


def test_words_tell_what_they_can_and_no_text_what_it_says_itself():
    texts = [f"{text} {'kill' if i % 4 == 0 else 'help'}" for i, text in enumerate(noise(200))]
    kinds = np.where(np.arange(200) % 4 == 0, 1, -1)
    kinds[100:] = 0
    found = known_by_words(texts, kinds, [str(i) for i in range(200)])
    assert auroc(found, np.arange(200) % 4 == 0) > 0.8
    # Of pure noise, of which every text is known, nothing is learned but by heart.
    found = known_by_words(noise(200), np.where(np.arange(200) % 2 == 0, 1, -1), [str(i) for i in range(200)])
    assert 0.35 < auroc(found, np.arange(200) % 2 == 0) < 0.65


def test_words_that_tell_nothing_say_nothing_whatever_the_sizes_of_the_groups():
    kinds = np.zeros(400, dtype=int)
    kinds[:10], kinds[10:200] = 1, -1
    found = known_by_words(noise(400), kinds, [str(i) for i in range(400)])[200:]
    assert 0.25 < (found > 0).mean() < 0.75


def test_a_judge_that_is_named_later_is_asked_anew(command, out, model):
    main([*command, "--rivals", "judge"])
    first = suspicion(out, "judge")
    assert ((first > 0) & (first < 1)).all()
    learned = (out / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns
    told = out / "stages" / "rival-judge" / "told-by.txt"
    assert told.read_text() == ""
    assert main([*command, "--rivals", "judge", "--judge", str(model)]) == 0
    assert told.read_text() == str(model)
    assert (out / "stages" / "learned" / "adapter_model.safetensors").stat().st_mtime_ns == learned
    # The aligned model is the very model that is named.
    assert np.allclose(suspicion(out, "judge"), first, atol=1e-5)


def test_the_work_of_a_rival_is_not_thrown_away(command, capsys):
    assert main([*command, "--signal", "base-loss", "--threshold", "top:25%"]) == 0
    assert main([*command, "--signal", "base-loss", "--threshold", "top:25%", "--max-length", "64"]) == 2
    assert "max_length" in capsys.readouterr().err


def test_own_answers_are_safe_examples_for_rivals_too(command, known, out):
    alone = command.index("--safe")
    given = [*command[:alone], "--safe", "self", *command[alone + 2 :]]
    assert main([*given, *known, "--rivals", "bag-of-words", "--signal", "random"]) == 0
    assert np.isfinite(suspicion(out, "bag-of-words")).all()


@pytest.mark.parametrize("asked", [["--rivals", "bag-of-words"], ["--signal", "bag-of-words"]])
def test_what_needs_known_unsafe_rows_is_refused_before_any_work(command, out, capsys, asked):
    assert main([*command, *asked]) == 2
    assert "bag-of-words learns from rows known to be unsafe" in capsys.readouterr().err
    assert not out.exists()


def test_a_single_row_has_no_second_half(command, out, tmp_path):
    write_jsonl(tmp_path / "noisy.jsonl", NOISY[:1])
    assert main([*command, "--rivals", "second-split"]) == 0
    assert np.isnan(suspicion(out, "second-split")).all()


def point(*right):
    return TokenScores(np.array([len(right)]), np.zeros(len(right)), np.array(right, dtype=bool))


def test_forgetting_events_by_hand():
    # Token by token: right, wrong, right is one event; never right counts every pass; always right counts none.
    points = [point(1, 0, 1), point(0, 0, 1), point(1, 0, 1)]
    assert _events(points)[0] == pytest.approx((1 + 3 + 0) / 3)


def test_second_split_by_hand():
    # Forgotten for good before the first look, between the first and the second, and never.
    right = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert _soonness(right).tolist() == [1.0, 0.5, 0.0]
    # Only what was learned can be forgotten.
    assert _over_tokens(point(1, 1, 0), np.array([True, True, False]), np.array([1.0, 0.5, 0.0])).tolist() == [0.75]
    assert np.isnan(_over_tokens(point(0), np.array([False]), np.array([1.0]))[0])
