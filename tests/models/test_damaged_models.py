"""Models that are damaged, hostile, or put together from what does not belong together: one line, before training."""

import json
import re
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from forgetfilter.classifiers.toxicity import toxicity_classifier
from forgetfilter.errors import ForgetFilterError, ModelError
from forgetfilter.models.gguf_header import check_gguf
from forgetfilter.models.loading import check_model, choose_hardware, load_model, load_tokenizer
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.models.vocabulary import doubt_about
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from support import held_out
from support.damages import ADAPTERS, GGUF, HARMLESS, LATE, LLAMA, gguf
from support.quick_runs import run, write_jsonl
from support.tiny_models import make_model, make_tokenizer

CPU = ModelSettings(device="cpu", dtype="float32")


@pytest.fixture
def copy(model, tmp_path):
    """A copy of the tiny Llama that may be damaged."""
    return shutil.copytree(model, tmp_path / "copy")


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def shard(folder, name):
    """Put an index beside the weights that says they are in another file."""
    file = folder / "model.safetensors"
    names = load_file(file)
    file.rename(folder / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-500])


DAMAGES = {
    "cut off": (cut, r"has [\d,]+ bytes, but its header tells of [\d,]+"),
    "no header": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x08" + bytes(7) + b"nonsense"),
        "not a safetensors",
    ),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a safetensors|has no bytes|lack"),
    "renamed": (
        lambda f: weights(f, lambda w: {f"x.{name}": value for name, value in w.items()}),
        r"its weights lack lm_head.weight.* and \d+ more and hold x\.lm_head.weight",
    ),
    "missing": (
        lambda f: weights(f, lambda w: {n: v for n, v in w.items() if "v_proj" not in n}),
        r"lack model.layers.0.self_attn.v_proj.weight, model.layers.1.self_attn.v_proj.weight",
    ),
    "fewer layers": (lambda f: change(f, num_hidden_layers=1), r"hold model.layers.1.* no place for"),
    "more layers": (lambda f: change(f, num_hidden_layers=3), r"lack model.layers.2"),
    "other width": (lambda f: change(f, hidden_size=64), "cannot load this model"),
    "not finite": (
        lambda f: weights(f, lambda w: w | {"lm_head.weight": w["lm_head.weight"] * torch.nan}),
        "scores are not finite",
    ),
    "no heads": (lambda f: change(f, num_attention_heads=0), "cannot load this"),
    "heads of words": (lambda f: change(f, num_attention_heads="four"), "cannot load this"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "cannot load this"),
    "config nests without end": (lambda f: (f / "config.json").write_text("[" * 100_000), "cannot load this"),
    "tokenizer is no object": (lambda f: (f / "tokenizer.json").write_text("7"), "cannot load this tokenizer"),
    "tokenizer is half": (
        lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text()[:1000]),
        "cannot load this tokenizer",
    ),
    "index of a pickle": (lambda f: shard(f, "w.bin"), r"names 'w\.bin', but only \.safetensors files beside it"),
    "index of another folder": (lambda f: shard(f, "../x.safetensors"), r"names '\.\./x\.safetensors', but only"),
    "index of nothing": (lambda f: shard(f, "gone.safetensors"), "names gone.safetensors, which is not there"),
    "index is no index": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": 3}'),
        "is not an index of weights",
    ),
    "attention from the hub": (
        lambda f: change(f, attn_implementation="someone/some-kernel"),
        r"asks for code from the hub \('someone/some-kernel'\)",
    ),
    "reads both ways": (lambda f: change(f, is_causal=False), "later tokens change earlier scores"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_in_one_line(damage, copy):
    harm, said = DAMAGES[damage]
    harm(copy)
    with pytest.raises(ModelError) as error:
        source = find_model(str(copy))
        load_tokenizer(source)
        TrainableModel(source, CPU, AdapterSettings(), 0)
    assert re.search(said, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)
    assert str(copy) in str(error.value)


def told_of(command, capfd):
    """What a command that is refused says."""
    assert run([*map(str, command)]) == 2
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert "learning" not in told
    return told


def is_one_line(told):
    return told.startswith("forgetfilter: ") and told.count("\n") == 1 and told.endswith("\n")


@pytest.fixture
def of_copy(command, copy, tmp_path, monkeypatch):
    """A quick run with the model that may be damaged."""
    monkeypatch.chdir(tmp_path)
    command[command.index("--model") + 1] = str(copy)
    return command


@pytest.mark.parametrize("damage", LLAMA)
def test_a_damaged_model_gets_one_line_before_any_work(damage, of_copy, copy, tmp_path, capfd):
    LLAMA[damage](copy)
    capfd.readouterr()
    told = told_of(of_copy, capfd)
    assert is_one_line(told), told
    assert str(copy) in told or "this model's chat template is broken" in told
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", LATE)
def test_damage_that_only_a_pass_can_tell_ends_the_run_before_any_training(damage, of_copy, copy, capfd):
    LATE[damage](copy)
    capfd.readouterr()
    assert "forgetfilter: " in told_of(of_copy, capfd)


@pytest.mark.parametrize("damage", HARMLESS)
def test_what_changes_nothing_is_no_damage(damage, copy):
    HARMLESS[damage](copy)
    source = find_model(str(copy))
    check_model(source, load_tokenizer(source))


@pytest.mark.parametrize("damage", GGUF)
def test_a_damaged_gguf_file_gets_one_line_before_any_work(damage, of_copy, tmp_path, capfd):
    file = tmp_path / "model.gguf"
    file.write_bytes(GGUF[damage])
    of_copy[of_copy.index("--model") + 1] = str(file)
    told = told_of(of_copy, capfd)
    assert is_one_line(told), told
    assert str(file) in told
    assert not (tmp_path / "run").exists()


def test_the_header_of_a_sound_gguf_file_is_taken(tmp_path):
    (tmp_path / "model.gguf").write_bytes(gguf())
    check_gguf(tmp_path / "model.gguf")


@pytest.mark.parametrize("damage", ADAPTERS)
def test_a_damaged_adapter_gets_one_line_before_any_work(damage, model, tokenizer, tmp_path, capfd):
    folder, output = tmp_path / "adapter", tmp_path / "evaluation"
    TrainableModel(find_model(str(model)), CPU, AdapterSettings(), 0).save(folder, tokenizer)
    ADAPTERS[damage](folder)
    rows = write_jsonl(tmp_path / "rows.jsonl", held_out.ROWS)
    options = ["--model", model, "--adapter", folder, "--output", output, "--device", "cpu", "--dtype", "float32"]
    capfd.readouterr()
    told = told_of(["evaluate", rows, *options], capfd)
    assert is_one_line(told), told
    assert str(folder) in told
    assert not output.exists()


@pytest.mark.parametrize(
    ("rival", "option", "said"),
    [("judge", "--judge", "its weights lack"), ("toxicity", "--toxicity-classifier", "not a text classifier")],
)
def test_a_damaged_judge_is_told_of_before_the_work_that_it_is_for(command, copy, tmp_path, capfd, rival, option, said):
    LLAMA["weights renamed"](copy)
    capfd.readouterr()
    told = told_of([*command, "--rivals", rival, option, str(copy)], capfd)
    assert said in told
    assert is_one_line(told), told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["weights cut off", "config heads 0", "tokenizer cut off", "weights renamed"])
def test_a_damaged_classifier_is_explained(damage, copy):
    LLAMA[damage](copy)
    with pytest.raises(ModelError) as error:
        toxicity_classifier(str(copy), "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["meta", "nonsense", "cuda:99", "vulkan"])
def test_a_device_that_computes_nothing_here_is_refused(device, of_copy, tmp_path, capfd):
    told = told_of([*of_copy, "--device", device], capfd)
    assert is_one_line(told), told
    assert f"device: '{device}' cannot be used here" in told
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_loaded_for_want_of_memory_says_so(copy, monkeypatch):
    def lacks(*_, **__):
        raise MemoryError

    source = find_model(str(copy))
    hardware = choose_hardware(CPU)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lacks)
    with pytest.raises(ModelError, match="needs more memory than is there"):
        load_model(source, hardware)


def test_shards_that_are_there_are_read(copy):
    shard(copy, "other.safetensors")
    assert TrainableModel(find_model(str(copy)), CPU, AdapterSettings(), 0).size > 0


def test_weights_that_are_tied_may_be_left_out(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=256,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert TrainableModel(find_model(str(tmp_path)), CPU, AdapterSettings(), 0).size > 0


def grow(folder, shift):
    """Move the tokenizer's plain tokens to other numbers."""
    saved = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = saved["model"]["vocab"]
    saved["model"]["vocab"] = {token: shift(i) for token, i in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(saved))


def test_rows_with_tokens_that_the_model_lacks_are_named_before_anything_is_learned(command, copy, tmp_path, capsys):
    # Of the data no row has a Z.
    grow(copy, lambda i: 1000 + i if i == ord("Z") - ord("!") else i)
    command[command.index("--model") + 1] = str(copy)
    assert run(command) == 0
    safe = tmp_path / "safe.jsonl"
    safe.write_text(safe.read_text() + '{"prompt": "Zzz?", "completion": "No."}\n')
    assert run([*command, "--overwrite"]) == 2
    told = capsys.readouterr().err
    assert re.search(r"row 6 \(id \w+\) has token 1057, but the model's embedding ends at 263", told)
    assert not (tmp_path / "run" / "stages" / "learned").exists()


def test_a_tokenizer_with_other_numbers_is_refused(command, copy, capsys):
    grow(copy, lambda i: i + 1000)
    command[command.index("--model") + 1] = str(copy)
    assert run(command) == 2
    assert "the tokenizer does not belong to this model" in capsys.readouterr().err.splitlines()[-1]


def test_a_tokenizer_whose_numbers_mean_something_else_is_told(model, tokenizer):
    session = TrainableModel(find_model(str(model)), CPU, AdapterSettings(), 0)
    assert doubt_about(session, tokenizer) == ""
    with torch.no_grad():
        # A model that is sure of what English is not.
        session.model.get_output_embeddings().weight[200:].mul_(0)
        session.model.get_output_embeddings().weight[:200].mul_(60)
    assert "does this tokenizer belong to this model?" in doubt_about(session, tokenizer)


def test_an_encoder_that_calls_itself_a_decoder_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="later tokens change earlier scores"):
        TrainableModel(find_model(str(tmp_path)), CPU, AdapterSettings(), 0)
    config.is_decoder = True
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    assert TrainableModel(find_model(str(tmp_path)), CPU, AdapterSettings(), 0).size > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("nope", "'nope' fits no layer of this model; layers that can have an adapter: "),
        ("{good},nope", "'nope' fits no layer of this model"),
        ("{good},lm_head", "'lm_head' can have no adapter in this model"),
        ("{embedding}", "'{embedding}' can have no adapter in this model"),
    ],
)
def test_layers_that_can_have_no_adapter_are_named_at_the_start(kind, targets, said, tmp_path):
    names = {"llama": ("q_proj", "embed_tokens"), "gpt2": ("c_attn", "wte")}[kind]
    good, embedding = names
    source = find_model(str(make_model(kind, tmp_path)))
    with pytest.raises(ForgetFilterError) as error:
        TrainableModel(source, CPU, AdapterSettings(lora_targets=targets.format(good=good, embedding=embedding)), 0)
    assert said.format(embedding=embedding) in str(error.value)


def test_a_model_that_knows_images_gets_adapters_in_its_text_model_alone(tmp_path):
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
    text = {
        "vocab_size": 264, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8, "eos_token_id": 256,
        "pad_token_id": 256,
    }  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config={**vision, "num_hidden_layers": 6},
        mm_tokens_per_image=4,
        image_token_index=260,
        boi_token_index=261,
        eoi_token_index=262,
    )
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    adapter = AdapterSettings(top_blocks=0.5, lora_targets="q_proj,v_proj")
    session = TrainableModel(find_model(str(tmp_path)), CPU, adapter, 0)
    blocks = {name.split(".self_attn")[0].removeprefix("base_model.model.") for name in session.trained()}
    assert blocks == {"model.language_model.layers.2", "model.language_model.layers.3"}
    assert session.longest == config.text_config.max_position_embeddings


def test_a_base_model_stays_loadable(model):
    assert load_model(
        find_model(str(model)), TrainableModel(find_model(str(model)), CPU, AdapterSettings(), 0).hardware
    )
