"""Blocks that are never trained are gone through once, and nothing else changes."""

import json
import shutil

import numpy as np
import pytest
import torch

from conftest import make_model
from forgetfilter.cli import main
from forgetfilter.data.layouts import Message
from forgetfilter.data.tokens import Encoder, write_tokens
from forgetfilter.errors import SettingsError
from forgetfilter.models import reading
from forgetfilter.models.forward import CompletionScorer, collate, with_states
from forgetfilter.models.reading import known_table, read
from forgetfilter.models.scoring import Likelihood, score_in_memory
from forgetfilter.models.session import Session
from forgetfilter.models.sources import find_model
from forgetfilter.models.states import KnownTable
from forgetfilter.settings import AdapterSettings, ModelSettings
from test_filter import run, scores

CPU = ModelSettings(device="cpu", dtype="float32")


def make_session(folder, dtype="float32", **adapter) -> Session:
    return Session(
        find_model(str(folder)), ModelSettings(device="cpu", dtype=dtype), AdapterSettings(**adapter), seed=0
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, tokenizer):
    """A file of nine rows of different length, which begin alike."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.arrow"
    rows = [
        (
            f"r{i}",
            i,
            [Message("user", f"Is it {i}?" * (1 + i % 3)), Message("assistant", "Yes. " * (1 + i), trained=True)],
        )
        for i in range(9)
    ]
    assert list(write_tokens(rows, Encoder(tokenizer, "auto", 512), path))
    return path


@pytest.fixture
def session(model) -> Session:
    return make_session(model, top_blocks=0.33)


def known(session, tokens, folder) -> KnownTable:
    folder.mkdir()
    assert read(session, tokens, folder, 200)
    table = known_table(session, [tokens], [folder])
    assert isinstance(table, KnownTable)
    return table


def outcome(session, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    # GPT-2 drops out in training.
    logprobs = session.scorer.eval()(*inputs)[0]
    gradients = torch.autograd.grad((logprobs * torch.arange(1, len(logprobs) + 1)).sum(), session.trained().values())
    return logprobs.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("overhead", [0, 1 << 30], ids=["after a prefix", "alone"])
@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral", "gemma", "gpt2"])
def test_scores_and_slopes_are_the_same_without_the_frozen_blocks(kind, overhead, tokens, tmp_path):
    session = make_session(make_model(kind, tmp_path / "m"), top_blocks=0.33)
    session.model.eval()
    assert session.scorer.frozen == 1
    table = known(session, tokens, tmp_path / "states")
    with torch.no_grad():
        for name, parameter in session.trained().items():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(len(name))))
    rows = [table[i] for i in (8, 0, 4)]
    inputs = collate(rows, session.hardware.device, overhead)
    assert (inputs[0].shape[1] > 0) == (overhead == 0)
    (scores, slopes), (expected, expected_slopes) = (
        outcome(session, given) for given in (with_states(rows, inputs), inputs)
    )
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slopes, expected_slopes, rtol=1e-3, atol=1e-4)
    assert slopes.abs().max() > 0.1


def test_the_frozen_blocks_are_not_computed_again(session, tokens, tmp_path, monkeypatch):
    table = known(session, tokens, tmp_path / "states")
    lowest = next(module for module in session.model.modules() if type(module).__name__ == "LlamaDecoderLayer")
    monkeypatch.setattr(lowest.forward, "_forward", lambda *_, **__: pytest.fail("computed again"))
    results = score_in_memory(session, Likelihood(session, 1000), table, table.scorable)
    assert len(results) == 9


def test_in_bfloat16_states_are_what_the_blocks_made(model, tokens, tmp_path):
    session = make_session(model, "bfloat16", top_blocks=0.33)
    table = known(session, tokens, tmp_path / "states")
    rows = [table[i] for i in range(4)]
    inputs = collate(rows, session.hardware.device, 1 << 30)
    given = with_states(rows, inputs)
    assert given[4].dtype == torch.bfloat16
    torch.testing.assert_close(session.scorer(*given)[0], session.scorer(*inputs)[0], rtol=0.02, atol=0.02)


def _taken(seen: list) -> torch.Tensor | float:
    """What is there, if anything is."""
    return seen.pop() if seen else 0.0


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_whose_upper_blocks_look_at_more_is_computed_whole(session, strict):
    model = session.model
    lower, upper = model.base_model.model.model.layers
    seen = []

    def lower_forward(hidden_states, *args, forward=lower.forward, **kwargs):
        seen.append(hidden_states)
        return forward(hidden_states, *args, **kwargs)

    def upper_forward(hidden_states, *args, forward=upper.forward, **kwargs):
        return forward(hidden_states + (seen.pop() if strict else _taken(seen)), *args, **kwargs)

    lower.forward, upper.forward = lower_forward, upper_forward
    assert CompletionScorer(model).frozen == 0


@pytest.mark.parametrize("adapter", [{}, {"full_finetuning": True}, {"top_blocks": 1.0}])
def test_where_all_blocks_learn_none_is_frozen(model, adapter):
    assert make_session(model, **adapter).scorer.frozen == 0


def test_a_share_of_the_blocks_is_counted_from_the_top(model):
    session = make_session(model, top_blocks=0.01, lora_targets="query-value")
    assert {name.split("layers.")[1][:20] for name in session.trained()} == {
        "1.self_attn.q_proj.l",
        "1.self_attn.v_proj.l",
    }
    with pytest.raises(SettingsError, match="'nope' fits no layer"):
        make_session(model, top_blocks=0.5, lora_targets="nope")


def test_a_killed_reading_goes_on(session, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 4)
    whole = known(session, tokens, tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()

    def kill_in_the_second(count, seen=[]):  # noqa: B006
        seen.append(count)
        if sum(seen) > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(session, tokens, folder, 200, kill_in_the_second)
    resumed = []
    assert read(session, tokens, folder, 200, on_resume=resumed.append)
    assert resumed == [4]
    assert (folder / "states.bin").read_bytes() == (tmp_path / "whole" / "states.bin").read_bytes()
    states = whole[3].states.read(whole[3].place)
    assert states.shape == (len(whole[3].input_ids), 32)
    assert states.abs().max() > 0.01


def test_several_files_are_one_table(session, tokens, tmp_path):
    table = known(session, tokens, tmp_path / "states")
    twice = known_table(session, [tokens, tokens], [tmp_path / "states", tmp_path / "states"])
    assert [twice[i].place for i in (0, 8, 9, 17)] == [0, 8, 0, 8]
    assert twice[13].id == table[4].id


def test_a_full_disk_costs_time_alone(command, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert run(command) == 0
    assert "reading the data rows: 12/12 rows" in capsys.readouterr().err
    kept = scores(out)
    assert not [path for path in (out / "stages").iterdir() if "-read" in path.name]
    shutil.move(out, tmp_path / "kept")
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("forgetfilter.models.reading.shutil.disk_usage", lambda _: free)
    assert run(command) == 0
    assert "not kept, as there is too little room on the disk" in capsys.readouterr().err
    assert scores(out)["id"] == kept["id"]
    assert np.allclose(scores(out)["forgetting"], kept["forgetting"], atol=1e-5)


def test_the_final_model_learns_with_all_blocks(command, tmp_path):
    assert main([*command, "--finetune", "--finetune-epochs", "1"]) == 0

    def adapted(folder) -> set[str]:
        config = json.loads((tmp_path / "run" / folder / "adapter_config.json").read_text())
        return {name[: len("model.layers.0.")] for name in config["target_modules"]}

    assert adapted("stages/learned") == {"model.layers.1."}
    assert adapted("model") == {"model.layers.0.", "model.layers.1."}
