"""Ways to damage a model folder: what a broken download, a mix-up or an enemy leaves there."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], object]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def change(name: str, *path: str | int, to: Any) -> Damage:
    """Set a value in a file of JSON."""

    def damage(folder: Path) -> None:
        whole = place = read(folder, name)
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to
        (folder / name).write_text(json.dumps(whole))

    return damage


def without(name: str, *keys: str) -> Damage:
    def damage(folder: Path) -> None:
        whole = read(folder, name)
        for key in keys:
            del whole[key]
        (folder / name).write_text(json.dumps(whole))

    return damage


def config(**values: Any) -> Damage:
    return lambda folder: (folder / "config.json").write_text(json.dumps(read(folder, "config.json") | values))


def write(name: str, data: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def cut(name: str, *, share: float) -> Damage:
    """Keep the first part of a file."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def weights(changed: Callable[[dict[str, Any]], dict[str, Any]], name: str = WEIGHTS) -> Damage:
    from safetensors.torch import load_file, save_file

    return lambda folder: save_file(changed(load_file(folder / name)), folder / name, {"format": "pt"})


def header(changed: Callable[[dict[str, Any]], Any], name: str = WEIGHTS) -> Damage:
    """Change what the header of a safetensors file says of the data behind it."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        size = int.from_bytes(data[:8], "little")
        told = json.dumps(changed(json.loads(data[8 : 8 + size]))).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(told)) + told + data[8 + size :])

    return damage


def tensor(**values: Any) -> Damage:
    """Change what the header says of one tensor."""
    return header(lambda told: told | {(name := "model.norm.weight"): told[name] | values})


def shards(*, named: str, there: str = "other.safetensors") -> Damage:
    """Move the weights, and put an index beside them that says they are in another file."""

    def damage(folder: Path) -> None:
        from safetensors.torch import load_file

        names = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).rename(folder / there)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, named)}))

    return damage


def index(value: Any) -> Damage:
    return write(INDEX, json.dumps(value))


def vocabulary(number: Callable[[int], int]) -> Damage:
    """Give the tokenizer's plain tokens other numbers."""

    def damage(folder: Path) -> None:
        saved = read(folder, "tokenizer.json")
        saved["model"]["vocab"] = {token: number(i) for token, i in saved["model"]["vocab"].items()}
        (folder / "tokenizer.json").write_text(json.dumps(saved))

    return damage


def gone(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def _wide(tensors: dict[str, Any]) -> dict[str, Any]:
    import torch

    return tensors | {"model.norm.weight": torch.ones(33)}


DEEP = "[" * 100_000
CONFIG, TOKENIZER, TOKENIZER_CONFIG, GENERATION = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
)  # fmt: skip
LLAMA: dict[str, Damage] = {
    # Weights: the file.
    "weights cut off": cut(WEIGHTS, share=0.99),
    "weights cut in the header": cut(WEIGHTS, share=0.005),
    "weights empty": write(WEIGHTS, b""),
    "weights of four bytes": write(WEIGHTS, b"\x08\0\0\0"),
    "weights of nonsense": write(WEIGHTS, b"\x08" + bytes(7) + b"nonsense"),
    "weights of text": write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 538090408\n"),
    "weights of a page": write(WEIGHTS, "<!DOCTYPE html><html><body>Not found</body></html>" * 50),
    "weights a pickle": write(WEIGHTS, b"\x80\x04\x95" + bytes(200)),
    "weights header endless": write(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"),
    "weights header deep": write(WEIGHTS, struct.pack("<Q", len(DEEP)) + DEEP.encode()),
    "weights header a list": write(WEIGHTS, struct.pack("<Q", 2) + b"[]"),
    "weights longer than told": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + bytes(64)),
    "weights header of another type": tensor(dtype="F16"),
    "weights header of an unknown type": tensor(dtype="Q9"),
    "weights header overlapping": tensor(data_offsets=[0, 128]),
    "weights header negative": tensor(shape=[-32]),
    "weights header of words": tensor(shape=["many"]),
    "weights header no shape": header(lambda told: told | {"model.norm.weight": {"dtype": "F32"}}),
    "weights header a tensor is a number": header(lambda told: told | {"model.norm.weight": 7}),
    "weights a folder": both(gone(WEIGHTS), lambda f: (f / WEIGHTS).mkdir()),
    # Weights: what is in it.
    "weights renamed": weights(lambda w: {f"x.{name}": value for name, value in w.items()}),
    "weights without one": weights(lambda w: {n: v for n, v in w.items() if n != "model.norm.weight"}),
    "weights without a kind": weights(lambda w: {n: v for n, v in w.items() if "v_proj" not in n}),
    "weights with a stranger": weights(lambda w: w | {"model.layers.0.gate.weight": w["model.norm.weight"].clone()}),
    "weights of another shape": weights(_wide),
    "weights without head": weights(lambda w: {n: v for n, v in w.items() if n != "lm_head.weight"}),
    "weights none": weights(lambda _: {}),
    # The index.
    "index names a pickle": shards(named="w.bin"),
    "index names another folder": shards(named="../other.safetensors"),
    "index names nothing": shards(named="gone.safetensors"),
    "index a list": both(shards(named="other.safetensors"), index([])),
    "index without map": both(shards(named="other.safetensors"), index({"metadata": {}})),
    "index map a number": both(shards(named="other.safetensors"), index({"weight_map": 3})),
    "index of numbers": both(shards(named="other.safetensors"), index({"weight_map": {"lm_head.weight": 3}})),
    "index empty": both(shards(named="other.safetensors"), index({"weight_map": {}})),
    "index no metadata": both(shards(named="other.safetensors"), without(INDEX, "metadata")),
    "index cut off": both(shards(named="other.safetensors"), cut(INDEX, share=0.5)),
    "index deep": both(shards(named="other.safetensors"), write(INDEX, DEEP)),
    # The configuration.
    "config a list": write(CONFIG, "[]"),
    "config a word": write(CONFIG, '"llama"'),
    "config empty": write(CONFIG, ""),
    "config nothing": write(CONFIG, "{}"),
    "config cut off": cut(CONFIG, share=0.5),
    "config deep": write(CONFIG, DEEP),
    "config of bytes": write(CONFIG, b"\xff\xfe{\0}\0"),
    "config a folder": both(gone(CONFIG), lambda f: (f / CONFIG).mkdir()),
    "config unknown": config(model_type="nonesuch"),
    "config type a number": config(model_type=7),
    "config type a list": config(model_type=["llama"]),
    "config of another family": config(model_type="gpt2"),
    "config of no text": config(model_type="vit", architectures=["ViTModel"]),
    "config no type": without(CONFIG, "model_type"),
    "config code": both(
        config(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}),
        write("own.py", "open('ran', 'w')\n"),
    ),
    "config architectures a number": config(architectures=7),
    "config architectures an encoder": config(architectures=["BertForMaskedLM"]),
    "config heads 0": config(num_attention_heads=0),
    "config heads negative": config(num_attention_heads=-4),
    "config heads of words": config(num_attention_heads="four"),
    "config heads odd": config(num_attention_heads=5, head_dim=None),
    "config pairs of heads 0": config(num_key_value_heads=0),
    "config pairs of heads 3": config(num_key_value_heads=3),
    "config a million layers": config(num_hidden_layers=10**6),
    "config endless layers": config(num_hidden_layers=10**12),
    "config no layers": config(num_hidden_layers=0),
    "config layers negative": config(num_hidden_layers=-2),
    "config half a layer": config(num_hidden_layers=2.5),
    "config fewer layers": config(num_hidden_layers=1),
    "config more layers": config(num_hidden_layers=3),
    "config other width": config(hidden_size=64),
    "config endless width": config(hidden_size=10**15),
    "config width a list": config(hidden_size=[32]),
    "config width nothing": config(hidden_size=None),
    "config width 0": config(hidden_size=0),
    "config endless vocabulary": config(vocab_size=2**40),
    "config smaller vocabulary": config(vocab_size=100),
    "config vocabulary of words": config(vocab_size="all"),
    "config unknown activation": config(hidden_act="import os"),
    "config activation a number": config(hidden_act=3),
    "config rope of words": config(rope_parameters="much"),
    "config rope unknown": config(rope_parameters={"rope_type": "nonesuch", "rope_theta": 10000.0}),
    "config rope of a word": config(rope_parameters={"rope_type": "default", "rope_theta": "x"}),
    "config norm of words": config(rms_norm_eps="small"),
    "config padding beyond": config(pad_token_id=10**6),
    "config dtype unknown": config(dtype="float99"),
    "config attention unknown": config(attn_implementation="nonesuch"),
    "config attention from the hub": config(attn_implementation="someone/some-kernel"),
    "config quantised a word": config(quantization_config="yes"),
    "config an encoder-decoder": config(is_encoder_decoder=True),
    "config positions negative": config(max_position_embeddings=-1),
    "config positions of words": config(max_position_embeddings="long"),
    "config layer types of others": config(layer_types=["nonesuch", "nonesuch"]),
    "config text config a number": config(text_config=7),
    # How to generate.
    "generation a list": write(GENERATION, "[]"),
    "generation cut off": cut(GENERATION, share=0.5),
    "generation of words": change(GENERATION, "eos_token_id", to="end"),
    "generation deep": write(GENERATION, DEEP),
    # The tokenizer.
    "tokenizer a number": write(TOKENIZER, "7"),
    "tokenizer empty": write(TOKENIZER, ""),
    "tokenizer nothing": write(TOKENIZER, "{}"),
    "tokenizer cut off": cut(TOKENIZER, share=0.5),
    "tokenizer deep": write(TOKENIZER, DEEP),
    "tokenizer of bytes": write(TOKENIZER, b"\xff\xfe{\0}\0"),
    "tokenizer a folder": both(gone(TOKENIZER), lambda f: (f / TOKENIZER).mkdir()),
    "tokenizer model unknown": change(TOKENIZER, "model", "type", to="Nonesuch"),
    "tokenizer model a number": change(TOKENIZER, "model", to=7),
    "tokenizer vocabulary a list": change(TOKENIZER, "model", "vocab", to=[1, 2]),
    "tokenizer vocabulary of words": change(TOKENIZER, "model", "vocab", to={"a": "b"}),
    "tokenizer vocabulary empty": change(TOKENIZER, "model", "vocab", to={}),
    "tokenizer vocabulary negative": vocabulary(lambda i: i - 100),
    "tokenizer vocabulary shifted": vocabulary(lambda i: i + 1000),
    "tokenizer vocabulary far away": vocabulary(lambda i: i + 2**31),
    "tokenizer merges of others": change(TOKENIZER, "model", "merges", to=[["no", "such"]]),
    "tokenizer splits by nonsense": change(
        TOKENIZER,
        "pre_tokenizer",
        to={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
    ),
    "tokenizer pre-tokenizer unknown": change(TOKENIZER, "pre_tokenizer", to={"type": "Nonesuch"}),
    "tokenizer added of words": change(TOKENIZER, "added_tokens", to=["<a>"]),
    "tokenizer added far away": change(TOKENIZER, "added_tokens", 0, "id", to=2**31),
    "tokenizer config a list": write(TOKENIZER_CONFIG, "[]"),
    "tokenizer config cut off": cut(TOKENIZER_CONFIG, share=0.5),
    "tokenizer config deep": write(TOKENIZER_CONFIG, DEEP),
    "tokenizer config class a number": change(TOKENIZER_CONFIG, "tokenizer_class", to=7),
    "tokenizer config end a number": change(TOKENIZER_CONFIG, "eos_token", to=7),
    "tokenizer config longest of words": change(TOKENIZER_CONFIG, "model_max_length", to="long"),
    "tokenizer config code": both(
        change(TOKENIZER_CONFIG, "auto_map", to={"AutoTokenizer": ["own.Own", None]}),
        change(TOKENIZER_CONFIG, "tokenizer_class", to="Own"),
        write("own.py", "open('ran', 'w')\n"),
    ),
    "special tokens a list": write("special_tokens_map.json", "[]"),
    "added tokens of words": write("added_tokens.json", '{"<x>": "y"}'),
    # The chat template.
    "template a number": both(gone("chat_template.jinja"), change(TOKENIZER_CONFIG, "chat_template", to=7)),
    "template a list of numbers": both(gone("chat_template.jinja"), change(TOKENIZER_CONFIG, "chat_template", to=[7])),
    "template named by numbers": both(
        gone("chat_template.jinja"), change(TOKENIZER_CONFIG, "chat_template", to=[{"name": 7, "template": 7}])
    ),
    "template without default": both(
        gone("chat_template.jinja"), change(TOKENIZER_CONFIG, "chat_template", to=[{"name": "rag", "template": "x"}])
    ),
    "template an object": both(gone("chat_template.jinja"), change(TOKENIZER_CONFIG, "chat_template", to={"a": 1})),
    "template broken": write("chat_template.jinja", "{% for m in messages %}"),
    "template of bytes": write("chat_template.jinja", b"\xff\xfe\x00"),
    "template an unknown filter": write("chat_template.jinja", "{{ messages | nonesuch }}"),
    "template a folder": both(gone("chat_template.jinja"), lambda f: (f / "chat_template.jinja").mkdir()),
    "template deep": write("chat_template.jinja", "{{" + "(" * 20_000 + "}}"),
    "template json a list": both(gone("chat_template.jinja"), write("chat_template.json", "[]")),
    "template folder of bytes": lambda f: (
        (f / "additional_chat_templates").mkdir(),
        (f / "additional_chat_templates" / "x.jinja").write_bytes(b"\xff"),
    ),
    # Files that are not there.
    "no config": gone(CONFIG),
    "no weights": gone(WEIGHTS),
    "no tokenizer": gone(TOKENIZER, TOKENIZER_CONFIG),
    "a pickle alone": lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"),
    "weights of another name": lambda f: (f / WEIGHTS).rename(f / "weights.safetensors"),
    "shards without index": lambda f: (f / WEIGHTS).rename(f / "model-00001-of-00001.safetensors"),
}  # fmt: skip

# What only a pass through the model, or a row, can tell.
LATE: dict[str, Damage] = {
    "weights not numbers": weights(lambda w: w | {"lm_head.weight": w["lm_head.weight"] * float("nan")}),
    "config both ways": config(is_causal=False),
    "template divides by zero": write("chat_template.jinja", "{{ 1 // 0 }}"),
}

# What changes nothing in the model that is made.
HARMLESS: dict[str, Damage] = {
    "config rope no base": config(rope_parameters={"rope_type": "default"}),
    "config quantised how": config(quantization_config={"quant_method": "nonesuch"}),
    "config tensor parallel": config(base_model_tp_plan={"x": "nonesuch"}),
    "tokenizer config of an unknown class": change(TOKENIZER_CONFIG, "tokenizer_class", to="os.system"),
}


def gguf(*, layers: int = 1, tensors: int = 1, version: int = 3, data: bytes = bytes(64)) -> bytes:
    """A GGUF file of one tensor, in a layer of its own."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    header = struct.pack("<IQQ", version, tensors, 2)
    header += text(b"llama.block_count") + struct.pack("<II", 4, layers)
    header += text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    return b"GGUF" + header + text(b"blk.0.attn_q.weight") + struct.pack("<IQIQ", 1, 8, 0, 0) + data


GGUF = {
    "not one": b"nope" + bytes(100),
    "the magic alone": b"GGUF",
    "zeros": b"GGUF" + bytes(1000),
    "of another version": gguf(version=9),
    "cut off in the header": gguf()[:80],
    "cut off behind the header": gguf(data=b""),
    "too many tensors": gguf(tensors=2**60),
    "too many layers": gguf(layers=10**6),
    "too few layers": gguf(layers=0),
}
ADAPTER = "adapter_model.safetensors"
ADAPTERS: dict[str, Damage] = {
    "cut off": cut(ADAPTER, share=0.9),
    "empty": write(ADAPTER, b""),
    "a pickle": write(ADAPTER, b"\x80\x04" + bytes(100)),
    "gone": gone(ADAPTER),
    "config a list": write("adapter_config.json", "[]"),
    "config deep": write("adapter_config.json", DEEP),
    "config cut off": cut("adapter_config.json", share=0.5),
    "rank of words": change("adapter_config.json", "r", to="many"),
    "rank endless": change("adapter_config.json", "r", to=float("inf")),
    "rank 0": change("adapter_config.json", "r", to=0),
    "rank of a billion": change("adapter_config.json", "r", to=10**9),
}
