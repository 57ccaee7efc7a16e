"""The faster blocks compute what transformers' and peft's do."""

import copy

import pytest
import torch
import transformers

from forgetfilter.models.cpu import blocks as blocks_module
from forgetfilter.models.cpu.blocks import fast_block
from forgetfilter.models.trainable_model import TrainableModel
from support.sessions import make_session, randomise, stock
from support.tiny_models import make_model, make_tokenizer

IDS = torch.arange(3 * 9).view(3, 9) % 7 + torch.arange(3)[:, None] + 5
COMPLETION = torch.zeros_like(IDS, dtype=torch.bool)
COMPLETION[:, 4:] = True
PREFIX = torch.tensor([[3, 4, 5, 6, 7]])


def blocks(session: TrainableModel) -> list:
    return [module for module in session.model.modules() if fast_block(module) is not None]


def outcome(session: TrainableModel, prefix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs = session.scorer(prefix, IDS, COMPLETION)[0]
    gradients = torch.autograd.grad((logprobs * torch.arange(1, len(logprobs) + 1)).sum(), session.trained().values())
    return logprobs.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("prefix", [PREFIX[:, :0], PREFIX], ids=["alone", "after a prefix"])
@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral"])
def test_scores_and_slopes_are_those_of_the_libraries(kind, prefix, tmp_path):
    session = make_session(make_model(kind, tmp_path))
    assert len(blocks(session)) == session.model.config.num_hidden_layers
    randomise(session)
    plain = stock(session)
    assert not blocks(plain)
    (scores, slopes), (plain_scores, plain_slopes) = outcome(session, prefix), outcome(plain, prefix)
    torch.testing.assert_close(scores, plain_scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slopes, plain_slopes, rtol=1e-3, atol=1e-4)
    assert slopes.abs().max() > 0.1


def test_in_bfloat16_they_are_about_as_close_to_float32_as_those_of_the_libraries(model):
    exact = make_session(model)
    randomise(exact)
    rounded = make_session(model, "bfloat16")
    with torch.no_grad():
        for one, other in zip(rounded.model.parameters(), exact.model.parameters(), strict=True):
            one.copy_(other)
    expected = outcome(exact, PREFIX)
    for ours, theirs, right in zip(outcome(rounded, PREFIX), outcome(stock(rounded), PREFIX), expected, strict=True):
        assert (ours - right).norm() < 2 * (theirs - right).norm()
        assert (ours - right).norm() < 0.03 * right.norm()


def test_weights_are_there_once_and_are_saved_as_they_were(model, tmp_path):
    session = make_session(model)
    block = session.model.base_model.model.model.layers[0].self_attn
    q, k = (layer.base_layer.weight for layer in (block.q_proj, block.k_proj))
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr()
    session.save_whole(tmp_path / "whole", make_tokenizer())
    found, given = (
        transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (tmp_path / "whole", model)
    )
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name]) for name in given)


@pytest.mark.parametrize(
    ("kind", "adapter"),
    [
        ("gemma", {}),
        ("gpt2", {}),
        ("llama", {"lora_targets": "query-value"}),
        ("llama", {"lora_dropout": 0.1}),
        ("llama", {"full_finetuning": True}),
    ],
)
def test_what_is_not_the_usual_case_stays_as_it_is(kind, adapter, tmp_path):
    assert not blocks(make_session(make_model(kind, tmp_path), **adapter))


def test_frozen_blocks_are_replaced_as_well(model):
    session = make_session(model, lora_targets="last-block")
    assert session.scorer.frozen == 1
    assert blocks(session) == list(session.model.base_model.model.model.layers)


def test_the_last_block_does_what_is_asked_for_alone(model, monkeypatch):
    session = make_session(model)
    asked = []
    plain = blocks_module._FromAttention.apply
    monkeypatch.setattr(
        blocks_module._FromAttention,
        "apply",
        lambda parts, found, x, *more: asked.append(found.shape[:2].numel()) or plain(parts, found, x, *more),
    )
    session.scorer(PREFIX, IDS, COMPLETION)
    # Block after block: the prefix, of which the last block's output is not needed, and then the rows.
    assert asked == [PREFIX.numel(), 0, IDS.numel(), int(COMPLETION.sum())]


def test_slopes_go_through_a_block_without_adapters(model):
    session = make_session(model, lora_targets="layers.0.mlp.up_proj")
    (upper,) = blocks(session)
    assert upper is session.model.base_model.model.model.layers[-1]
    randomise(session)
    for ours, theirs in zip(outcome(session, PREFIX), outcome(stock(session), PREFIX), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_changes_of_the_adapter_are_seen(model):
    session = make_session(model)
    first = outcome(session, PREFIX)[0]
    optimizer = torch.optim.AdamW(session.trained().values(), lr=0.1)
    for parameter in session.trained().values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    trained = session.trainable()
    second = outcome(session, PREFIX)[0]
    torch.testing.assert_close(second, outcome(stock(session), PREFIX)[0])
    assert (second - first).abs().max() > 0.01
    session.reset()
    with torch.inference_mode():
        torch.testing.assert_close(session.scorer(PREFIX, IDS, COMPLETION)[0], first)
    # What was made for scoring serves training as well.
    torch.testing.assert_close(outcome(session, PREFIX)[0], first)
    session.set_trainable(trained)
    torch.testing.assert_close(outcome(session, PREFIX)[0], second)
    torch.testing.assert_close(outcome(copy.deepcopy(session), PREFIX)[0], second)
