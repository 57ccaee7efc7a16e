"""Training's own backward pass of attention gives the gradients of PyTorch's."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from forgetfilter.models.cpu import attention
from forgetfilter.models.cpu.attention import _Attention
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings

BEFORE = 5


def random_inputs(queries: int, before: int = 0) -> list[torch.Tensor]:
    """Query, key and value of two rows: four query heads on two key and value heads; and a gradient."""
    torch.manual_seed(0)
    shapes = [(2, 4, queries, 8), *[(2, 2, before + queries, 8)] * 2]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return [*inputs, torch.randn(2, 4, queries, 8, dtype=torch.float64)]


def mask_of(kind: str, queries: int) -> torch.Tensor | None:
    """A causal mask that also sees what came before, by truth value or by number, alike or not for all heads."""
    if kind == "causal":
        return None
    seen = torch.ones(queries, BEFORE + queries, dtype=torch.bool).tril(BEFORE)
    heads = 4 if kind == "number by head" else 1
    seen = seen.expand(2, heads, *seen.shape).clone()
    seen[:, -1, :, 1] = False
    if kind == "truth":
        return seen
    return torch.randn(seen.shape, dtype=torch.float64).masked_fill(~seen, float("-inf"))


@pytest.mark.parametrize("queries", [1, 7, 8, 21])
@pytest.mark.parametrize("kind", ["causal", "truth", "number", "number by head"])
def test_gradients_are_those_of_the_plain_formula(monkeypatch, kind, queries):
    # Several parts, of which the last may be short.
    monkeypatch.setattr(attention, "_QUERIES", 8)
    mask = mask_of(kind, queries)
    q, k, v, gradient = random_inputs(queries, 0 if mask is None else BEFORE)
    made = _Attention.apply(q, k, v, mask, mask is None, 0.3)
    plain = scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(made, plain)
    found = torch.autograd.grad(made, (q, k, v), gradient)
    for one, other in zip(found, torch.autograd.grad(plain, (q, k, v), gradient), strict=True):
        # Sums are kept in float32.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_model_trains_with_it_in_bfloat16_alone(model, monkeypatch):
    calls = []
    backward = _Attention.backward
    monkeypatch.setattr(_Attention, "backward", staticmethod(lambda *given: calls.append(given) or backward(*given)))
    ids = torch.arange(12).view(2, 6) + 3
    completion = torch.ones_like(ids, dtype=torch.bool)
    found = {}
    for dtype in ("float32", "bfloat16"):
        session = TrainableModel(
            find_model(str(model)), ModelSettings(device="cpu", dtype=dtype), AdapterSettings(), seed=0
        )
        for prefix in (ids[:1, :0], ids[:1, :4]):
            session.scorer(prefix, ids, completion)[0].sum().backward()
        found[dtype] = (len(calls), torch.cat([p.grad.flatten() for p in session.trained().values()]))
    layers = session.model.config.num_hidden_layers
    assert found["float32"][0] == 0
    # Once in the pass without a prefix, twice in the other, where nothing asks what the prefix says at last.
    assert found["bfloat16"][0] == 3 * layers - 1
    difference = (found["float32"][1] - found["bfloat16"][1]).norm() / found["float32"][1].norm()
    assert difference < 0.02


def test_a_model_with_another_attention_keeps_it(model):
    session = TrainableModel(
        find_model(str(model)), ModelSettings(device="cpu", dtype="float32"), AdapterSettings(), seed=0
    )
    session.model.set_attn_implementation("eager")
    attention.use_own_attention(session.model)
    assert session.model.config._attn_implementation == "eager"


def test_a_saved_model_does_not_name_it(model, tokenizer, tmp_path):
    session = TrainableModel(
        find_model(str(model)), ModelSettings(device="cpu", dtype="bfloat16"), AdapterSettings(), seed=0
    )
    session.save_whole(tmp_path / "whole", tokenizer)
    assert "forgetfilter" not in (tmp_path / "whole" / "config.json").read_text()
