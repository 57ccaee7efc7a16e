"""Passes side by side: the same numbers as one after the other, wherever they are worth it."""

import copy
import threading

import numpy as np
import pytest
import torch

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.errors import TrainingError
from forgetfilter.models import micro_batches, optimizer_steps
from forgetfilter.models.cpu.threads import Lanes
from forgetfilter.models.gradients import backward_side_by_side
from forgetfilter.models.hidden_states import HiddenStates, View
from forgetfilter.models.micro_batches import by_length, deal
from forgetfilter.models.scoring import Answers, Likelihood, Rouge, score_in_memory
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.models.training import finetune
from forgetfilter.settings.groups import AdapterSettings, ModelSettings, TrainingSettings
from support.tiny_models import make_model

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=8)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """As if the processor had two cores, and passes within it were slow."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(micro_batches, "_TOGETHER", 0.1)


@pytest.fixture(scope="module")
def table(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("tokens") / "t.arrow"
    rows = [(f"r{i}", i, Chat.of("Why? " * (i % 4), "So. " * (1 + i % 5))) for i in range(24)]
    list(write_tokens(rows, Encoder(tokenizer, "auto", 64), path))
    return TokenTable(path)


def session_of(model, adapter=AdapterSettings(lora_rank=4)):  # noqa: B008
    return TrainableModel(find_model(str(model)), ModelSettings(device="cpu", dtype="float32"), adapter, seed=0)


def in_turn(session):
    session.lanes = Lanes(CPU, most=1)
    return session


def trained(session, table, folder):
    folder.mkdir()
    history = finetune(session, table, table.scorable, 6, SETTINGS, folder, tokens_per_batch=400)
    return [step.loss for step in history], session.trainable()


def test_lanes_work_at_the_same_time_and_answer_in_order():
    both = threading.Barrier(2, timeout=10)

    def wait(item):
        both.wait()
        return item, threading.get_ident()

    found = list(Lanes(CPU).map(wait, range(4)))
    assert [item for item, _ in found] == list(range(4))
    assert len({thread for _, thread in found}) == 2


@pytest.mark.parametrize("lanes", [lambda: Lanes(CPU, processes=2), lambda: Lanes(torch.device("cuda"))])
def test_processes_and_gpus_have_one_lane(lanes):
    assert lanes().count == 1


def test_every_row_is_dealt_and_the_lanes_share_the_budget():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    passes = deal(np.arange(200), lengths, 400, 5, lanes=2)
    assert passes.side_by_side
    assert sorted(np.concatenate(passes.rows)) == list(range(200))
    assert all(len(rows) * lengths[rows].max() <= 200 for rows in passes.rows)
    assert [rows.tolist() for rows in deal(np.arange(200), lengths, 400, 5, lanes=1).rows] == [
        rows.tolist() for rows in by_length(np.arange(200), lengths, 400, 5)
    ]


def test_passes_go_in_turn_where_one_of_them_is_most_of_the_work(monkeypatch):
    monkeypatch.setattr(micro_batches, "_TOGETHER", 0.8)
    assert not deal(np.arange(4), np.array([400, 5, 5, 5]), 1000, 10, lanes=2).side_by_side
    assert deal(np.arange(4), np.array([100, 100, 100, 100]), 1000, 10, lanes=2).side_by_side
    # Two rows of this length at once would take more memory than the budget allows.
    assert not deal(np.arange(4), np.array([600, 600, 600, 600]), 1000, 10, lanes=2).side_by_side


def test_a_session_side_by_side_learns_the_same(model, table, tmp_path, monkeypatch):
    used = []
    plain = optimizer_steps.backward_side_by_side
    monkeypatch.setattr(optimizer_steps, "backward_side_by_side", lambda *args: used.append(1) or plain(*args))
    first, weights = trained(session_of(model), table, tmp_path / "a")
    assert len(used) == 6
    again, same = trained(session_of(model), table, tmp_path / "b")
    assert first == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    other, close = trained(in_turn(session_of(model)), table, tmp_path / "c")
    assert len(used) == 12
    assert first == pytest.approx(other, rel=1e-4)
    assert all(torch.allclose(weights[name], close[name], atol=1e-4) for name in weights)


@pytest.mark.parametrize("dropped", ["of the adapter", "of the model", "none, but all weights"])
def test_what_cannot_be_repeated_or_held_trains_in_turn(model, tmp_path, dropped):
    if dropped == "of the model":
        model = make_model("gpt2", tmp_path / "gpt2")
    adapter = {
        "of the adapter": AdapterSettings(lora_dropout=0.1),
        "of the model": AdapterSettings(),
        "none, but all weights": AdapterSettings(full_finetuning=True),
    }[dropped]
    session = session_of(model, adapter)
    assert session.lanes.count == 2
    assert not session.trains_side_by_side


@pytest.mark.parametrize("kind", ["likelihood", "rouge", "answers", "states"])
def test_scores_side_by_side_are_those_in_turn(model, table, tokenizer, kind):
    def found(session):
        scorer = {
            "likelihood": lambda: Likelihood(session, 300),
            "rouge": lambda: Rouge(session, tokenizer, 300),
            "answers": lambda: Answers(session, tokenizer, 300, most_tokens=12),
            "states": lambda: HiddenStates(session, 300, [View("answer", 0.0), View("beginning", 1.0)]),
        }[kind]()
        return score_in_memory(session, scorer, table, table.scorable)

    beside, alone = found(session_of(model)), found(in_turn(session_of(model)))
    assert len(beside) == len(alone) == 24
    for one, other in zip(beside, alone, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name in ("answers", "answer"):
                assert value == other[name]
            else:
                assert value == pytest.approx(other[name], abs=1e-5)


def test_an_error_in_a_lane_is_told_as_any_other(model, table):
    session = session_of(model)
    with torch.no_grad():
        next(p for p in session.model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        score_in_memory(session, Likelihood(session, 300), table, table.scorable)


def test_a_model_with_a_scorer_can_be_copied(model):
    session = session_of(model)
    assert copy.deepcopy(session.model) is not session.model


def test_a_layer_that_takes_no_part_in_a_pass_has_no_gradient(model, table, monkeypatch):
    session, idle = session_of(model), torch.nn.Parameter(torch.ones(2))
    part = session.trained()
    monkeypatch.setattr(session, "trained", lambda: {**part, "idle": idle})
    rows = [table[0], table[1]]
    backward_side_by_side(session, session.scorer, [rows[:1], rows[1:]], sum(len(row.pieces) for row in rows))
    assert not idle.grad.any()
    assert any(parameter.grad.any() for parameter in part.values())
