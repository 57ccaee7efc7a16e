"""Blocks that are never trained are gone through once, and nothing else changes."""

import json
import shutil
import weakref

import pytest
import torch
import transformers

from forgetfilter.cli import main
from forgetfilter.console import Console
from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.errors import SettingsError
from forgetfilter.models import activation_cache
from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.activations import KnownTable
from forgetfilter.models.collating import collate, with_states
from forgetfilter.models.forward import CompletionScorer
from forgetfilter.models.processes import Processes
from forgetfilter.models.scoring import Likelihood, score_in_memory
from forgetfilter.models.sources import find_model
from forgetfilter.models.stage_runner import StageRunner
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.runs.run import Stages
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import settings_of
from support.quick_runs import run, scores
from support.sessions import make_session
from support.tiny_models import make_model


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, tokenizer):
    """A file of nine rows of different length, which begin alike."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.arrow"
    rows = [
        (
            f"r{i}",
            i,
            Chat.of(f"Is it {i}?" * (1 + i % 3), "Yes. " * (1 + i)),
        )
        for i in range(9)
    ]
    assert list(write_tokens(rows, Encoder(tokenizer, "auto", 512), path))
    return path


@pytest.fixture
def session(model) -> TrainableModel:
    return make_session(model, top_blocks=0.33)


def known(session, tokens, folder) -> KnownTable:
    folder.mkdir()
    assert keep_states(session, tokens, folder, 200)
    return known_table(session, [tokens], [folder])


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
    assert session.scorer.skips
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
    monkeypatch.setattr(lowest.forward, "inner", lambda *_, **__: pytest.fail("computed again"))
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
    assert not CompletionScorer(model).skips


@pytest.mark.parametrize("kind", ["falcon", "lfm2"])
def test_models_of_other_kinds_are_trained_with_adapters_on_the_upper_half(kind, tokens, tokenizer, tmp_path):
    # Falcon's linear layers are of a class of its own; LFM2's cache cannot repeat what rows begin with.
    sizes = {"vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = {
        "falcon": lambda: transformers.FalconConfig(**sizes),
        "lfm2": lambda: transformers.Lfm2Config(
            **sizes, num_key_value_heads=2, intermediate_size=64, full_attn_idxs=[1, 3], block_auto_adjust_ff_dim=False
        ),
    }[kind]()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    session = make_session(tmp_path, top_blocks=0.5)
    assert {int(name.split(".layers." if kind == "lfm2" else ".h.")[1][0]) for name in session.trained()} == {2, 3}
    rows = [TokenTable(tokens)[i] for i in range(2)]
    logprobs = session.scorer(*collate(rows, session.hardware.device, 1 << 30))[0]
    assert torch.isfinite(logprobs).all()


def test_what_lies_below_the_trained_blocks_drops_nothing_out(tmp_path):
    model = make_session(make_model("gpt2", tmp_path), top_blocks=0.5).scorer.train().model
    dropping = [
        name for name, module in model.named_modules() if module.training and type(module).__name__ == "Dropout"
    ]
    assert dropping
    assert all(".h.1." in name for name in dropping)


@pytest.mark.parametrize("adapter", [{}, {"full_finetuning": True}, {"top_blocks": 1.0}])
def test_where_all_blocks_learn_none_is_frozen(model, adapter):
    assert not make_session(model, **adapter).scorer.skips


def test_a_share_of_the_blocks_is_counted_from_the_top(model):
    session = make_session(model, top_blocks=0.01, lora_targets="query-value")
    assert {name.split("layers.")[1][:20] for name in session.trained()} == {
        "1.self_attn.q_proj.l",
        "1.self_attn.v_proj.l",
    }
    with pytest.raises(SettingsError, match=r"'nope' fits no layer of this model; layers that can .*: q_proj, k_proj"):
        make_session(model, top_blocks=0.5, lora_targets="q_proj,nope")
    with pytest.raises(SettingsError, match=r"'0\.self_attn.q_proj' fits no layer of the top 50% of the blocks"):
        make_session(model, top_blocks=0.5, lora_targets="0.self_attn.q_proj")


def test_a_model_without_layers_for_an_adapter_is_told_apart(model, monkeypatch):
    monkeypatch.setattr("forgetfilter.models.architecture.adaptable", lambda _: [])
    with pytest.raises(SettingsError, match="everything else needs another model"):
        make_session(model)


def test_a_killed_reading_goes_on(session, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(activation_cache, "_ROWS_AT_ONCE", 4)
    whole = known(session, tokens, tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()

    def kill_in_the_second(count, seen=[]):  # noqa: B006
        seen.append(count)
        if sum(seen) > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_states(session, tokens, folder, 200, kill_in_the_second)
    resumed = []
    assert keep_states(session, tokens, folder, 200, on_resume=resumed.append)
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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_full_disk_costs_time_alone(dtype, command, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    command = [*command, "--dtype", dtype]
    assert run(command) == 0
    assert "not kept" not in capsys.readouterr().err
    kept = scores(out)
    assert not [path for path in (out / "stages").iterdir() if "-states" in path.name]
    shutil.move(out, tmp_path / "kept")
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("forgetfilter.models.activation_cache.shutil.disk_usage", lambda _: free)
    assert run(command) == 0
    assert "not kept, as the disk has too little room" in capsys.readouterr().err
    assert scores(out) == kept


def test_the_states_are_those_of_the_models_own_answers(command, tmp_path, monkeypatch):
    seen = {}
    plain = StageRunner.tokens
    monkeypatch.setattr(StageRunner, "tokens", lambda self, named: seen.update(named) or plain(self, named))
    safe = command.index("--safe")
    assert run([*command[:safe], *command[safe + 2 :], "--safe", "self"]) == 0
    assert seen["safe"] == tmp_path / "run" / "stages" / "answers" / "safe.arrow"


def test_states_go_where_a_rival_decides(command, tmp_path):
    assert run(command, "--signal", "learned-loss") == 0
    stages = {path.name for path in (tmp_path / "run" / "stages").iterdir()}
    assert "learned" in stages
    assert not [name for name in stages if "-states" in name]


def test_one_model_is_held_while_the_final_one_is_trained(command, monkeypatch):
    made, alive = [], []
    plain = TrainableModel.__init__

    def remembered(self, *args):
        alive.append(sum(session() is not None for session in made))
        made.append(weakref.ref(self))
        plain(self, *args)

    monkeypatch.setattr(TrainableModel, "__init__", remembered)
    assert run(command, "--finetune", "--finetune-epochs", "1") == 0
    assert alive == [0, 0]


def test_the_final_model_learns_with_all_blocks(command, tmp_path):
    assert main([*command, "--finetune", "--finetune-epochs", "1"]) == 0

    def adapted(folder) -> set[str]:
        config = json.loads((tmp_path / "run" / folder / "adapter_config.json").read_text())
        return {name[: len("model.layers.0.")] for name in config["target_modules"]}

    assert adapted("stages/learned") == {"model.layers.1."}
    assert adapted("model") == {"model.layers.0.", "model.layers.1."}


@pytest.mark.parametrize("several", [False, True])
def test_several_machines_keep_no_states(several, model, tokens, session, tmp_path, tokenizer):
    settings = settings_of(Settings, model=str(model), device="cpu", dtype="float32", top_blocks=0.33)
    processes = Processes("cpu")
    processes.several_machines = several
    encoder, console = Encoder(tokenizer, "auto", 512), Console(quiet=True)
    runner = StageRunner(Stages(tmp_path), find_model(str(model)), settings, encoder, console, processes)
    runner._loaded = session
    table = runner.tokens({"data": tokens})
    assert (tmp_path / "stages" / "data-states").exists() is not several
    row, length = table[3], len(table[3].input_ids)
    assert row.states.read(row.place).shape == (length, 32)
    assert (tmp_path / "stages" / "data-states").exists() is not several
