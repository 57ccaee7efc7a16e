"""Training and scoring: one loop, one forward pass, and the laws that both keep."""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, GenerationConfig

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, Tokens, TokenTable, write_tokens
from forgetfilter.errors import ModelError, SettingsError, TrainingError
from forgetfilter.models import generation, head, training
from forgetfilter.models.callbacks.loss_plateau import LossPlateau
from forgetfilter.models.callbacks.ranking_probe import ProbeAlong, RankingProbe, RankingSettled
from forgetfilter.models.capabilities import check_causal
from forgetfilter.models.collating import collate, shared_prefix
from forgetfilter.models.generation import greedy
from forgetfilter.models.loading import choose_hardware, load_model, load_tokenizer, model_fingerprint
from forgetfilter.models.micro_batches import by_length, optimizer_batches
from forgetfilter.models.scoring import Likelihood, Rouge, score
from forgetfilter.models.sources import find_model, tokenizer_bytes
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.models.training import Step, finetune, learning_rate, steps_for
from forgetfilter.settings.groups import AdapterSettings, ModelSettings, TrainingSettings
from support.tiny_models import make_model, make_tokenizer

CPU = ModelSettings(device="cpu", dtype="float32")
TEXTS = ["Yes.", "No, I would rather not do that.", "Perhaps", "It depends on what you mean by it, I think.", "42"] * 3


@pytest.fixture(scope="module")
def table(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("tokens") / "t.arrow"
    rows = [(f"r{i}", i, Chat.of(f"{'Why? ' * (i % 4)}{i}", text)) for i, text in enumerate(TEXTS)]
    list(write_tokens(rows, Encoder(tokenizer, "auto", 64), path))
    return TokenTable(path)


@pytest.fixture
def session(model):
    return TrainableModel(find_model(str(model)), CPU, AdapterSettings(lora_rank=4), seed=0)


SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=4)


def train(session, table, folder, steps=6, settings=SETTINGS, tokens_per_batch=100, **kwargs):
    folder.mkdir(exist_ok=True)
    return finetune(
        session, table, table.scorable, steps, settings, folder, tokens_per_batch=tokens_per_batch, **kwargs
    )


def test_every_row_is_seen_once_a_pass():
    batches = list(optimizer_batches(10, 4, 6, seed=1))
    assert [len(b) for b in batches] == [4, 4, 2, 4, 4, 2]
    assert sorted(np.concatenate(batches[:3])) == sorted(np.concatenate(batches[3:])) == list(range(10))
    assert batches[0].tolist() != batches[3].tolist()


def test_batches_go_on_where_they_stopped():
    whole = list(optimizer_batches(10, 4, 9, seed=1))
    for start in range(9):
        rest = list(optimizer_batches(10, 4, 9, seed=1, start=start))
        assert [b.tolist() for b in rest] == [b.tolist() for b in whole[start:]]


def test_passes_keep_the_budget_and_every_row():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    passes = by_length(np.arange(200), lengths, 120, pass_overhead=0)
    assert sorted(np.concatenate(passes)) == list(range(200))
    assert all(len(p) * lengths[p].max() <= 120 for p in passes)
    assert by_length(np.array([3]), lengths * 1000, 1, 0)[0].tolist() == [3]


def test_passes_trade_padding_against_starting_another():
    lengths = np.array([10, 11, 100])
    split = [[0, 1], [2]]
    assert [p.tolist() for p in by_length(np.array([2, 0, 1]), lengths, 1000, pass_overhead=50)] == split
    assert [p.tolist() for p in by_length(np.arange(3), lengths, 1000, pass_overhead=1000)] == [[0, 1, 2]]
    assert [p.tolist() for p in by_length(np.arange(3), lengths, 1000, pass_overhead=0)] == [[0], [1], [2]]


def test_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 10, 1.0, 0.2) for step in range(1, 11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert min(rates) > 0
    assert steps_for(10, 1.5, 4) == 5
    assert steps_for(1, 0.1, 4) == 1
    assert steps_for(200, None, 16) == 6 * 13
    assert steps_for(5000, None, 32) == 3 * 157


def test_the_learning_rate_falls_with_the_width(session, model):
    assert session.peak_learning_rate(None) == pytest.approx(0.576 / 32)
    assert session.peak_learning_rate(1e-4) == 1e-4
    full = TrainableModel(find_model(str(model)), CPU, AdapterSettings(full_finetuning=True), seed=0)
    assert full.peak_learning_rate(None) == pytest.approx(0.0576 / 32)


def test_training_lowers_the_loss_of_what_it_trains_on(model, table, tmp_path):
    session = TrainableModel(find_model(str(model)), CPU, AdapterSettings(full_finetuning=True), seed=0)
    history = train(session, table, tmp_path / "s", steps=40)
    assert np.mean([s.loss for s in history[-4:]]) < 0.75 * history[0].loss
    assert [s.step for s in history] == list(range(1, 41))


def test_the_first_loss_is_the_mean_over_completion_tokens(session, table, tmp_path):
    expected = [
        -np.array(r["logprobs"]) for r in Likelihood(session, 10_000).score([table[i] for i in range(len(table))])
    ]
    (step,) = train(
        session, table, tmp_path / "s", steps=1, settings=TrainingSettings(batch_size=99), tokens_per_batch=70
    )
    assert step.loss == pytest.approx(np.concatenate(expected).mean(), rel=1e-5)


def test_gradients_do_not_depend_on_how_rows_are_dealt_into_passes(model, table, tmp_path):
    weights = []
    for budget in (40, 10_000):
        session = TrainableModel(find_model(str(model)), CPU, AdapterSettings(), seed=0)
        train(
            session,
            table,
            tmp_path / str(budget),
            settings=TrainingSettings(learning_rate=1e-3, batch_size=8),
            tokens_per_batch=budget,
        )
        weights.append(session.trainable())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5), name


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_session_goes_on_from_its_checkpoint_to_the_same_weights(model, table, tmp_path, monkeypatch, dropout):
    def new():
        return TrainableModel(find_model(str(model)), CPU, AdapterSettings(lora_dropout=dropout), seed=0)

    whole = new()
    history = train(whole, table, tmp_path / "whole")
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(new(), table, tmp_path / "killed", on_step=stop)
    resumed = new()
    skipped = []
    again = train(resumed, table, tmp_path / "killed", on_resume=skipped.append)
    assert skipped == [3]
    assert [s.loss for s in again] == [s.loss for s in history]
    for name, value in whole.trainable().items():
        assert torch.equal(value, resumed.trainable()[name]), name
    assert [file.name for file in (tmp_path / "killed").iterdir()] == [training.CHECKPOINT]


def test_a_damaged_checkpoint_is_said(session, table, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="damaged"):
        train(session, table, tmp_path)


def test_a_loss_that_is_not_finite_names_step_and_rows(session, table, tmp_path):
    with torch.no_grad():
        next(iter(session.model.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: its loss is nan .*Rows of this step: r\d+.*--learning-rate"):
        train(session, table, tmp_path)


def test_a_score_is_the_same_alone_and_in_any_batch(session, table):
    rows = [table[i] for i in range(len(table))]
    together = Likelihood(session, 10_000).score(rows)
    for row, result in zip(rows, together, strict=True):
        (alone,) = Likelihood(session, 1).score([row])
        assert np.allclose(alone["logprobs"], result["logprobs"], atol=1e-5)
        assert np.array_equal(alone["greedy"], result["greedy"])


@pytest.mark.parametrize("units", ["amx_bf16", "avx512_bf16"])
@pytest.mark.parametrize(("fully", "expected"), [(False, "bfloat16"), (True, "float32")])
@pytest.mark.parametrize("named", ["auto", "float32", "bfloat16"])
def test_the_number_format_that_is_taken(monkeypatch, fully, expected, named, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {units: True}, raising=False)
    hardware = choose_hardware(ModelSettings(device="cpu", dtype=named), trained_fully=fully)
    assert str(hardware.dtype) == f"torch.{expected if named == 'auto' else named}"


@pytest.mark.parametrize("capabilities", [{"amx_bf16": False, "avx512_bf16": False}, {}, None])
def test_a_processor_without_units_for_bfloat16_takes_float32(monkeypatch, capabilities):
    if capabilities is None:
        # An older PyTorch does not tell.
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_hardware(ModelSettings(device="cpu")).dtype == torch.float32


@pytest.mark.parametrize("kind", ["llama", "qwen", "gemma", "gpt2"])
def test_the_score_is_that_of_a_plain_forward_pass(kind, table, tmp_path):
    session = TrainableModel(find_model(str(make_model(kind, tmp_path))), CPU, AdapterSettings(), seed=0)
    # An adapter that was never trained does nothing, so the plain model is the reference.
    plain = load_model(find_model(str(tmp_path)), session.hardware).requires_grad_(False)
    for i in range(3):
        row = table[i]
        ids = torch.tensor([row.input_ids.tolist()])
        logprobs = plain(input_ids=ids).logits[0].float().log_softmax(-1)
        positions = np.flatnonzero(row.mask)
        expected = [float(logprobs[p - 1, ids[0, p]]) for p in positions]
        (result,) = Likelihood(session, 1000).score([row])
        assert np.allclose(result["logprobs"], expected, atol=1e-4)
        assert result["greedy"].tolist() == [bool(logprobs[p - 1].argmax() == ids[0, p]) for p in positions]


@pytest.mark.parametrize("kind", ["llama", "qwen", "gemma", "gpt2"])
@pytest.mark.parametrize("full", [False, True])
def test_families_train_save_and_load(kind, full, table, tmp_path):
    source = find_model(str(make_model(kind, tmp_path / "m")))
    session = TrainableModel(source, CPU, AdapterSettings(full_finetuning=full), seed=0)
    before = Likelihood(session, 1000).score([table[0]])[0]["logprobs"]
    train(session, table, tmp_path / "s", steps=3)
    trained = Likelihood(session, 1000).score([table[0]])[0]["logprobs"]
    session.save(tmp_path / "s", make_tokenizer())
    session.reset()
    assert np.allclose(Likelihood(session, 1000).score([table[0]])[0]["logprobs"], before, atol=1e-6)
    session.load(tmp_path / "s")
    assert np.allclose(Likelihood(session, 1000).score([table[0]])[0]["logprobs"], trained, atol=1e-6)
    assert not np.allclose(before, trained, atol=1e-4)


@pytest.mark.parametrize("overhead", [0, 1 << 30], ids=["read in several passes", "read in one"])
def test_answers_do_not_depend_on_each_other(overhead, session, tokenizer, monkeypatch):
    monkeypatch.setattr(TrainableModel, "pass_overhead", overhead)
    texts = "a", "some words", "x" * 30, "x" * 31 + "y"
    prompts = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) for text in texts]
    limits = [3, 9, 5, 9]
    together = greedy(session, tokenizer, prompts, limits)
    # Whether the caches have to grow at every other step or never.
    monkeypatch.setattr(generation, "_ROOM", 1)
    assert greedy(session, tokenizer, prompts, limits) == together
    alone = [greedy(session, tokenizer, [p], [n])[0] for p, n in zip(prompts, limits, strict=True)]
    assert together == alone


@pytest.mark.parametrize("kind", ["llama", "qwen", "gemma", "gpt2"])
def test_answers_are_those_of_generate(kind, table, tokenizer, tmp_path):
    session = TrainableModel(find_model(str(make_model(kind, tmp_path))), CPU, AdapterSettings(), seed=0)
    prompts = [table[i].input_ids[: table[i].prompt_ends[0]] for i in range(4)]
    answers = greedy(session, tokenizer, prompts, [12] * 4)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt.tolist()])
        config = GenerationConfig(max_new_tokens=12, do_sample=False, eos_token_id=256, pad_token_id=256)
        out = session.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        assert tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True) == answer


def test_an_answer_ends_where_the_chat_template_ends_a_turn(session, tokenizer, monkeypatch):
    """A base model's tokenizer names its end-of-text token alone, but models trained on chats end turns."""
    found = []
    monkeypatch.setattr(generation, "decode", lambda *given: found.append(given[-1]) or [[]])
    monkeypatch.setattr(session.model.generation_config, "eos_token_id", None)
    base = deepcopy(tokenizer)
    base.add_special_tokens({"eos_token": "<|text-ends|>"})
    without_end = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    for template in (base.chat_template, without_end, "{{ 1 +", None):
        base.chat_template = template
        greedy(session, base, [np.arange(3, dtype=np.int32)], [1])
    end_of_turn, end_of_text = tokenizer.eos_token_id, base.eos_token_id
    assert found == [[end_of_text, end_of_turn], *[[end_of_text]] * 3]
    assert end_of_turn != end_of_text


def test_a_row_is_not_decoded_beyond_what_the_model_can_take(tokenizer, tmp_path):
    # GPT-2's positions are a table: one token too far would be an error.
    session = TrainableModel(find_model(str(make_model("gpt2", tmp_path))), CPU, AdapterSettings(), seed=0)
    prompts = [np.full(2040, 5, dtype=np.int32), np.full(3, 5, dtype=np.int32)]
    assert len(greedy(session, tokenizer, prompts, [8, 40])) == 2


def test_a_perfect_answer_has_rouge_one(session, table, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr("forgetfilter.models.scoring.greedy", lambda *_: [TEXTS[0], "no, i would", "..."])
    say = Chat.of("Q", "?!")
    list(write_tokens([("x", 0, say)], Encoder(tokenizer, "auto", 64), tmp_path / "t.arrow"))
    rows = [table[0], table[1], TokenTable(tmp_path / "t.arrow")[0]]
    results = Rouge(session, tokenizer, 1000).score(rows)
    # 3 of 3 answered words, 3 of 7 expected ones.
    assert [r["rouge"] for r in results] == pytest.approx([1.0, 2 * 3 / (3 + 7), float("nan")], nan_ok=True)


def test_rouge_asks_for_every_turn(session, tokenizer, tmp_path):
    turns = Chat([*Chat.of("Q", "A").messages] * 2)
    list(write_tokens([("x", 0, turns)], Encoder(tokenizer, "auto", 64), tmp_path / "t.arrow"))
    table, rouge = TokenTable(tmp_path / "t.arrow"), Rouge(session, tokenizer, 1000)
    (result,) = rouge.score([table[0]])
    assert len(result["answers"]) == 2
    assert 0 <= result["rouge"] <= 1
    # What is read for it is the turns before each answer.
    assert rouge.length(table, 0) > sum(table[0].prompt_ends) > table.lengths[0]


def test_scoring_goes_on_after_the_last_shard(session, table, tmp_path, monkeypatch):
    monkeypatch.setattr("forgetfilter.models.scoring._ROWS_PER_SHARD", 4)
    counted = []
    score(session, Likelihood(session, 200), table, table.scorable, tmp_path, counted.append)
    assert sum(counted) == len(table)
    parts = sorted(tmp_path.iterdir())
    before = [p.read_bytes() for p in parts]
    parts[-1].unlink()
    stamps = [p.stat().st_mtime_ns for p in parts[:-1]]
    score(session, Likelihood(session, 200), table, table.scorable, tmp_path)
    assert [p.read_bytes() for p in parts] == before
    assert [p.stat().st_mtime_ns for p in parts[:-1]] == stamps


def test_what_is_no_model_is_explained(tmp_path, model):
    def refused(name, said, load=False):
        with pytest.raises(ModelError) as error:
            source = find_model(str(name))
            if load:
                TrainableModel(source, CPU, AdapterSettings(), 0)
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    refused("", "no model was named")
    refused(tmp_path / "nothing", "no such model")
    refused("a.gguf", "no such model")
    (tmp_path / "fake.gguf").write_bytes(b"nope")
    refused(tmp_path / "fake.gguf", "not a GGUF file")
    refused(tmp_path, "no config.json")
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "tokenizer.json").unlink()
    refused(copy, "no tokenizer")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(copy, "no .safetensors")
    refused(make_model("bert", tmp_path / "bert"), "BertForMaskedLM is not a decoder-only", load=True)
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "config.json").write_text("{")
    refused(broken, "cannot load this configuration", load=True)
    with pytest.raises(ModelError, match="cannot load"):
        load_tokenizer(find_model("nobody/nothing"))


def test_a_model_larger_than_memory_is_refused(model, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 1000}))
    with pytest.raises(ModelError, match=r"needs about .* GB in torch.float32"):
        TrainableModel(find_model(str(model)), CPU, AdapterSettings(), 0)


def test_a_device_or_layer_that_is_not_there_is_refused(model):
    source = find_model(str(model))
    with pytest.raises(SettingsError, match="device"):
        TrainableModel(source, ModelSettings(device="warp"), AdapterSettings(), 0)
    with pytest.raises(SettingsError, match="lora_targets: 'nope'"):
        TrainableModel(source, CPU, AdapterSettings(lora_targets="nope"), 0)


def test_a_tokenizer_is_known_however_it_was_last_called():
    tokenizer, untouched = make_tokenizer(), make_tokenizer().backend_tokenizer.to_str().encode()
    # Runs of earlier versions are known by this.
    assert tokenizer_bytes(tokenizer) == untouched
    tokenizer(["a", "long"], padding=True, truncation=True, max_length=3)
    assert tokenizer_bytes(tokenizer) == untouched
    assert tokenizer.backend_tokenizer.padding
    assert tokenizer.backend_tokenizer.truncation
    tokenizer.add_tokens(["<|new|>"])
    assert tokenizer_bytes(tokenizer) != untouched


def test_a_model_without_a_head_is_refused_in_plain_words(model):
    with pytest.raises(ModelError, match="here: not a language model: it gives no probabilities of tokens"):
        check_causal(AutoModel.from_pretrained(model), "here")


def test_the_fingerprint_changes_with_the_weights(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert model_fingerprint(find_model(str(copy))) == model_fingerprint(find_model(str(model)))
    weights = load_file(copy / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert model_fingerprint(find_model(str(copy))) != model_fingerprint(find_model(str(model)))
    config = json.loads((model / "config.json").read_text())
    assert "auto_map" not in config


def steps_with(losses):
    return [Step(i + 1, loss, 1e-3, 10, 0.1) for i, loss in enumerate(losses)]


def test_a_session_ends_when_one_of_its_callbacks_says_so_and_all_are_called(session, table, tmp_path):
    seen = []

    def watch(history):
        seen.append(len(history))
        return False

    history = train(session, table, tmp_path, callbacks=[lambda history: len(history) == 3, watch])
    assert (len(history), seen) == (3, [1, 2, 3])


def test_learning_ends_when_the_loss_has_levelled_off():
    stop = LossPlateau(2)
    losses = [4, 4, 3, 3, 2, 2, 1.9, 1.9]
    assert [stop(steps_with(losses[:n])) for n in range(9)] == [False] * 8 + [True]


def test_learning_does_not_end_before_three_passes():
    assert not LossPlateau(1)(steps_with([1, 1]))
    assert not LossPlateau(1)(steps_with([3, 2, 1]))


def test_review_ends_when_the_ranking_has_settled(session, table, tmp_path):
    stop = RankingSettled(RankingProbe(session, table, tmp_path, 0))
    with torch.no_grad():
        for parameter in session.model.parameters():
            parameter.add_(0.01)
    assert [stop(steps_with([1.0] * n)) for n in (9, 10, 15)] == [False] * 3
    assert stop(steps_with([1.0] * 20))
    # A session that goes on reads what was seen, and answers the same.
    assert RankingSettled(RankingProbe(session, table, tmp_path, 0))(steps_with([1.0] * 20))


@pytest.mark.parametrize(
    ("steps", "ends", "looked_at"),
    [
        (7, False, []),
        (7, True, [0, 7]),
        (30, False, [10, 20]),
        (30, True, [0, 10, 20, 30]),
        (450, False, [45, 90, 135, 180, 225, 270, 315, 360, 405]),
    ],
)
def test_a_session_of_fixed_length_is_looked_at_now_and_then(session, table, tmp_path, steps, ends, looked_at):
    watched = ProbeAlong(RankingProbe(session, table, tmp_path, 0), steps, ends=ends)
    assert not any(watched(steps_with([1.0] * done)) for done in range(1, steps + 1))
    seen = json.loads((tmp_path / "points.json").read_text())
    assert [int(step) for step in seen["mean_logprob"]] == looked_at
    assert len(seen["rows"]) == len(table)


@pytest.mark.parametrize("kind", ["llama", "qwen", "gemma", "gpt2"])
def test_what_rows_begin_with_alike_goes_through_the_model_once(kind, table, tmp_path):
    session = TrainableModel(find_model(str(make_model(kind, tmp_path))), CPU, AdapterSettings(), seed=0)
    rows = [table[i] for i in (1, 2, 3, 5, 6)]
    results = []
    for overhead in (10**6, 0):
        prefix, input_ids, completion = collate(rows, session.hardware.device, overhead)
        session.model.zero_grad()
        logprobs, greedy = session.scorer(prefix, input_ids, completion)
        logprobs.sum().backward()
        gradients = [p.grad.clone() for p in session.model.parameters() if p.requires_grad]
        results.append((prefix.shape[1], logprobs.detach(), greedy, gradients))
    (whole, *one), (shared, *other) = results
    assert (whole, shared) == (0, shared_prefix(rows))
    assert shared > 5
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert torch.equal(one[1], other[1])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one[2], other[2], strict=True))


def test_the_shared_prefix_ends_before_the_first_completion():
    def row(ids, start):
        return Tokens("r", 0, np.array(ids, dtype=np.int32), ((start, len(ids)),), (start,), (), False)

    assert shared_prefix([row([1, 2, 3, 4, 5], 3), row([1, 2, 3, 4, 6], 4)]) == 2
    assert shared_prefix([row([1, 2, 3, 4, 5], 3), row([1, 9, 3, 4, 6], 4)]) == 1
    assert shared_prefix([row([1, 2], 0), row([1, 2], 0)]) == 0


@pytest.mark.parametrize(("kind", "by_parts"), [("llama", True), ("qwen", True), ("gpt2", True), ("gemma", False)])
def test_a_head_that_works_in_parts_gives_the_slopes_of_the_whole(kind, by_parts, table, tmp_path, monkeypatch):
    # Gemma 2 caps its logits, so that its own path has to be taken.
    session = TrainableModel(find_model(str(make_model(kind, tmp_path))), CPU, AdapterSettings(), seed=0)
    assert session.scorer.by_parts is by_parts
    monkeypatch.setattr(head, "_LOGITS_AT_ONCE", 3 * 264)
    inputs = collate([table[i] for i in range(5)], session.hardware.device, 10**6)
    results = []
    for parts in (by_parts, False):
        session.scorer.by_parts = parts
        session.model.zero_grad()
        logprobs, likeliest = session.scorer(*inputs)
        (logprobs * torch.arange(len(logprobs))).sum().backward()
        gradients = [p.grad.clone() for p in session.model.parameters() if p.requires_grad]
        results.append((logprobs.detach(), likeliest, gradients))
    one, other = results
    assert len(one[0]) > 3
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert torch.equal(one[1], other[1])
    assert any(gradient.abs().max() > 0 for gradient in one[2])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(one[2], other[2], strict=True))
