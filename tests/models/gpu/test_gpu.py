"""What is done on a GPU alone: passes without padding, recorded and replayed. Run with `pytest -m gpu -n 0`."""

import numpy as np
import pytest
import torch

from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.generation import greedy
from forgetfilter.models.gpu.packed_rows import PackedScorer
from forgetfilter.models.optimizer_steps import StepsInTurn
from forgetfilter.models.scoring import Likelihood, score_in_memory
from forgetfilter.models.training import finetune
from forgetfilter.settings.groups import TrainingSettings
from support.gradients import gradient, replayed
from support.sessions import make_session, randomise, stock
from support.tiny_models import make_model, make_tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


def gpu_session(tmp_path, kind="llama", **adapter):
    session = make_session(make_model(kind, tmp_path / "model"), "bfloat16", "cuda", **adapter)
    randomise(session)
    assert isinstance(session.scorer, PackedScorer)
    return session


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to what bfloat16 leaves of it."""
    difference = (found.float() - expected.float()).norm() / expected.float().norm()
    assert difference < 0.03


def library_scores(session, rows) -> torch.Tensor:
    """What transformers' and peft's own passes make of the rows."""
    scorer = stock(session).scorer
    return scorer(*scorer.inputs(rows, 1 << 30))[0]


@pytest.mark.parametrize("kind", ["llama", "qwen"])
def test_scores_are_those_of_the_libraries(kind, table, tmp_path):
    session = gpu_session(tmp_path, kind)
    rows = [table[i] for i in range(len(table))]
    near(session.scorer(*session.inputs(rows))[0], library_scores(session, rows))
    results = score_in_memory(session, Likelihood(session, 1000), table, table.scorable)
    joined = torch.from_numpy(np.concatenate([result["logprobs"] for result in results]))
    near(joined, session.scorer(*session.inputs(rows))[0].detach().cpu())


def test_replayed_gradients_follow_the_adapter(table, tmp_path):
    session = gpu_session(tmp_path, top_blocks=0.5)
    keep_states(session, tmp_path / "tokens.arrow", tmp_path, 1000)
    known = known_table(session, [tmp_path / "tokens.arrow"], [tmp_path])
    steps = replayed(session)
    for rows in ([known[i] for i in range(4)], [table[i] for i in range(4)]):
        # Passed through, recorded, and replayed after the adapter has changed.
        for change in (0.0, 0.3, -0.5, 0.1):
            with torch.no_grad():
                for parameter in session.trained().values():
                    parameter.add_(change)
            near(gradient(session, rows, steps), gradient(session, rows))
    assert len(steps._replayed._recordings) == 4


def test_sessions_that_are_replayed_learn_and_go_on(table, tmp_path, monkeypatch):
    session = gpu_session(tmp_path)
    start, settings = session.trainable(), TrainingSettings(batch_size=2, learning_rate=0.01)
    before = torch.cat([value.flatten() for value in start.values()])

    def learned(folder: str, on_step=lambda _: None) -> torch.Tensor:
        session.set_trainable(start)
        (tmp_path / folder).mkdir(exist_ok=True)
        finetune(session, table, table.scorable, 12, settings, tmp_path / folder, on_step)
        return torch.cat([value.flatten() for value in session.trainable().values()]) - before

    def killed(step) -> None:
        if step.step == 7:
            raise KeyboardInterrupt

    replayed_changes = learned("replayed")
    # What was learned is what is scored.
    rows = [table[i] for i in range(len(table))]
    near(session.scorer(*session.inputs(rows))[0], library_scores(session, rows))
    with monkeypatch.context() as patch:
        patch.setattr("forgetfilter.models.training._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            learned("killed", killed)
        near(learned("killed"), replayed_changes)
    monkeypatch.setattr(
        "forgetfilter.models.training.steps_along", lambda _, session, *__: StepsInTurn(session, 0.0, 1.0)
    )
    near(learned("in turn"), replayed_changes)


def test_answers_are_what_the_model_finds_likeliest(table, tmp_path):
    session, tokenizer = gpu_session(tmp_path), make_tokenizer()
    rows = [table[i] for i in range(len(table))]
    prompts, limits = [row.input_ids[: row.prompt_ends[0]] for row in rows], [60, 5, 33, 40]
    said = greedy(session, tokenizer, prompts, limits)
    assert any(said)
    session.scorer = session.scorer.plain
    expected = greedy(session, tokenizer, prompts, limits)
    # Ties within what bfloat16 can tell apart may go either way.
    assert [text[:3] for text in said] == [text[:3] for text in expected]
