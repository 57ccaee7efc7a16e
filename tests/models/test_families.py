"""Models of every family: their scores are those of a plain pass, and what is trained of them comes back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from forgetfilter.cli import main
from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.errors import ModelError
from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.generation import greedy
from forgetfilter.models.hidden_states import HiddenStates, View
from forgetfilter.models.loading import quiet_libraries
from forgetfilter.models.scoring import Likelihood
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from support.families import FAMILIES, NOT_CAUSAL, make_family
from support.quick_runs import QUICK

CPU = ModelSettings(device="cpu", dtype="float32")
# A dozen of different make go through a whole run in the default suite, all of them in the slow one.
RUN = "gemma3n_text gpt_oss lfm2 mamba phimoe"


@pytest.fixture(scope="module")
def table(tmp_path_factory, tokenizer):
    """Rows that begin alike, of different length, one of several turns."""
    quiet_libraries()
    path = tmp_path_factory.mktemp("tokens") / "t.arrow"
    texts = ["Yes.", "No, I would rather not do that.", "It depends."]
    rows = [(f"r{i}", i, Chat.of("Why is it so?", t)) for i, t in enumerate(texts)]
    rows.append(("r3", 3, Chat([*rows[0][2].messages, *rows[1][2].messages])))
    list(write_tokens(rows, Encoder(tokenizer, "auto", 128), path))
    return path


def test_the_documents_name_the_families():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    listed = text.partition("<!-- families -->")[2].partition("<!-- end -->")[0]
    assert listed.replace("`", "").replace(",", " ").split() == sorted(FAMILIES)


@torch.inference_mode()
def plainly(model, row):
    """The scores of a row's completion in a pass of its own."""
    ids = torch.tensor([row.input_ids.tolist()])
    logprobs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    places = np.flatnonzero(row.mask)
    return logprobs[places - 1, ids[0, places]].numpy()


def shaken(session):
    """Weights as if trained: an adapter that was never trained does nothing."""
    with torch.no_grad():
        for name, parameter in session.trained().items():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.manual_seed(len(name))))
    session.lanes.count = 1


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_scores_of_a_family_are_those_of_a_plain_pass(kind, table, tokenizer, tmp_path, monkeypatch):
    # Every beginning is worth sharing.
    monkeypatch.setattr(TrainableModel, "pass_overhead", 0)
    source = find_model(str(make_family(kind, tmp_path / "m")))
    session = TrainableModel(source, CPU, AdapterSettings(top_blocks=0.5), 0)
    shaken(session)
    rows = [TokenTable(table)[i] for i in range(4)]
    expected = [plainly(session.model.eval(), row) for row in rows]

    def agree(given):
        for result, scores in zip(Likelihood(session, 1000).score(given), expected, strict=True):
            np.testing.assert_allclose(result["logprobs"], scores, rtol=0, atol=5e-6)

    agree(rows)
    if session.scorer.skips:
        folder = tmp_path / "states"
        folder.mkdir()
        assert keep_states(session, table, folder, 1000)
        kept = known_table(session, [table], [folder])
        agree([kept[i] for i in range(4)])
    # What is saved comes back, and nothing else.
    session.save(tmp_path / "s", tokenizer)
    session.reset()
    assert not np.allclose(Likelihood(session, 1000).score(rows[:1])[0]["logprobs"], expected[0], atol=1e-6)
    session.load(tmp_path / "s")
    agree(rows)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_can_be_looked_into(kind, table, tmp_path):
    session = TrainableModel(find_model(str(make_family(kind, tmp_path))), CPU, AdapterSettings(top_blocks=0.5), 0)
    rows = [TokenTable(table)[i] for i in range(4)]
    scorer = HiddenStates(session, 1000, [View("beginning", 0.5), View("beginning", 0.75)])
    alone = [scorer.score([row])[0]["states"] for row in rows]
    assert np.isfinite(alone).all()
    assert np.std(alone) > 0
    if not session.scorer.alone:
        together = [result["states"] for result in scorer.score(rows)]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_answers_of_a_family_are_what_it_finds_likeliest(kind, table, tokenizer, tmp_path):
    session = TrainableModel(find_model(str(make_family(kind, tmp_path))), CPU, AdapterSettings(), 0)
    shaken(session)
    rows = [TokenTable(table)[i] for i in (0, 3)]
    prompts = [row.input_ids[: row.prompt_ends[-1]] for row in rows]
    answers = greedy(session, tokenizer, prompts, [4, 6])
    for prompt, limit, answer in zip(prompts, (4, 6), answers, strict=True):
        said = prompt.tolist()
        for _ in range(limit):
            with torch.inference_mode():
                token = int(session.model(input_ids=torch.tensor([said]), use_cache=False).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            said.append(token)
        assert answer == tokenizer.decode(said[len(prompt) :], skip_special_tokens=True)


@pytest.mark.parametrize("kind", NOT_CAUSAL.split())
def test_what_sees_the_tokens_that_it_is_asked_for_is_refused(kind, tmp_path):
    source = find_model(str(make_family(kind, tmp_path)))
    with pytest.raises(ModelError, match=r"later tokens change earlier scores|not a decoder-only") as error:
        TrainableModel(source, CPU, AdapterSettings(), 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in RUN.split() else pytest.mark.slow) for k in FAMILIES]
)
def test_a_whole_run_with_a_family(kind, noisy, safe, tmp_path):
    model, run = make_family(kind, tmp_path / "m"), tmp_path / "run"
    given = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run)]
    assert main([*given, *QUICK, "--finetune", "--finetune-epochs", "1"]) == 0
    assert (run / "model" / "adapter_model.safetensors").is_file()
    # What comes out is a model like any other, on its base.
    assert TrainableModel(find_model(str(run / "model")), CPU, AdapterSettings(), 0).size > 0
