"""Mean hidden states of parts of rows."""

import numpy as np
import pytest
import torch

from forgetfilter.data.tokens import Tokens
from forgetfilter.models.hidden_states import BEGINNING, HiddenStates, View
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings


def row(number: int, length: int, spans) -> Tokens:
    ids = (np.arange(length, dtype=np.int32) * (number + 3) + number) % 256
    return Tokens(f"r{number}", number, ids, spans, tuple(start for start, _ in spans), (), False)


ROWS = [row(0, 9, ((3, 9),)), row(1, 80, ((10, 50), (55, 80))), row(2, 5, ((0, 2), (4, 5)))]
VIEWS = [View("answer", 0.0), View("beginning", 0.5), View("beginning", 1.0)]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def session(request, tmp_path_factory):
    from support.tiny_models import make_model

    model, adapter = ModelSettings(device="cpu", dtype="float32"), AdapterSettings(top_blocks=0.5)
    folder = make_model(request.param, tmp_path_factory.mktemp("model"))
    return TrainableModel(find_model(str(folder), None), model, adapter, 0)


def expected(session, tokens: Tokens, view: View) -> np.ndarray:
    kept: dict[int, torch.Tensor] = {}
    layers = [m for m in session.model.modules() if type(m).__name__ in ("LlamaDecoderLayer", "GPT2Block")]
    hooks = [
        layer.register_forward_hook(
            lambda _m, _i, out, i=i: kept.update({i + 1: out[0] if isinstance(out, tuple) else out})
        )
        for i, layer in enumerate(layers)
    ]
    ids = torch.from_numpy(tokens.input_ids.astype(np.int64))[None]
    with torch.no_grad():
        kept[0] = session.model.get_input_embeddings()(ids)
        session.model.eval()(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    inside = tokens.mask.copy()
    if view.part == "beginning":
        for start, end in tokens.spans:
            inside[start + BEGINNING : end] = False
    states = kept[round(view.depth * len(layers))]
    return states.reshape(len(inside), -1)[inside].mean(axis=0).numpy()


def test_they_are_those_of_a_plain_pass(session):
    found = HiddenStates(session, 1000, VIEWS).score(ROWS)
    for tokens, of_row in zip(ROWS, found, strict=True):
        for view, part in zip(VIEWS, np.split(of_row["states"], len(VIEWS)), strict=True):
            assert np.allclose(part, expected(session, tokens, view), atol=1e-5), view


def test_a_beginning_that_rows_share_goes_through_the_model_once(session, monkeypatch):
    rows = [row(0, 30, ((25, 30),)), row(1, 80, ((24, 50), (55, 80))), row(2, 28, ((25, 26),))]
    for tokens in rows:
        tokens.input_ids[:20] = np.arange(20)
    scorer = HiddenStates(session, 1000, VIEWS)
    monkeypatch.setattr(TrainableModel, "pass_overhead", 1)
    lengths = []
    session.model.get_input_embeddings().register_forward_hook(lambda _m, args, _o: lengths.append(args[0].shape))
    found = scorer.score(rows)
    assert (1, 20) in lengths
    assert (3, 60) in lengths
    for tokens, of_row in zip(rows, found, strict=True):
        for view, part in zip(VIEWS, np.split(of_row["states"], len(VIEWS)), strict=True):
            assert np.allclose(part, expected(session, tokens, view), atol=1e-5), view


def test_the_head_is_given_no_tokens(session):
    """That of a large vocabulary takes longer than all blocks; after fast blocks it is not called at all."""
    scorer, given = HiddenStates(session, 1000, VIEWS), []
    head = session.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _m, args, _o: given.append(args[0].numel()))
    scorer.score(ROWS)
    hook.remove()
    assert not any(given)
    assert bool(given) == ("GPT2" in type(session.model.get_base_model()).__name__)


def test_scoring_goes_on_as_before(session):
    from forgetfilter.models.scoring import Likelihood

    def scores():
        return [result["logprobs"] for result in Likelihood(session, 1000).score(ROWS)]

    before = scores()
    HiddenStates(session, 1000, VIEWS).score(ROWS)
    assert all(np.array_equal(one, other) for one, other in zip(before, scores(), strict=True))


@pytest.mark.parametrize("overhead", [0, 1 << 60], ids=["shared", "apart"])
def test_what_the_frozen_blocks_make_is_taken_where_it_is_kept(session, tmp_path, monkeypatch, overhead):
    from forgetfilter.data.chats import Chat
    from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
    from forgetfilter.models.activation_cache import keep_states, known_table
    from forgetfilter.models.loading import load_tokenizer

    assert session.scorer.skips
    encoder = Encoder(load_tokenizer(find_model(str(session.model.config._name_or_path), None)), "plain", 64)
    rows = [(f"r{i}", i, Chat.of(f"prompt {i}", f"an answer of some length, {i}")) for i in range(5)]
    path = tmp_path / "rows.arrow"
    for _ in write_tokens(rows, encoder, path):
        pass
    keep_states(session, path, tmp_path, 1000)
    plain, known = TokenTable(path), known_table(session, [path], [tmp_path])
    monkeypatch.setattr(TrainableModel, "pass_overhead", overhead)
    scorer = HiddenStates(session, 1000, VIEWS[1:])
    one, other = ([r["states"] for r in scorer.score([table[i] for i in range(5)])] for table in (plain, known))
    assert np.allclose(one, other, atol=1e-5)
