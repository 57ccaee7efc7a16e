"""The law of the mask, over all templates and chats: it is the answer's own words, and never another message's.

What is right is found without the code under test: by `apply_chat_template` itself and by words that stand in one
message only, and for the peculiar cases by hand.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import jinja2
import pytest

from forgetfilter.data.layouts import FieldError, find_layout
from forgetfilter.data.tokens import Encoder
from forgetfilter.errors import InputError
from template_chats import AWKWARD, CHATS, MARK, Chat, awkward, call, chat, message, result, tool, words
from template_kinds import FOLDER, KINDS, bytes_of, ended, pieces, source, trained

LONGEST = 1 << 20


class Span(NamedTuple):
    """One answer as it is trained on: its text, and the text of all tokens before it."""

    text: str
    before: str


@cache
def _encoder(tokenizer: Any, template: str) -> Encoder:
    return Encoder(tokenizer, template, LONGEST)


def spans(row: Any, tokenizer: Any, template: str = "chat") -> list[Span] | None:
    """The decoded spans of one row, or None where the row is refused. All calls of the code under test are here."""
    try:
        said = find_layout(row, "auto", {}, "data").messages(row)
        (tokens,) = _encoder(tokenizer, template).encode([("x", 0, said)])
    except (FieldError, InputError):
        return None
    ids = tokens.input_ids.tolist()
    decoded = [(tokenizer.decode(ids[a:b]), tokenizer.decode(ids[:a])) for a, b in tokens.spans]
    return [Span(*texts) for texts in decoded]


def masked(row: Any, tokenizer: Any, template: str = "chat") -> list[str] | None:
    """The decoded text of each span of one row, or None where the row is refused."""
    found = spans(row, tokenizer, template)
    return None if found is None else [span.text for span in found]


def shown(tokenizer: Any, messages: list[dict[str, Any]], tools: Any = None, **more: Any) -> str | None:
    """The chat as the template itself shows it, or None where it refuses it."""
    try:
        return str(tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **more))
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


# What a template may write between its header and an answer, or inside of one, and a mask may hold or leave out.
_THINK = r"</?think>|</?seed:think>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>|</?answer>"
_OPENS = re.compile(rf"(?:\s|{_THINK})*")


def _end(name: str, *, loose: bool = False) -> re.Pattern[str]:
    """What may follow an answer in its span: an end of turn, once, and blanks; with large tokens their rest, too."""
    ends = "|".join(re.escape(end) for end in sorted(KINDS[name].ends, key=len, reverse=True))
    text = rf"\s*(?:{ends})?\s*" if ends else r"\s*"
    return re.compile(rf"\W{{0,4}}{text}" if loose else text)


def alike(name: str, texts: list[str]) -> bool:
    """Whether all answers end with an end of turn, or none does."""
    ends = KINDS[name].ends
    return len({any(text.rstrip().endswith(end) for end in ends) for text in texts}) <= 1


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in strings(part)]


def marks(value: Any) -> list[str]:
    return list(dict.fromkeys(MARK.findall(" ".join(strings(value)))))


def own_words(content: str) -> str:
    """An answer's text without the reasoning at its beginning."""
    return content.split("</think>")[-1].strip() if content.startswith("<think>") else content.strip()


def header(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    """What the template writes to have the assistant speak, up to any tag of reasoning; empty where it does not."""
    plain, asked = shown(tokenizer, messages), shown(tokenizer, messages, add_generation_prompt=True)
    if plain is None or asked is None or not asked.startswith(plain):
        return ""
    return re.split(_THINK, asked[len(plain) :])[0].strip()


def may_be_refused(name: str, chat: Chat, text: str | None) -> bool:
    """Whether a bad row is right: the template refuses it, cannot be followed, or does not show an answer's words."""
    if text is None or KINDS[name].unfollowable:
        return True
    answers = [chat.messages[i] for i in chat.trained]
    rewritten = any(own_words(m["content"] or "") not in text for m in answers)
    return rewritten or any(mark not in text for m in answers for mark in marks(m.get("tool_calls")))


def faults(name: str, tokenizer: Any, chat: Chat, *, loose: bool = False) -> list[str]:
    """What is wrong with the mask of a chat; empty where the law holds."""
    text = shown(tokenizer, chat.messages, chat.tools)
    found = masked(chat.row, tokenizer)
    if found is None:
        return [] if may_be_refused(name, chat, text) else ["refused, though the template shows it"]
    found = [span for span in found if span]
    answers = [chat.messages[i] for i in chat.trained]
    in_view = set(marks(text or ""))
    wanted = [m for m in answers if in_view.intersection(marks(m))]
    wrong = [] if alike(name, found) else [f"ends differ: {[span[-20:] for span in found]}"]
    whose = []
    for span in found:
        inside = marks(span)
        owner = next((m for m in answers if inside and inside[0] in marks(m)), None)
        if owner is None:
            wrong.append(f"no answer's words: {span!r}")
            continue
        whose.append(owner)
        if foreign := [mark for mark in inside if mark not in marks(owner)]:
            wrong.append(f"another message's words {foreign}: {span!r}")
        missing = [mark for mark in marks(text or "") if mark in marks(owner) and mark not in inside]
        if missing:
            wrong.append(f"words left out {missing}: {span!r}")
        wrong += _edges(name, tokenizer, chat, owner, span, text or "", loose=loose)
    if any(a is b for i, a in enumerate(whose) for b in whose[:i]):
        wrong.append(f"one answer's words in several spans: {found}")
    missed = [m for m in wanted if not any(m is owner for owner in whose)]
    if missed and not KINDS[name].unfollowable:
        wrong.append(f"shown, but in no span: {[m['content'] for m in missed]}")
    return wrong


def _edges(
    name: str, tokenizer: Any, chat: Chat, owner: dict[str, Any], span: str, text: str, *, loose: bool
) -> list[str]:
    """What is wrong with how a span begins and ends, and with the text in between."""
    wrong = []
    content, inside = owner["content"] or "", marks(span)
    first, last = span.index(inside[0]), span.rindex(inside[-1]) + len(inside[-1])
    if loose:
        span_is = span.strip()
    else:
        span_is = span
        if len(inside) > 1 and content.strip() in text and content.strip() not in span:
            wrong.append(f"not word for word: {span!r}")
    before, after = span_is[: span_is.index(inside[0])], span[last:]
    called = marks(owner.get("tool_calls"))
    names = [part["function"]["name"] for part in owner.get("tool_calls") or []]
    if inside[0] in called:
        opening = header(tokenizer, chat.messages[: chat.messages.index(owner)])
        if len(before) > 120 or (opening and opening in before):
            wrong.append(f"a header before a call: {span!r}")
    elif not (re.fullmatch(rf"\W{{0,4}}(?:{_OPENS.pattern})", before) if loose else _OPENS.fullmatch(before)):
        wrong.append(f"a header before the answer: {before!r} in {span!r}")
    if KINDS[name].names_calls and any(mark in called for mark in inside):
        wrong += [f"a call without its name {n}: {span!r}" for n, m in zip(names, called, strict=True) if m in inside and n not in span]
    if inside[-1] in called:
        ends = [end for end in KINDS[name].ends if after.rstrip().endswith(end)]
        body = after.rstrip().removesuffix(max(ends, key=len)) if ends else after
        if any(end in body for end in KINDS[name].ends) or len(body) > 120:
            wrong.append(f"more than the call: {span!r}")
    else:
        tail = "." if "C." in content else ""
        stripped = after.removeprefix(tail).removeprefix("\n```")
        stripped = stripped.removeprefix("')") if "```" in content else stripped
        stripped = stripped.removeprefix("\n```")
        if not _end(name, loose=loose).fullmatch(stripped):
            wrong.append(f"more than the answer and its end: {after!r} in {span!r}")
    return wrong if first >= 0 else []


ALL = [(name, kind) for name in KINDS for kind in CHATS]


def texts_to_learn() -> list[str]:
    chats = [chat for chat in CHATS.values() if len(chat.messages) < 12]
    return [text for chat in chats for text in strings(chat.messages)] + [source(name) for name in list(KINDS)[:8]]


@pytest.fixture(scope="module")
def of_pieces():
    return pieces(texts_to_learn())


@pytest.fixture(scope="module")
def of_bpe():
    return trained(texts_to_learn())


def test_every_template_has_its_kind():
    assert {path.stem for path in FOLDER.glob("*.jinja")} == set(KINDS)
    assert len(KINDS) >= 35
    assert sum(bool(kind.unfollowable) for kind in KINDS.values()) <= 8


@pytest.mark.parametrize("name", KINDS)
def test_the_corpus_is_sound(name):
    """Each template shows at least one turn, and the tokenizer gives back what it shows."""
    tokenizer = bytes_of(name)
    text = shown(tokenizer, CHATS["one_turn"].messages)
    assert text is not None
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert not KINDS[name].ends or any(end in text for end in KINDS[name].ends) or name == "end_not_last"


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_the_mask_is_the_answers_own_words(name, kind):
    assert not faults(name, bytes_of(name), CHATS[kind])


@pytest.mark.parametrize(("name", "kind"), ALL[::3])
def test_so_it_is_where_tokens_reach_over_words(name, kind, of_bpe):
    assert not faults(name, of_bpe(name), CHATS[kind], loose=True)


@pytest.mark.parametrize(("name", "kind"), ALL[1::3])
def test_so_it_is_where_a_tokenizer_puts_a_space_first(name, kind, of_pieces):
    assert not faults(name, of_pieces(name), CHATS[kind], loose=True)


@pytest.mark.parametrize(("name", "kind"), ALL[2::3])
def test_so_it_is_where_a_tokenizer_adds_the_ends(name, kind):
    assert not faults(name, ended(name), CHATS[kind])
