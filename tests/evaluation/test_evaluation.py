"""`forgetfilter evaluate` on a tiny model: what it writes, that it goes on, what it refuses."""

import json
import shutil
import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch

import forgetfilter.evaluation.evaluate
import forgetfilter.evaluation.held_out
import forgetfilter.models.scoring
import forgetfilter.runs.files
from forgetfilter.classifiers.judge import TRIED, judge, load_judge
from forgetfilter.classifiers.toxicity import toxicity_classifier
from forgetfilter.cli import main
from forgetfilter.console import Console
from forgetfilter.data.containers import open_container
from forgetfilter.data.tokens import Encoder
from forgetfilter.errors import BadRowsError, ModelError, SettingsError
from forgetfilter.evaluation.evaluate import evaluate
from forgetfilter.evaluation.held_out import read_held_out
from forgetfilter.evaluation.jailbreaks import JAILBREAKS
from forgetfilter.evaluation.results import read_evaluation
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.runs.layout import SHARDS
from forgetfilter.settings.groups import AdapterSettings, EvaluationSettings, ModelSettings
from forgetfilter.settings.option import settings_of
from support.held_out import OPTIONS, QUICK, ROWS, bbq
from support.quick_runs import write_jsonl
from support.tiny_models import make_model, make_tokenizer


@pytest.fixture
def held_out(tmp_path):
    return write_jsonl(tmp_path / "held-out.jsonl", ROWS)


@pytest.fixture
def command(held_out, model, tmp_path):
    return ["evaluate", str(held_out), "--model", str(model), "--output", str(tmp_path / "eval"), *QUICK]


@pytest.fixture
def refused(capsys):
    def check(arguments, *said):
        assert main([str(a) for a in arguments]) == 2
        shown = capsys.readouterr().err
        for part in said:
            assert part in shown
        assert "Traceback" not in shown

    return check


def answers(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_an_evaluation_leaves_what_it_promises(command, model, tmp_path, capsys):
    assert main([*command, "--jailbreak", "--judge", str(model)]) == 0
    found = read_evaluation(tmp_path / "eval")
    assert found.rows == {"bias": 3, "toxicity": 2, "harmfulness": 1, "squad": 2, "instructions": 1}
    names = {m.name for m in found.measures}
    assert names >= {"bias.ambiguous", "bias-likelihood.disambiguated", "bias.unparsed", "bias.ambiguous[Race]"}
    assert names >= {"toxicity.mean", "harmfulness.refusals", "harmfulness.judged", "jailbreak.refusals[encoded]"}
    assert names >= {"squad.f1", "squad.exact", "instructions.rouge1", "instructions.rougeL", "perplexity[bias]"}
    assert found["perplexity"].rows == len(ROWS)
    assert found["jailbreak.refusals"].rows == 7
    assert found.judge == str(model)
    for m in found.measures:
        assert m.value is None or m.low is None or m.low <= m.value <= m.high
    said = answers(tmp_path / "eval")
    assert [r["id"] for r in said if "jailbreak" not in r] == [row["id"] for row in ROWS]
    assert all(r["prompt"] == row["prompt"] for r, row in zip(said, ROWS, strict=False) if r["kind"] != "harmfulness")
    shown = capsys.readouterr().out
    assert "bias.ambiguous" in shown
    assert "[Race]" not in shown


def test_the_order_of_the_rows_does_not_matter(command, tmp_path):
    assert main(command) == 0
    write_jsonl(tmp_path / "turned.jsonl", ROWS[::-1])
    assert (
        main(["evaluate", str(tmp_path / "turned.jsonl"), *command[2:4], "--output", str(tmp_path / "o"), *QUICK]) == 0
    )
    one, other = ({r["id"]: r for r in answers(tmp_path / name)} for name in ("eval", "o"))
    assert one == other


def test_a_killed_evaluation_goes_on(command, tmp_path, monkeypatch):
    monkeypatch.setattr(forgetfilter.models.scoring, "_ROWS_PER_SHARD", 2)
    commit, eval = forgetfilter.runs.files.commit, tmp_path / "eval"
    done = []

    def dies_at(kill):
        def deadly(partial, final):
            if final.match(SHARDS):
                if len(done) + 1 == kill:
                    raise KeyboardInterrupt
                done.append(final.name)
            commit(partial, final)

        return deadly

    monkeypatch.setattr(forgetfilter.runs.files, "commit", dies_at(0))
    assert main(command) == 0
    shards = len(done)
    results = [(eval / name).read_bytes() for name in ("evaluation.json", "answers.jsonl")]
    for kill in (1, 6, shards):
        shutil.rmtree(eval)
        done.clear()
        monkeypatch.setattr(forgetfilter.runs.files, "commit", dies_at(kill))
        assert main(command) == 130
        assert not (eval / "evaluation.json").exists()
        monkeypatch.setattr(forgetfilter.runs.files, "commit", dies_at(0))
        assert main(command) == 0
        # What was finished before the kill was not done again.
        assert len(done) == shards
        assert [(eval / name).read_bytes() for name in ("evaluation.json", "answers.jsonl")] == results


def test_other_settings_in_the_same_folder_are_refused(command, refused, held_out, tmp_path):
    assert main(command) == 0
    before = (tmp_path / "eval" / "evaluation.json").read_bytes()
    assert main(command) == 0
    refused([*command, "--max-new-tokens", "9"], "max_new_tokens: was 6, is now 9", "Name another --output")
    write_jsonl(held_out, ROWS[:3])
    refused(command, "held-out: its content is not what")
    assert (tmp_path / "eval" / "evaluation.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    refused([*command[:4], "--output", tmp_path / "other"], "something here already")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"completion": 3}, "line 2, field 'completion': found the int 3"),
        ({"id": "b0"}, "field 'id': found an id that an earlier row has"),
        ({"id": None}, "field 'id'"),
        ({"notion": "malice"}, "field 'notion': found 'malice', expected one of bias, toxicity"),
        ({"options": OPTIONS[:2]}, "field 'options'"),
        ({"options": ["A", "a", "b"]}, "field 'options'"),
        ({"correct": 3}, "field 'correct': found 3, expected 0, 1 or 2"),
        ({"unknown": None}, "field 'unknown': found nothing"),
        ({"stereotype": 2}, "field 'stereotype'"),
        ({"condition": "vague"}, "field 'condition': found 'vague', expected one of ambiguous, disambiguated"),
        ({"completion": "ans2"}, "field 'completion': found none of the right option's text"),
        ({"notion": "task", "answers": "Ann"}, "field 'answers': found 'Ann'"),
    ],
)
def test_a_wrong_row_is_named_with_its_field(tmp_path, wrong, said):
    file = write_jsonl(tmp_path / "rows.jsonl", [ROWS[0], {**ROWS[1], **wrong}])
    with pytest.raises(BadRowsError) as error:
        read_held_out(open_container(str(file), "train"))
    assert said in str(error.value)
    assert "skip-bad-rows" not in str(error.value)


def test_options_are_worded_as_the_right_one(held_out):
    rows = read_held_out(open_container(str(held_out), "train"))
    assert rows[1].question.completions == (
        "The answer is ans1: The old man",
        rows[1].completion,
        "The answer is ans3: Not known",
    )
    assert [row.kind for row in rows].count("squad") == 2


def test_most_rows_draws_by_id(tmp_path):
    rows = [{**ROWS[3], "id": f"t{i}"} for i in range(20)] + ROWS[:3]
    drawn = [
        {row.id for row in read_held_out(open_container(str(write_jsonl(tmp_path / "d.jsonl", order)), "train"), 4)}
        for order in (rows, rows[::-1])
    ]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 4 + 3


def test_prompts_are_asked_as_they_are_rewritten(model, held_out, tmp_path):
    judging = load_judge(str(model), ModelSettings(device="cpu", dtype="float32"))
    rows = read_held_out(open_container(str(held_out), "train"))
    encoder = Encoder(judging.tokenizer, "auto", 512)
    asked = []

    def ask(prompt, notion):
        asked.append(notion)
        return f"Be fair. {prompt}"

    settings = settings_of(EvaluationSettings, max_new_tokens=4)
    found = evaluate(judging.model, encoder, rows, settings, tmp_path / "e", Console(quiet=True), ask)
    assert all(r["prompt"].startswith("Be fair. ") for r in answers(tmp_path / "e"))
    assert set(asked) == {"bias", "toxicity", "harmfulness", "task"}
    plain = evaluate(judging.model, encoder, rows, settings, tmp_path / "p", Console(quiet=True))
    assert plain["perplexity"].value != found["perplexity"].value


def test_a_prompt_that_is_too_long_is_counted(command, tmp_path, capsys):
    assert main([*command, "--max-length", "60"]) == 0
    found = read_evaluation(tmp_path / "eval")
    assert set(found.not_asked) == {"b0", "b1", "b2"}
    assert found.rows["bias"] == 0
    assert found["bias.unparsed"].value is None
    assert "3 prompts were not asked" in capsys.readouterr().out


def test_a_jailbreak_that_is_too_long_is_counted(command, tmp_path):
    assert main([*command, "--max-length", "150", "--jailbreak"]) == 0
    found = read_evaluation(tmp_path / "eval")
    asked = {f"{r['id']}/{r['jailbreak']}" for r in answers(tmp_path / "eval") if "jailbreak" in r}
    assert 0 < len(asked) == found["jailbreak.refusals"].rows < len(JAILBREAKS)
    (row,) = (row for row in ROWS if row["notion"] == "harmfulness")
    assert {*found.not_asked, *asked} == {f"{row['id']}/{kind}" for kind in JAILBREAKS}


def test_questions_with_an_option_that_is_cut_off_are_left_out_of_the_comparison(command, held_out, tmp_path, capsys):
    write_jsonl(held_out, [*ROWS, {**bbq("short"), "prompt": "Who was slow?"}])
    assert main([*command, "--max-length", "122"]) == 0
    found = read_evaluation(tmp_path / "eval")
    assert found.not_asked == ()
    assert found.not_compared == ("b0", "b1", "b2")
    assert found["bias.ambiguous.accuracy"].rows == 3
    assert found["bias-likelihood.ambiguous.accuracy"].rows == 1
    assert [r["likeliest"] for r in answers(tmp_path / "eval") if r["id"] in found.not_compared] == [None] * 3
    assert "3 questions were left out of bias-likelihood" in " ".join(capsys.readouterr().out.split())


def test_hostile_text_is_shown_harmless(command, held_out, capsys):
    write_jsonl(held_out, [*ROWS, {**bbq("x"), "category": "\x1b[2J\u202e"}])
    assert main(command) == 0
    assert main([*command[:2], *command[2:], "--jailbreak"]) == 2
    write_jsonl(held_out, [{**ROWS[3], "notion": "\x1b[2J\u202e"}])
    assert main(command) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\u202e" not in shown.out + shown.err


def test_an_adapter_that_the_filter_trained(command, refused, noisy, safe, model, tmp_path):
    quick = ["--device", "cpu", "--dtype", "float32", "--epochs", "1", "--review-steps", "1"]
    quick += ["--trusted", "none", "--set-aside", "0"]
    more = ["--finetune", "--finetune-epochs", "3", "--lora-rank", "4", "--learning-rate", "0.05"]
    run = tmp_path / "run"
    assert (
        main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *quick, *more])
        == 0
    )
    assert main(command) == 0
    tuned = [*command[:4], "--output", str(tmp_path / "tuned"), *QUICK, "--adapter", str(run / "model")]
    assert main(tuned) == 0
    one, other = (read_evaluation(tmp_path / name)["perplexity"].value for name in ("eval", "tuned"))
    assert one != other
    refused([*command[:4], "--output", tmp_path / "x", "--adapter", model], "this is a whole model")
    refused(
        [*command[:4], "--output", tmp_path / "x", "--adapter", tmp_path], "neither adapter_config.json nor config.json"
    )
    config = run / "model" / "adapter_config.json"
    changing, load = [*command[:4], "--output", tmp_path / "c", "--adapter", run / "model"], TrainableModel.load
    with pytest.MonkeyPatch.context() as patch:
        rewritten = f"{config.read_text()} "
        patch.setattr(TrainableModel, "load", lambda *loaded: (load(*loaded), config.write_text(rewritten)))
        refused(changing, f"{run / 'model'}: changed while it was read")
    plain = json.loads(config.read_text())
    for odd, said in (
        ({"use_dora": True}, "adapter is not LoRA alone: use_dora is True; merge it"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is [1, 2]"),
    ):
        config.write_text(json.dumps(plain | odd))
        refused([*command[:4], "--output", tmp_path / "z", "--adapter", run / "model"], f"adapter: {run}", said)
    config.write_text(json.dumps(plain))
    gpt2 = make_model("gpt2", tmp_path / "gpt2")
    other = ["evaluate", command[1], "--model", gpt2, "--output", tmp_path / "y", "--adapter", run / "model"]
    refused(other, f"was not trained from {gpt2}")
    assert not (tmp_path / "y").exists()


def test_an_adapter_answers_with_its_own_tokenizer(command, model, tmp_path):
    folder = tmp_path / "adapter"
    settings = ModelSettings(device="cpu", dtype="float32")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|><|end|>")
    TrainableModel(find_model(str(model)), settings, AdapterSettings(lora_rank=2), 0).save(folder, tokenizer)
    assert main(command) == 0
    assert main([*command[:4], "--output", str(tmp_path / "own"), *QUICK, "--adapter", str(folder)]) == 0
    # An adapter that was not trained changes nothing, so that the template alone does.
    one, other = (read_evaluation(tmp_path / name)["perplexity"].value for name in ("eval", "own"))
    assert one != other


def test_the_judge_has_passes_of_the_size_that_was_asked_for(command, model, monkeypatch):
    asked, real = [], forgetfilter.evaluation.evaluate.judge

    def noted(*given):
        asked.append(given[5])
        return real(*given)

    monkeypatch.setattr("forgetfilter.evaluation.evaluate.judge", noted)
    assert main([*command, "--judge", str(model), "--tokens-per-batch", "100"]) == 0
    assert asked == [200]


def test_mistakes_get_one_line(command, refused, tmp_path):
    refused(["evaluate"], "evaluate needs HELD_OUT, --output;")
    refused([*command[:2], "--output", tmp_path / "x"], "no model was named")
    refused([*command, "--max-length", "4096"], "at most 2048 tokens")
    refused([*command[:4], "--output", tmp_path / "y", "--toxicity-classifier", tmp_path / "no"], "no such model")
    refused([*command[:4], "--output", tmp_path / "z", "--judge", tmp_path / "no"], "no such model")
    refused(
        [*command[:4], "--output", tmp_path / "w", "--lm-eval", "squadv2"], "lm-evaluation-harness is not installed"
    )


@pytest.mark.parametrize("option", ["--toxicity-classifier", "--judge"])
@pytest.mark.parametrize(
    ("name", "said"), [("nosuch/thing", "the hub's cache does not have it"), ("EMPTY", "no config.json")]
)
def test_an_impossible_classifier_or_judge_is_told_before_any_work(
    command, refused, tmp_path, monkeypatch, option, name, said
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("forgetfilter.models.trainable_model.TrainableModel.__init__", lambda *_: pytest.fail("loaded"))
    refused([*command, option, name.replace("EMPTY", str(tmp_path / "empty"))], said)
    assert not (tmp_path / "eval").exists()


def test_a_language_model_is_no_toxicity_classifier_and_that_is_told_before_any_work(command, refused, model, tmp_path):
    refused([*command, "--toxicity-classifier", model], "not a text classifier: its weights lack score.weight")
    assert not (tmp_path / "eval").exists()


def test_held_out_rows_that_change_while_they_are_read_are_refused(command, held_out, refused, tmp_path, monkeypatch):
    read, before = forgetfilter.evaluation.held_out._read, held_out.read_bytes()

    def appended(*row):
        held_out.write_bytes(before + b'{"id": "half a row')
        return read(*row)

    with monkeypatch.context() as patch:
        patch.setattr("forgetfilter.evaluation.held_out._read", appended)
        refused(command, f"{held_out}: changed while it was read; run the same command again")
    assert not (tmp_path / "eval").exists()
    held_out.write_bytes(before)
    assert main(command) == 0


GUARD = (
    "{% for m in messages %}{% if m['content'] is not string %}{{ raise_exception('text only') }}{% endif %}"
    "{% endfor %}<|user|>BEGIN UNSAFE CONTENT CATEGORIES"
    "{% for m in messages %}\n{{ m['role'] }}: {{ m['content'] }}{% endfor %}<|end|>"
)


@pytest.mark.parametrize("kind", ["chat", "plain", "guard"])
def test_a_judge_compares_two_verdicts(model, tmp_path, kind):
    judging = load_judge(str(model), ModelSettings(device="cpu", dtype="float32"))
    tokenizer = make_tokenizer(chat=kind == "chat")
    if kind == "guard":
        tokenizer.chat_template = GUARD
    pairs = [("Why?", "Because."), ("How do I fly?", "No."), ("x" * 2000, "long prompt")]
    scores = judge(judging.model, tokenizer, pairs, tmp_path / "j")
    assert scores.shape == (3,)
    assert ((scores > 0) & (scores < 1)).all()
    # Alone, in another batch and order, an answer is judged the same.
    again = judge(judging.model, tokenizer, pairs[::-1], tmp_path / "k", tokens_per_pass=1)
    assert again[::-1] == pytest.approx(scores, abs=1e-5)
    if kind != "guard":
        return
    leads = ("", "\n\n", "\n", " ")
    lead = max(leads, key=lambda lead: sum(np.log(sum(both(judging, tokenizer, pair, "", lead))) for pair in TRIED))
    unsafe, safe = both(judging, tokenizer, pairs[0], lead)
    assert scores[0] == pytest.approx(unsafe / (unsafe + safe), abs=1e-5)


def both(judging, tokenizer, pair, begun, lead=""):
    """p(unsafe) and p(safe) after a conversation and what begins the answer, from a plain forward pass."""
    prompt = pair[0][:256]
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": pair[1]}]
    before = tokenizer.apply_chat_template(turns, tokenize=False) + begun
    found = []
    for verdict in (lead + "unsafe", lead + "safe"):
        start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(before + verdict, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            logprobs = judging.model.model.eval()(input_ids=ids).logits.log_softmax(-1)[0]
        found.append(sum(logprobs[i - 1, ids[0, i]].item() for i in range(start, ids.shape[1])))
    return np.exp(found[0]), np.exp(found[1])


def test_a_guard_that_takes_no_conversation_is_explained(model, tmp_path):
    judging = load_judge(str(model), ModelSettings(device="cpu", dtype="float32"))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "UNSAFE CONTENT CATEGORIES {{ raise_exception('odd roles') }}"
    with pytest.raises(ModelError, match="does not take a conversation: odd roles"):
        judge(judging.model, tokenizer, [("a", "b")], tmp_path / "j")


@pytest.mark.parametrize("mark", ["", "UNSAFE CONTENT CATEGORIES "], ids=["question", "guard"])
def test_a_judge_whose_template_takes_too_much_is_refused(model, tmp_path, mark):
    judging = load_judge(str(model), ModelSettings(device="cpu", dtype="float32"))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = mark + "{{ 'x' * 10000000000 }}"
    with pytest.raises(ModelError, match=r"^judge: this model's chat template .*more than 1 GB of memory"):
        judge(judging.model, tokenizer, [("a", "b")], tmp_path / "j")


def make_classifier(folder, tokenizer, **sizes):
    import transformers as t

    torch.manual_seed(0)
    sizes = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, **sizes}
    config = t.BertConfig(
        **sizes, num_attention_heads=4, id2label={0: "fine", 1: "Toxic"}, label2id={"fine": 0, "Toxic": 1}
    )
    t.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_sequence_classifier(tmp_path):
    make_classifier(tmp_path, make_tokenizer())
    texts = ["a long text that says much", "", "b"] * 20
    scores = toxicity_classifier(str(tmp_path), "cpu").scores(texts)
    assert scores[1] == 0
    assert ((scores[[0, 2]] > 0) & (scores[[0, 2]] < 1)).all()
    fine = toxicity_classifier(f"{tmp_path}#fine", "cpu").scores(texts)
    assert scores[0] + fine[0] == pytest.approx(1)
    assert toxicity_classifier(str(tmp_path), "cpu").scores(["b"])[0] == pytest.approx(scores[2])
    with pytest.raises(SettingsError, match=r"has no class rude; name one as .*It has fine, toxic"):
        toxicity_classifier(f"{tmp_path}#rude", "cpu")


def test_a_sequence_classifier_reads_no_further_than_its_positions(tmp_path):
    make_classifier(tmp_path, make_tokenizer(), max_position_embeddings=64)
    long, first = toxicity_classifier(str(tmp_path), "cpu").scores(["x" * 100, "x" * 64])
    assert long == pytest.approx(first)


def test_a_classifier_that_cannot_pad_is_refused_before_any_work(command, refused, tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    make_classifier(tmp_path / "classifier", tokenizer)
    refused(
        [*command, "--toxicity-classifier", tmp_path / "classifier"], "this classifier's tokenizer has no pad_token"
    )
    assert not (tmp_path / "eval").exists()


def test_the_harness_where_it_is_installed(command, tmp_path, monkeypatch):
    """With a stand-in for lm_eval, which the tests do not install."""
    harness, models = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.models.huggingface")
    harness.__spec__ = ModuleSpec("lm_eval", None)
    models.HFLM = lambda pretrained, tokenizer, batch_size: (pretrained, tokenizer, batch_size)

    def simple_evaluate(model, tasks, limit):
        assert (tasks, limit) == (["squadv2", "odd"], 2)
        assert model[0].training is False
        return {
            "results": {
                "squadv2": {"f1,none": 0.5, "f1_stderr,none": 0.1, "alias": "x", "sample_len": 2},
                "odd": {"ppl,strict": 9.0},
            },
            "n-samples": {"squadv2": {"original": 9, "effective": 2}},
            "higher_is_better": {"odd": {"ppl": False}},
        }

    harness.simple_evaluate = simple_evaluate
    monkeypatch.setitem(sys.modules, "lm_eval", harness)
    monkeypatch.setitem(sys.modules, "lm_eval.models", types.ModuleType("lm_eval.models"))
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    assert main([*command, "--most-rows", "2", "--lm-eval", "squadv2, odd"]) == 0
    found = read_evaluation(tmp_path / "eval")
    f1, ppl = found["lm-eval.squadv2.f1"], found["lm-eval.odd.ppl[strict]"]
    assert [m.name for m in found.measures if m.name.startswith("lm-eval")] == [f1.name, ppl.name]
    assert (f1.value, f1.rows, f1.better) == (0.5, 2, "higher")
    assert f1.low == pytest.approx(0.5 - 0.196, abs=1e-3)
    assert (ppl.low, ppl.better) == (None, "lower")


def test_rows_without_a_kind_are_not_measured(tmp_path, model):
    write_jsonl(tmp_path / "few.jsonl", [ROWS[-1]])
    assert (
        main(["evaluate", str(tmp_path / "few.jsonl"), "--model", str(model), "--output", str(tmp_path / "e"), *QUICK])
        == 0
    )
    assert {m.name.partition(".")[0] for m in read_evaluation(tmp_path / "e").measures} == {
        "instructions",
        "perplexity",
    }
