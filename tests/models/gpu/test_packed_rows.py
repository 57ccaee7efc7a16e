"""Rows end to end come to what they come to one below the other; on a GPU, and by the same code on a processor."""

import numpy as np
import pytest
import torch

from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.generation import greedy
from forgetfilter.models.gpu import decoding
from forgetfilter.models.gpu.packed_rows import PackedScorer, is_packable
from forgetfilter.models.micro_batches import end_to_end
from forgetfilter.models.scoring import Likelihood, score_in_memory
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.models.training import finetune
from forgetfilter.settings.groups import TrainingSettings
from support.gradients import gradient, replayed
from support.sessions import make_session, randomise
from support.tiny_models import make_model, make_tokenizer


def end_to_end_session(folder, **adapter) -> TrainableModel:
    """A session on the processor that takes rows end to end, as one on a GPU does."""
    session = make_session(folder, **adapter)
    randomise(session)
    assert session.scorer is session.scorer.plain
    assert is_packable(session.model.get_base_model())
    session.scorer = PackedScorer(session.scorer)
    return session


@pytest.mark.parametrize("kind", ["llama", "qwen"])
def test_scores_and_slopes_are_those_of_padded_rows(kind, table, tmp_path):
    session = end_to_end_session(make_model(kind, tmp_path / kind))
    rows = [table[i] for i in range(len(table))]
    expected = session.scorer.plain(*session.scorer.plain.inputs(rows, 1 << 30))
    torch.testing.assert_close(session.scorer(*session.inputs(rows)), expected)
    found = [gradient(session, rows, replayed(session)), gradient(session, rows)]
    session.scorer = session.scorer.plain
    for one in found:
        torch.testing.assert_close(one, gradient(session, rows))


def test_what_frozen_blocks_make_is_kept_and_taken(table, tmp_path):
    session = end_to_end_session(make_model("llama", tmp_path / "model"), top_blocks=0.5)
    assert session.scorer.skips
    assert keep_states(session, tmp_path / "tokens.arrow", tmp_path, 1000)
    known = known_table(session, [tmp_path / "tokens.arrow"], [tmp_path])
    rows = [known[i] for i in range(len(known))]
    assert session.inputs(rows)[0].states is not None
    plain = [table[i] for i in range(len(table))]
    torch.testing.assert_close(session.scorer(*session.inputs(rows)), session.scorer(*session.inputs(plain)))
    steps = replayed(session)
    torch.testing.assert_close(gradient(session, rows, steps), gradient(session, plain, steps))


def test_rows_are_scored_as_padded_ones(table, tmp_path):
    session = end_to_end_session(make_model("llama", tmp_path / "model"))
    packed = score_in_memory(session, Likelihood(session, 1000), table, table.scorable)
    session.scorer = session.scorer.plain
    for one, other in zip(
        packed, score_in_memory(session, Likelihood(session, 1000), table, table.scorable), strict=True
    ):
        np.testing.assert_allclose(one["logprobs"], other["logprobs"], rtol=1e-4, atol=1e-5)
        assert one["greedy"].tolist() == other["greedy"].tolist()


@pytest.mark.parametrize("most_rows", [1, 3, 100])
def test_answers_are_those_of_padded_prompts(most_rows, table, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_MOST_ROWS", most_rows)
    session, tokenizer = end_to_end_session(make_model("llama", tmp_path / "model")), make_tokenizer()
    prompts = [table[i].input_ids[: table[i].prompt_ends[0]] for i in range(len(table))] + [np.array([7], np.int32)]
    limits = [5, 40, 1, 17, 90]
    said = greedy(session, tokenizer, prompts, limits)
    session.scorer = session.scorer.plain
    assert said == greedy(session, tokenizer, prompts, limits)


def test_passes_are_as_full_as_they_may_be():
    lengths = np.array([5, 3, 9, 3, 20])
    passes = end_to_end(np.array([4, 2, 0, 3]), lengths, 10)
    assert [rows.tolist() for rows in passes] == [[3, 0], [2], [4]]
    assert end_to_end(np.empty(0, np.intp), lengths, 10) == []


@pytest.mark.parametrize("kind", ["gpt2", "gemma"])
def test_other_models_are_padded(kind, tmp_path):
    assert not is_packable(make_session(make_model(kind, tmp_path)).model.get_base_model())


def test_a_session_that_is_replayed_learns_the_same_and_goes_on(table, tmp_path, monkeypatch):
    session = end_to_end_session(make_model("llama", tmp_path / "model"))
    start, settings = session.trainable(), TrainingSettings(batch_size=2, learning_rate=0.01, max_grad_norm=0.5)

    def learned(name: str, on_step=lambda _: None) -> torch.Tensor:
        (tmp_path / name).mkdir(exist_ok=True)
        finetune(session, table, table.scorable, 4, settings, tmp_path / name, on_step)
        assert all(parameter.grad is None for parameter in session.trained().values())
        return torch.cat([value.flatten() for value in session.trainable().values()])

    def killed(step) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    replayed_values = learned("replayed")
    session.set_trainable(start)
    monkeypatch.setattr("forgetfilter.models.training._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        learned("killed", killed)
    session.set_trainable(start)
    torch.testing.assert_close(learned("killed"), replayed_values)
    session.set_trainable(start)
    session.scorer = session.scorer.plain
    torch.testing.assert_close(learned("in turn"), replayed_values)


def test_processes_have_as_many_passes_each():
    lengths = np.array([5, 3, 9, 3, 20, 4])
    passes = end_to_end(np.arange(6), lengths, 1000, processes=2)
    assert [rows.tolist() for rows in passes] == [[1, 5, 2], [3, 0, 4]]
    assert len(end_to_end(np.arange(6), lengths, 31, processes=2)) == 4
    assert [rows.tolist() for rows in end_to_end(np.array([2]), lengths, 10, processes=4)] == [[2]]
