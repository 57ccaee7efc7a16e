"""Chat templates of every kind that exists, written by ourselves (chat_templates/*.jinja), and tokenizers for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.tiny_models import make_tokenizer

FOLDER = Path(__file__).parents[1] / "chat_templates"


@dataclass(frozen=True)
class Kind:
    """What the law has to know of a template.

    Attributes:
        ends: Each text that ends an answer of the assistant; empty where nothing does.
        eos: The tokenizer's end-of-text token.
        bos: The tokenizer's beginning-of-text token.
        unfollowable: Why a row may be refused though the template shows it; empty where it may not.
        names_calls: Whether a tool call is shown with the name of its function.
        escapes: Whether characters are written otherwise; a row with such may be refused.
    """

    ends: tuple[str, ...] = ()
    eos: str = "</s>"
    bos: str = "<s>"
    unfollowable: str = ""
    names_calls: bool = True
    escapes: bool = False


def _ends(*ends: str, **other: Any) -> Kind:
    return Kind(ends=ends, **{"eos": ends[-1], **other})


_CHATML = _ends("<|im_end|>")
_OWN = _ends("<|end|>")
_SHOWN_TWICE = "an answer is shown at several places, and nothing tells which is the one that the model gives"

KINDS = {
    "llama2": _ends("</s>"),
    "llama3": _ends("<|eot_id|>", bos="<|begin_of_text|>"),
    "llama31": _ends("<|eot_id|>", bos="<|begin_of_text|>"),
    "llama32": _ends("<|eot_id|>", bos="<|begin_of_text|>"),
    "llama4": _ends("<|eom|>", "<|eot|>", bos="<|begin_of_text|>"),
    "mistral_v1": _ends("</s>"),
    "mistral_v3": _ends("</s>"),
    "mistral_tekken": _ends("</s>"),
    "mistral_v7": _ends("</s>"),
    "magistral": _ends("</s>"),
    "zephyr": _ends("</s>"),
    "vicuna": _ends("</s>"),
    "alpaca": _ends("</s>"),
    "gemma": _ends("<end_of_turn>", eos="<eos>", bos="<bos>"),
    "gemma3": _ends("<end_of_turn>", eos="<eos>", bos="<bos>"),
    "qwen15": _CHATML,
    "qwen25": _CHATML,
    "qwen3": _CHATML,
    "qwen35": _CHATML,
    "qwq": _CHATML,
    "deepseek_v2": _ends("<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>"),
    "deepseek_v3": _ends("<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>"),
    "deepseek_r1": _ends("<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>"),
    "deepseek_v31": _ends("<｜end▁of▁sentence｜>", bos="<｜begin▁of▁sentence｜>"),
    "gpt_oss": _ends("<|end|>", "<|call|>", "<|return|>", bos="<|startoftext|>"),
    "phi3": _ends("<|end|>", eos="<|endoftext|>"),
    "phi4": _CHATML,
    "phi4_mini": _ends("<|end|>", eos="<|endoftext|>"),
    "command_r": _ends("<|END_OF_TURN_TOKEN|>", bos="<BOS_TOKEN>"),
    "command_a": _ends(
        "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
        "<|END_ACTION|><|END_OF_TURN_TOKEN|>",
        "<|END_RESPONSE|>",
        "<|END_ACTION|>",
        "<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
    "glm4": Kind(eos="<|endoftext|>"),
    "glm45": Kind(eos="<|endoftext|>"),
    "granite3": _ends("<|end_of_text|>"),
    "chatml_default": _CHATML,
    "chatml_generation": _CHATML,
    "chatml_generation_content": _CHATML,
    "chatml_generation_header": _CHATML,
    "chatml_generation_wrong": _CHATML,
    "smollm2": _CHATML,
    "smollm3": _CHATML,
    "olmo2": _ends("<|endoftext|>", bos="<|endoftext|>"),
    "internlm2": _CHATML,
    "yi": _CHATML,
    "stablelm": _ends("<|endoftext|>"),
    # The id of a call stands for its name, as "functions.lookup:0".
    "kimi_k2": _ends("<|im_end|>", names_calls=False),
    "minimax": _ends("[e~["),
    "nemotron": Kind(),
    "falcon3": _ends("<|endoftext|>"),
    "hermes": _ends("<|im_end|>", bos="<|begin_of_text|>"),
    "ernie": _ends("<|end_of_sentence|>", eos="</s>"),
    "seed_oss": _ends("<seed:eos>", bos="<seed:bos>"),
    "openchat": _ends("<|end_of_turn|>"),
    "exaone": _ends("[|endofturn|]"),
    "lfm2": _ends("<|im_end|>", bos="<|startoftext|>"),
    "hunyuan": _ends("<｜hy_place▁holder▁no▁2｜>"),
    "hunyuan_wraps": _ends("</answer><|eos|>", "</answer>", "<|eos|>"),
    "chatglm2": Kind(),
    "baichuan": Kind(),
    "end_only_last": _ends("</s>"),
    "end_not_last": _CHATML,
    "system_gathered": _OWN,
    "system_last": _OWN,
    "counts_messages": _OWN,
    "reminder": _OWN,
    "opens_with_words": _OWN,
    "closes_with_words": _OWN,
    "no_separator": Kind(),
    "merges_turns": _OWN,
    "prompt_in_loop": _OWN,
    "strips_at_thinking_tag": _ends("<SPECIAL_11>"),
    "roles_by_place": _OWN,
    "cut_after_answer": _OWN,
    "titled": _OWN,
    "always_asks": _OWN,
    "refuses_questions": _OWN,
    "refuses_beginnings": _OWN,
    "pairs": _ends("</s>"),
    "notes_agreement": _OWN,
    "reply_to": _OWN,
    "ends_by_next": _ends(*(f"<|next_{role}|>" for role in ("assistant", "user", "system", "tool", "nobody"))),
    "parts_only": _ends("<end_of_utterance>"),
    "only_final_answer": _OWN,
    "removes_its_tags": _OWN,
    "drops_repeats": _OWN,
    "first_turn_bare": Kind(),
    "xml_turns": _ends("</assistant>", eos="<|endoftext|>"),
    "capital_letter": _OWN,
    "wraps_words": _OWN,
    "removes_stars": _OWN,
    "renames_role": _OWN,
    "numbers_lines": _OWN,
    "upper_case": _OWN,
    "repeats_question": _OWN,
    "answers_as_user": _OWN,
    "json_content": Kind(escapes=True),
    "json_dump": Kind(unfollowable="it shows the fields of messages, those of reasoning several times"),
    "truncates": _OWN,
    "collapses_blanks": _OWN,
    "html_escape": Kind(escapes=True),
    "indents": Kind(),
    "backwards": _OWN,
    "clock": _ends("<|end|>"),
    "by_length": _ends("<|end|>", unfollowable="what it shows of other texts says nothing about these"),
    "last_two": _ends("<|end|>", unfollowable="answers are not shown at all"),
    "quotes_answer": _ends("<|end|>", unfollowable=_SHOWN_TWICE),
    "tells_answer_first": _ends("<|end|>", unfollowable=_SHOWN_TWICE),
    "labelled": _ends("<|end|>", unfollowable=_SHOWN_TWICE),
    "twice": _ends("<|end|>", unfollowable=_SHOWN_TWICE),
    "other_order": _ends("<|end|>", unfollowable="an answer does not stand behind the message that it answers"),
    "answers_first": _ends("<|end|>", unfollowable="an answer does not stand behind the message that it answers"),
}

_TAG = re.compile(
    r"<[|｜][\w▁ /]+[|｜]>|\[/?(?:INST|[A-Z]+_[A-Z]+|THINK|ARGS)\]|\[\|\w+\|\]|</?\w+(?:[_:]\w+)+>|</?s>|\[e~\["
)
_ROLES = tuple(f"<|{role}|>" for role in ("user", "assistant", "system", "tool"))


@cache
def source(name: str) -> str:
    """The template's text."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def specials(name: str) -> list[str]:
    """The special tokens of a template's tokenizer, the end-of-text token first."""
    kind = KINDS[name]
    parts = [tag for end in kind.ends for tag in _TAG.findall(end)]
    return list(dict.fromkeys([kind.eos, kind.bos, *parts, *_TAG.findall(source(name)), *_ROLES]))


def _with_template(tokenizer: Any, name: str, *, greedy: bool = False) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    eos, bos, *others = specials(name)
    if greedy:
        eos, bos, *others = (AddedToken(token, rstrip=True, special=True) for token in (eos, bos, *others))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=eos,
        bos_token=bos if bos != eos else None,
        additional_special_tokens=others,
    )
    fast.chat_template = source(name)
    return fast


def _copy(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer.to_str())


@cache
def bytes_of(name: str) -> Any:
    """Each byte is a token."""
    return _with_template(_copy(make_tokenizer(chat=False).backend_tokenizer), name)


@cache
def _trained(texts: tuple[str, ...]) -> Any:
    """A byte-level BPE without a pattern of words: tokens reach over spaces, line breaks and punctuation."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def _pieces(texts: tuple[str, ...]) -> Any:
    """As SentencePiece does it: a space before each text, ▁ for spaces, bytes for what is not known."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    prefix = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = prefix
    several = [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", *several], initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = prefix
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def trained(texts: Iterable[str]) -> Callable[[str], Any]:
    """Tokenizers of the BPE that is learned from some texts, by the name of a template."""
    known = tuple(texts)
    return cache(lambda name: _with_template(_copy(_trained(known)), name))


def pieces(texts: Iterable[str]) -> Callable[[str], Any]:
    """Tokenizers after SentencePiece's manner that are learned from some texts, by the name of a template."""
    known = tuple(texts)
    return cache(lambda name: _with_template(_copy(_pieces(known)), name))


@cache
def ended(name: str) -> Any:
    """Each byte is a token, and the tokenizer itself puts a beginning and an end around every text."""
    from tokenizers.processors import TemplateProcessing

    fast = bytes_of(name)
    inner = _copy(fast.backend_tokenizer)
    eos, bos = specials(name)[:2]
    ends = [
        {"id": end, "ids": [inner.token_to_id(token)], "tokens": [token]} for end, token in (("B", bos), ("E", eos))
    ]
    inner.post_processor = TemplateProcessing(single="B $A E", special_tokens=ends)
    return _with_template(inner, name)


@cache
def greedy(name: str) -> Any:
    """Each byte is a token, and special tokens take the blanks behind them, as those of Phi do."""
    return _with_template(_copy(make_tokenizer(chat=False).backend_tokenizer), name, greedy=True)


def composed(name: str) -> Any:
    """Each byte is a token, after characters are composed (NFC). A tokenizer of one's own, to be changed."""
    from tokenizers.normalizers import NFC

    inner = _copy(make_tokenizer(chat=False).backend_tokenizer)
    inner.normalizer = NFC()
    return _with_template(inner, name)
