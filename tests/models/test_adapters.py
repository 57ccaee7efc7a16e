"""Adapters of others as models: merged into their base in memory."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model

from forgetfilter import model_path
from forgetfilter.cli import main
from forgetfilter.errors import ModelError
from forgetfilter.models import loading
from forgetfilter.models.loading import load_model, load_tokenizer, model_fingerprint
from forgetfilter.models.sources import ModelSource, find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from support.quick_runs import QUICK
from support.tiny_models import make_model, make_tokenizer

# peft calls what transformers gives up, and warns of what is meant here.
pytestmark = pytest.mark.filterwarnings("ignore")
CPU = ModelSettings(device="cpu", dtype="float32")
LORA = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "down_proj"]}


def adapt(base, folder, config, *, seed=1):
    """Save an adapter for a model folder, as if trained; returns the logits of the model that it makes."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base)
    model = get_peft_model(loaded, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(seed + len(name))))
    model.save_pretrained(folder)
    return logits(model.eval())


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.arange(1, 9)[None]).logits.numpy()


def edit(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


KINDS = {
    "lora": lambda: LoraConfig(**LORA),
    "dora": lambda: LoraConfig(**LORA, use_dora=True),
    "rslora": lambda: LoraConfig(**LORA, use_rslora=True),
    "lora and a whole head": lambda: LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "lora on embeddings": lambda: LoraConfig(**{**LORA, "target_modules": ["q_proj", "embed_tokens"]}),
    "ia3": lambda: IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_the_model_that_it_makes(kind, model, tmp_path):
    expected = adapt(model, tmp_path / "a", KINDS[kind]())
    source = find_model(str(tmp_path / "a"))
    assert (source.location, source.adapters) == (str(model), (str(tmp_path / "a"),))
    with pytest.raises(ModelError, match="an adapter, not a whole model; merge it"):
        model_path(tmp_path / "a")
    merged = load_model(source, TrainableModel(source, CPU, AdapterSettings(), 0).hardware)
    np.testing.assert_allclose(logits(merged), expected, atol=1e-5)
    assert not np.allclose(
        logits(load_model(find_model(str(model)), loading.choose_hardware(CPU))), expected, atol=1e-3
    )


def test_its_base_may_lie_beside_it(model, tmp_path):
    shutil.copytree(model, tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "a", KINDS["lora"]())
    edit(tmp_path / "a", base_model_name_or_path="../base")
    assert load_tokenizer(find_model(str(tmp_path / "a"))).eos_token == "<|end|>"
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ModelError, match=r"the base model of this adapter: \.\./base: there is no such"):
        find_model(str(tmp_path / "a"))


def test_its_tokenizer_is_its_own_where_it_has_one(model, tmp_path):
    adapt(model, tmp_path / "a", KINDS["lora"]())
    assert load_tokenizer(find_model(str(tmp_path / "a"))).chat_template
    make_tokenizer(chat=False).save_pretrained(tmp_path / "a")
    assert not load_tokenizer(find_model(str(tmp_path / "a"))).chat_template


def test_its_embeddings_may_have_grown(model, tmp_path):
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    base.resize_token_embeddings(270, mean_resizing=False)
    grown = get_peft_model(base, LoraConfig(**LORA, modules_to_save=["embed_tokens", "lm_head"]))
    grown.save_pretrained(tmp_path / "a")
    session = TrainableModel(find_model(str(tmp_path / "a")), CPU, AdapterSettings(), 0)
    assert session.vocabulary == 270
    session.save(tmp_path / "s", make_tokenizer())
    session.load(tmp_path / "s")


def test_the_fingerprint_covers_base_and_adapter(model, tmp_path):
    shutil.copytree(model, tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "a", KINDS["lora"]())
    first = model_fingerprint(find_model(str(tmp_path / "a")))
    adapt(tmp_path / "base", tmp_path / "a", KINDS["lora"](), seed=2)
    second = model_fingerprint(find_model(str(tmp_path / "a")))
    shutil.rmtree(tmp_path / "base")
    make_model("qwen", tmp_path / "base")
    assert len({first, second, model_fingerprint(find_model(str(tmp_path / "a")))}) == 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (lambda: PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), "PROMPT_TUNING cannot be merged"),
        (lambda: PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), "PREFIX_TUNING cannot be merged"),
    ],
)
def test_what_cannot_be_merged_is_refused(config, said, model, tmp_path):
    get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(model), config()).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=said):
        find_model(str(tmp_path))


def test_adapters_that_are_damaged_or_of_others_are_refused(model, tmp_path):
    def refused(said):
        with pytest.raises(ModelError, match=said) as error:
            TrainableModel(find_model(str(folder)), CPU, AdapterSettings(), 0)
        assert "\n" not in str(error.value)

    folder = tmp_path / "a"
    adapt(model, folder, KINDS["lora"]())
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights[:-100])
    refused("cannot load this model")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    edit(folder, target_modules=["q_proj"])
    refused("made for another model")
    edit(
        folder, target_modules=["q_proj", "down_proj"], base_model_name_or_path=str(make_model("gpt2", tmp_path / "g"))
    )
    refused("cannot load this model|made for another model")
    edit(folder, base_model_name_or_path=None)
    refused("does not say which model")
    edit(folder, base_model_name_or_path=str(folder))
    refused("is its own base")
    edit(folder, base_model_name_or_path=str(model))
    shutil.copy(model / "model.safetensors", folder)
    refused("holds a whole model and an adapter")
    (folder / "model.safetensors").unlink()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused("pickled adapters are not loaded")
    (folder / "adapter_config.json").write_text("{")
    refused("not that of a peft adapter")


def test_an_adapter_of_the_hub_is_found_by_its_files(model, tmp_path, monkeypatch):
    expected = adapt(model, tmp_path / "a", KINDS["lora"]())

    def cached_file(repository, name, **_):
        assert repository == "someone/adapter"
        return str(tmp_path / "a" / name) if (tmp_path / "a" / name).exists() else None

    monkeypatch.setattr(loading, "cached_file", cached_file)
    source = ModelSource("someone/adapter")
    np.testing.assert_allclose(logits(load_model(source, loading.choose_hardware(CPU))), expected, atol=1e-5)
    assert load_tokenizer(source).eos_token == "<|end|>"
    assert model_fingerprint(source) == model_fingerprint(find_model(str(tmp_path / "a")))


def test_what_is_trained_on_an_adapter_stands_on_it(model, noisy, safe, tmp_path):
    adapt(model, tmp_path / "a", KINDS["lora"]())
    given = [
        "filter",
        str(noisy),
        "--safe",
        str(safe),
        "--model",
        str(tmp_path / "a"),
        "--output",
        str(tmp_path / "run"),
    ]
    assert main([*given, *QUICK, "--finetune", "--finetune-epochs", "1"]) == 0
    made = find_model(str(tmp_path / "run" / "model"))
    assert made.adapters == (str(tmp_path / "a"), str(tmp_path / "run" / "model"))
    ours = logits(load_model(made, loading.choose_hardware(CPU)))
    # peft makes the same of the merged model.
    merged = load_model(find_model(str(tmp_path / "a")), loading.choose_hardware(CPU))
    np.testing.assert_allclose(logits(PeftModel.from_pretrained(merged, tmp_path / "run" / "model")), ours, atol=1e-5)


def test_a_model_with_experts_comes_back_when_all_of_it_is_trained(tmp_path):
    # transformers saves experts one by one, but holds them in one tensor.
    config = transformers.MixtralConfig(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, bos_token_id=None, eos_token_id=256,
    )  # fmt: skip
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path / "m")
    make_tokenizer().save_pretrained(tmp_path / "m")
    session = TrainableModel(find_model(str(tmp_path / "m")), CPU, AdapterSettings(full_finetuning=True), 0)
    with torch.no_grad():
        for parameter in session.trained().values():
            parameter.add_(0.01)
    trained = session.trainable()
    session.save(tmp_path / "s", make_tokenizer())
    session.reset()
    session.load(tmp_path / "s")
    assert all(torch.equal(value, trained[name]) for name, value in session.trainable().items())
