"""Tiny guard models of every family, whose next token depends on the present one alone, by logits set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from support.tiny_models import make_tokenizer

_CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
_LLAMA = (
    "{% for m in messages %}{% if m['content'] is not string %}{{ raise_exception('text only') }}{% endif %}"
    "{% endfor %}<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n"
    "S1: Violent Crimes.\nS10: Hate.\n<END UNSAFE CONTENT CATEGORIES>"
    "{% for m in messages %}\n\n{{ m['role'] }}: {{ m['content'] | trim }}{% endfor %}\n\n<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>"
)
_GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>"
    "{{ m['content'] }}<|end_of_text|>{% endfor %}"
    "<|start_of_role|>{{ 'assistant' if add_generation_prompt }}<|end_of_role|>"
)


@dataclass(frozen=True)
class TinyGuard:
    """A guard model to make.

    Attributes:
        family: Its family's name.
        template: Its chat template: our own, with what tells the family's from others.
        words: What is one token, besides bytes and special tokens.
        next: Logits of the next token after the present one; 0 of any other.
        unsafe: P(unsafe) that follows.
        categories: The categories that it tells.
        name: Of its folder.
    """

    family: str
    template: str
    words: tuple[str, ...]
    next: Mapping[tuple[str, str], float]
    unsafe: float
    categories: tuple[str, ...] = ()
    name: str = "guard"


def _share(*weighted: tuple[float, float]) -> float:
    """Share a probability of 1 among verdicts with these logits, and sum it by their weights."""
    return sum(weight * exp(logit) for logit, weight in weighted) / sum(exp(logit) for logit, _ in weighted)


_RISKS = ("harm", "social_bias", "violence", "profanity", "sexual_content", "unethical_behavior")
GUARDS = {
    guard.family: guard
    for guard in (
        TinyGuard(
            "llama-guard",
            _LLAMA,
            ("unsafe", "safe", "S1", "S10"),
            # As the real ones, it begins with line breaks; those who list categories do so after another one.
            {
                ("<|end_header_id|>", "\n"): 9,
                ("\n", "unsafe"): 2,
                ("\n", "safe"): 1,
                ("unsafe", "\n"): 9,
                ("\n", "S1"): 9,
                ("S1", ","): 9,
            }
            | {(",", "S10"): 9, ("S10", "<|end|>"): 9},
            _share((2, 1), (1, 0)),
            ("S1 Violent Crimes", "S10 Hate"),
        ),
        TinyGuard(
            "qwen3guard",
            "{{ '<BEGIN UNSAFE CONTENT CATEGORIES> Safety: Safe, Unsafe or Controversial' }}" + _CHAT + "<|im_start|>",
            ("Unsafe", "Controversial", "Safe", "Categories: Violent, Unethical Acts"),
            {(" ", "Unsafe"): 1, (" ", "Controversial"): 0.5, ("Unsafe", "\n"): 9}
            | {("\n", "Categories: Violent, Unethical Acts"): 9}
            | {("Categories: Violent, Unethical Acts", "<|end|>"): 9},
            _share((1, 1), (0.5, 0.5), (0, 0)),
            ("Violent", "Unethical Acts"),
        ),
        TinyGuard(
            "shieldgemma",
            "Our safety principle: {{ guideline }}{% for m in messages %}<start_of_turn>{{ m['content'] }}<end_of_turn>"
            # It tells the guidelines apart by the last of these letters.
            "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model{% endif %}{{ guideline[4:8] }}",
            ("Yes", "No"),
            {("g", "Yes"): 2, ("a", "Yes"): -1, ("e", "Yes"): 1, ("u", "No"): 3},
            _share((2, 1), (0, 0)),
            ("dangerous content", "hate speech"),
        ),
        TinyGuard(
            "wildguard",
            "",
            ("yes", "no"),
            {(" ", "yes"): 1.5},
            _share((1.5, 1), (0, 0)),
            name="wildguard-7b",
        ),
        TinyGuard(
            "granite-guardian",
            _GRANITE + "{{ guardian_config.risk_name }}",
            ("Yes", "No", *_RISKS),
            {("harm", "Yes"): 2, ("violence", "Yes"): 1, ("profanity", "No"): 1, ("sexual_content", "No"): 1}
            | {("social_bias", "No"): 1, ("unethical_behavior", "Yes"): 3},
            _share((2, 1), (0, 0)),
            ("violence", "unethical behavior"),
        ),
        TinyGuard(
            "granite-guardian-3.3",
            _GRANITE + "{{ '<score>' if not think }}{# guardian_config.criteria_id #}",
            ("yes", "no"),
            {(" ", "no"): 1.5},
            _share((0, 1), (1.5, 0)),
        ),
        TinyGuard(
            "granite-guardian-4",
            _GRANITE,
            ("yes", "no"),
            {(" ", "yes"): -0.5},
            _share((-0.5, 1), (0, 0)),
            name="granite-guardian-4.1-8b",
        ),
        TinyGuard(
            "gpt-oss-safeguard",
            "{{ reasoning_effort }}{% for m in messages %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>"
            "{% endfor %}<|start|>assistant",
            ("assistant", "final", "unsafe", " hate", " weapons"),
            {("assistant", "<|channel|>"): 9, ("<|channel|>", "final"): 9, ("final", "<|message|>"): 9}
            | {("<|message|>", "unsafe"): 9, ("unsafe", ":"): 9, (":", " hate"): 9, (" hate", ","): 9}
            | {(",", " weapons"): 9, (" weapons", "<|end|>"): 9},
            1.0,
            ("hate", "weapons"),
            name="gpt-oss-safeguard-20b",
        ),
    )
}
# A Llama Guard to which an answer is unsafe that ends in an exclamation mark.
EXCLAMATIONS = TinyGuard(
    "llama-guard",
    "UNSAFE CONTENT CATEGORIES\nS1: Exclamations.\n"
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}",
    ("unsafe", "safe", "S1"),
    {
        ("!", "unsafe"): 3,
        (".", "safe"): 3,
        (".", "unsafe"): 1,
        ("unsafe", "\n"): 9,
        ("\n", "S1"): 9,
        ("S1", "<|end|>"): 9,
    },
    _share((3, 1), (0, 0)),
    ("S1 Exclamations",),
)
_SPECIALS = (
    *("<s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>"),
    *("<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    *("<|start|>", "<|channel|>", "<|message|>"),
)
_SHARPNESS = 10.0


def make_guard(guard: TinyGuard, folder: Path) -> Path:
    """Write a guard model into a folder of its name."""
    import torch
    import transformers as t
    from tokenizers import AddedToken

    tokenizer: Any = make_tokenizer(chat=False)
    tokenizer.chat_template = guard.template or None
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SPECIALS)})
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in guard.words])
    size = -(-len(tokenizer) // 8) * 8
    config = t.LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=4096, bos_token_id=None, eos_token_id=256, pad_token_id=256, tie_word_embeddings=False,
    )  # fmt: skip
    model = t.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        # Each token's state is an axis of its own up to the head, so that the head holds the logits.
        model.model.embed_tokens.weight.copy_(_SHARPNESS * torch.eye(size))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for (present, following), logit in guard.next.items():
            ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (present, following)]
            assert [len(each) for each in ids] == [1, 1]
            model.lm_head.weight[ids[1][0], ids[0][0]] = logit / size**0.5
    target = folder / guard.name
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
