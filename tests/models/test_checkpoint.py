"""Checkpoints that were trained elsewhere: what of them is read, and what is refused before any work."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from forgetfilter.errors import ModelError
from forgetfilter.models.checkpoint import Record, find_checkpoint
from forgetfilter.models.fitting import check_fits, tokenizer_of
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from support.tiny_models import make_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")
LORA = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "down_proj"]}


def adapt(base, folder, config):
    """Save an adapter as if trained."""
    torch.manual_seed(0)
    model = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return folder


FORMS = {
    "some layers": LORA,
    "by the root of the rank": LORA | {"use_rslora": True},
    "layers by an expression": LORA | {"target_modules": r".*layers\.1\..*(q_proj|up_proj)"},
    "ranks and alphas by layer": {
        "r": 4,
        "lora_alpha": 8,
        "task_type": "CAUSAL_LM",
        "target_modules": "all-linear",
        "rank_pattern": {"k_proj": 2, "layers.1.mlp.up_proj": 6},
        "alpha_pattern": {"v_proj": 32, "q_proj": 1},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_trainable_model_takes_the_form_of_any_lora_adapter(form, model, tmp_path):
    folder = adapt(model, tmp_path / "a", LoraConfig(**FORMS[form]))
    checkpoint, source = find_checkpoint(str(folder)), find_model(str(model))
    check_fits(checkpoint, source)
    settings = ModelSettings(device="cpu", dtype="float32")
    session = TrainableModel(source, settings, AdapterSettings(), 0, checkpoint.lora)
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        # Until the adapter is loaded it is M0, and again after a reset.
        np.testing.assert_allclose(session.model(input_ids=tokens).logits, base(input_ids=tokens).logits, atol=1e-5)
        session.load(folder)
        expected = PeftModel.from_pretrained(base, folder).eval()(input_ids=tokens).logits
        np.testing.assert_allclose(session.model.eval()(input_ids=tokens).logits, expected, atol=1e-5)
    session.save(tmp_path / "again", make_tokenizer())
    again = find_checkpoint(str(tmp_path / "again")).lora
    assert again.layers == checkpoint.lora.layers


@pytest.mark.parametrize("targets", [None, 7, [1, 2]])
def test_the_layers_of_an_adapter_are_those_of_its_weights(targets, model, tmp_path):
    folder = adapt(model, tmp_path / "a", LoraConfig(**LORA))
    lora = find_checkpoint(str(folder)).lora
    assert find_checkpoint(str(edited(folder, target_modules=targets))).lora == lora


def test_another_file_beside_an_adapter_is_left_alone(model, tmp_path):
    folder = adapt(model, tmp_path / "a", LoraConfig(**LORA))
    save_file({"x": torch.ones(1)}, folder / "optimizer.safetensors")
    settings = ModelSettings(device="cpu", dtype="float32")
    lora = find_checkpoint(str(folder)).lora
    session = TrainableModel(find_model(str(model)), settings, AdapterSettings(), 0, lora)
    session.load(folder)
    saved = load_file(folder / "adapter_model.safetensors")
    loaded = {name.replace(".default.", "."): value for name, value in session.trainable().items()}
    assert all(loaded[name].equal(value) for name, value in saved.items())


def edited(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


REFUSED = {
    "of another kind": (
        lambda base, at: adapt(
            base, at, IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
        ),
        "of the kind IA3",
    ),
    "taken in part of a row": (
        lambda base, at: edited(adapt(base, at, LoraConfig(**LORA)), alora_invocation_tokens=[1, 2]),
        "alora_invocation_tokens is [1, 2]",
    ),
    "more than LoRA": (lambda base, at: adapt(base, at, LoraConfig(**LORA, use_dora=True)), "use_dora is True"),
    "with a whole layer": (
        lambda base, at: adapt(base, at, LoraConfig(**LORA, modules_to_save=["lm_head"])),
        "modules_to_save",
    ),
    "on a changed model": (
        lambda base, at: edited(adapt(base, at, LoraConfig(**LORA)), init_lora_weights="pissa_niter_4"),
        "init_lora_weights is 'pissa_niter_4'",
    ),
    "an expression that takes for ever": (
        lambda base, at: edited(adapt(base, at, LoraConfig(**LORA)), alpha_pattern={"(a+)+b": 1}),
        "alpha_pattern has expressions",
    ),
    "no number": (lambda base, at: edited(adapt(base, at, LoraConfig(**LORA)), lora_alpha="8"), "lacks numbers"),
    "another rank than that of the weights": (
        lambda base, at: edited(adapt(base, at, LoraConfig(**LORA)), r=2),
        "says rank 2, which its weights do not have",
    ),
    "not there": (lambda _, at: at, "no such folder"),
    "empty": (lambda _, at: at.mkdir() or at, "neither adapter_config.json nor config.json"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_review_cannot_go_on_with_is_refused(kind, model, tmp_path):
    make, said = REFUSED[kind]
    with pytest.raises(ModelError, match="learned: ") as error:
        find_checkpoint(str(make(model, tmp_path / "a")))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "adapter"])
def test_a_checkpoint_of_another_model_is_refused(whole, model, tmp_path):
    other = make_model("gpt2", tmp_path / "gpt2")
    adapter = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    checkpoint = find_checkpoint(str(other if whole else adapt(other, tmp_path / "a", adapter)))
    check_fits(checkpoint, find_model(str(other)))
    with pytest.raises(ModelError, match=r"was not trained from .* not there"):
        check_fits(checkpoint, find_model(str(model)))


def test_a_wider_adapter_is_refused(model, tmp_path):
    checkpoint = find_checkpoint(str(adapt(model, tmp_path / "a", LoraConfig(**LORA))))
    layers = {name: (48, rank, out) for name, (_, rank, out) in checkpoint.lora.layers.items()}
    with pytest.raises(ModelError, match="32×48 by the checkpoint, and 32×64 in the model"):
        check_fits(replace(checkpoint, lora=replace(checkpoint.lora, layers=layers)), find_model(str(model)))


def test_its_tokenizer_holds_where_it_has_the_same_tokens(model, tmp_path, tokenizer):
    folder = adapt(model, tmp_path / "a", LoraConfig(**LORA))
    assert tokenizer_of(find_checkpoint(str(folder)), tokenizer) is tokenizer
    make_tokenizer(chat=False).save_pretrained(folder)
    assert not tokenizer_of(find_checkpoint(str(folder)), tokenizer).chat_template
    file = folder / "tokenizer.json"
    told = json.loads(file.read_text())
    told["model"]["vocab"] |= {"a": told["model"]["vocab"]["b"], "b": told["model"]["vocab"]["a"]}
    file.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"2 of .* tokens have another number"):
        tokenizer_of(find_checkpoint(str(folder)), tokenizer)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"model": 1}', '{"model": "", "max_length": "x", "beginnings": []}']
)
def test_a_note_that_is_none_of_ours_is_left_alone(text, tmp_path):
    (tmp_path / "forgetfilter.json").write_text(text)
    assert Record.find(tmp_path) is None


def test_a_note_is_read_as_it_was_written(tmp_path):
    record = Record("a/model", 512, ("0f", "1e"))
    record.write(tmp_path)
    assert Record.find(tmp_path) == record
