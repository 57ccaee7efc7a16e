"""The law of the mask: it is the answer's own words and their end, and never another message's.

What is right is found without the code under test: by `apply_chat_template` itself, by words that stand in one
message only, and by the same chat with other answers.
"""

from __future__ import annotations

import re
from typing import Any

from support.template_chats import MARK, Chat
from support.template_kinds import KINDS, bytes_of
from support.template_masks import masked, shown, spans

# What a template may write around reasoning. Whether a mask holds it before the answer's first word is left open.
_THINK = r"</?think>|</?seed:think>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>|</?answer>"
_OPENS = rf"(?i:\s|{_THINK})*"
# A large token may reach a little over the edge of an answer, but not as far as anybody's words.
_EDGE = r"\W{0,4}"


def _closes(name: str) -> str:
    """What may follow an answer in its span: blanks, and an end of turn, once."""
    ends = sorted(map(re.escape, KINDS[name].ends), key=len, reverse=True)
    # Where tokens write ▁ for a space, a ▁ of the template's own is read as a space, too.
    return rf"\s*(?:{'|'.join(ends)})?\s*".replace("▁", "[▁ ]") if ends else r"\s*"


def alike(ends: tuple[str, ...], texts: list[str]) -> bool:
    """Whether all answers end with an end of turn, or none does."""
    bare = tuple(end.replace("▁", " ") for end in ends)
    return len({text.replace("▁", " ").rstrip().endswith(bare) for text in texts}) <= 1 if ends else True


def strings(value: Any) -> list[str]:
    """All texts within a value."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in strings(part)]


def marks(value: Any) -> list[str]:
    """The marked words within a value, each once."""
    return list(dict.fromkeys(MARK.findall(" ".join(strings(value)))))


def conclusion(content: str) -> str:
    """An answer's text without the reasoning at its beginning."""
    return content.split("</think>")[-1].strip() if content.startswith("<think>") else content.strip()


class Truth:
    """What a template shows of a chat, as far as that can be told without the code under test."""

    def __init__(self, name: str, tokenizer: Any, chat: Chat) -> None:
        self.kind, self.name, self.tokenizer, self.chat = KINDS[name], name, tokenizer, chat
        self.rendered = shown(tokenizer, chat.messages, chat.tools)
        self.text = self.rendered or ""
        self.answers = [chat.messages[i] for i in chat.trained]

    @property
    def in_view(self) -> list[dict[str, Any]]:
        """The answers of which the template shows any word."""
        words = set(marks(self.text))
        return [answer for answer in self.answers if words.intersection(marks(answer))]

    def rewrites(self, answer: dict[str, Any]) -> bool:
        """Whether an answer is shown otherwise than in its own words."""
        content = answer["content"] or ""
        return conclusion(content) not in self.text or (self.kind.escapes and content.strip() not in self.text)

    def headless(self, answer: dict[str, Any]) -> bool:
        """Whether a row begins with an answer's own words; nothing stands before them, so the first is not learned."""
        content = (answer["content"] or "").strip()
        return content != "" and self.text.lstrip().startswith(content)

    def may_be_refused(self) -> bool:
        """A bad row is right where the template refuses it, cannot be followed or does not show an answer's words."""
        if self.rendered is None or self.kind.unfollowable or any(map(self.rewrites, self.answers)):
            return True
        return any(mark not in self.text for m in self.answers for mark in marks(m.get("tool_calls")))

    def header(self, answer: dict[str, Any]) -> str:
        """What the template writes to have the assistant speak, up to any tag of reasoning; empty where nothing."""
        context = self.chat.messages[: next(i for i, m in enumerate(self.chat.messages) if m is answer)]
        plain = shown(self.tokenizer, context)
        asked = shown(self.tokenizer, context, add_generation_prompt=True)
        if plain is None or asked is None or not asked.startswith(plain):
            return ""
        return re.split(_THINK, asked[len(plain) :])[0].strip()


def faults(name: str, tokenizer: Any, chat: Chat, *, loose: bool = False) -> list[str]:
    """What is wrong with the mask of a chat; empty where the law holds. `loose` is for tokens of many characters."""
    truth, found = Truth(name, tokenizer, chat), masked(chat.row, tokenizer)
    if found is None:
        return [] if truth.may_be_refused() else ["refused, though the template shows it"]
    wrong = [] if alike(truth.kind.ends, found) else [f"ends differ: {[text[-20:] for text in found]}"]
    owners = []
    for text in found:
        owner = next((m for m in truth.answers if set(marks(text)[:1]) & set(marks(m))), None)
        if owner is not None:
            owners.append(owner)
            wrong += _of_its_owner(truth, owner, text) + _edges(truth, owner, text, _EDGE if loose else "")
        elif marks(text) or not any(truth.rewrites(m) or truth.headless(m) for m in truth.answers):
            wrong.append(f"nothing of an answer: {text!r}")
    if any(owner is other for i, owner in enumerate(owners) for other in owners[:i]):
        wrong.append(f"one answer in several spans: {found}")
    missed = [m for m in truth.in_view if not any(m is owner for owner in owners) and not truth.headless(m)]
    if missed and not truth.kind.unfollowable:
        wrong.append(f"shown, but in no span: {[m['content'] for m in missed]}")
    return wrong


def _of_its_owner(truth: Truth, owner: dict[str, Any], text: str) -> list[str]:
    """What is wrong with the words of a span: those of others, those left out."""
    own, inside, wrong = marks(owner), marks(text), []
    if foreign := [mark for mark in inside if mark not in own]:
        wrong.append(f"another message's words {foreign}: {text!r}")
    shown_words = [mark for mark in marks(truth.text) if mark in own]
    if truth.headless(owner):
        return wrong
    if missing := [mark for mark in shown_words if mark not in inside]:
        wrong.append(f"words left out {missing}: {text!r}")
    elif [mark for mark in inside if mark in shown_words] != shown_words and not truth.kind.unfollowable:
        wrong.append(f"not in the order in which they are shown {shown_words}: {text!r}")
    calls = owner.get("tool_calls") or []
    if truth.kind.names_calls:
        names = [c["function"]["name"] for c in calls if set(marks(c)) & set(inside)]
        wrong += [f"a call without its name {name}: {text!r}" for name in names if name not in text]
    return wrong


def _lead(owner: dict[str, Any], mark: str) -> str:
    """An answer's own signs before its first word that is shown."""
    text = next((text for text in strings(owner) if mark in text), "")
    return re.split(_THINK, text[: text.index(mark)])[-1].lstrip() if text else ""


def _edges(truth: Truth, owner: dict[str, Any], text: str, edge: str) -> list[str]:
    """What is wrong with how a span begins and ends."""
    content, inside, called, wrong = owner["content"] or "", marks(text), marks(owner.get("tool_calls")), []
    headless = truth.headless(owner)
    parts = (content.strip(), conclusion(content), (owner.get("reasoning_content") or "").strip())
    if not edge and not headless and any(part in truth.text and part not in text for part in parts):
        wrong.append(f"not word for word: {text!r}")
    before = text[: text.index(inside[0])]
    if inside[0] in called:
        header = truth.header(owner)
        if len(before) > 120 or (header and header in before):
            wrong.append(f"a header before a call: {text!r}")
    elif not re.fullmatch(rf"{edge}{_OPENS}(?:{re.escape(_lead(owner, inside[0]))})?", before) and not headless:
        wrong.append(f"a header before the answer: {text!r}")
    after = text[text.rindex(inside[-1]) + len(inside[-1]) :]
    if inside[-1] in called:
        # The number of days is the last that a call says.
        if "2" not in after and not truth.kind.unfollowable:
            wrong.append(f"a call that is cut off: {text!r}")
        rest = re.sub(rf"(?:{_closes(truth.name)})$", "", after, count=1)
        if len(rest) > 120 or any(end in rest for end in truth.kind.ends):
            wrong.append(f"more than the call: {text!r}")
    elif inside[-1] in content and not truth.rewrites(owner):
        tail = content[content.rindex(inside[-1]) + len(inside[-1]) :]
        if not re.fullmatch(r"\s*".join(map(re.escape, tail.split())) + edge + _closes(truth.name), after):
            wrong.append(f"more than the answer and its end: {text!r}")
    return wrong


# The same chat with other answers tells where the answers stand, as long as nothing else changes with them.


def _others(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    names = iter(f"Qz{i}vx" for i in range(len(messages)))
    changed = [m | {"content": next(names)} if m["role"] == "assistant" else m for m in messages]
    return changed, [m["content"] for m in changed if m["role"] == "assistant"]


def places(tokenizer: Any, messages: list[dict[str, Any]]) -> list[tuple[int, int]] | None:
    """Where each answer stands in the text that the template shows, or None where that changes with the answer."""
    text, (changed, names) = shown(tokenizer, messages), _others(messages)
    frame = shown(tokenizer, changed)
    if text is None or frame is None or any(frame.count(name) != 1 for name in names):
        return None
    head, *rest = re.split("|".join(names), frame)
    found, cursor = [], len(head)
    if not text.startswith(head) or names != re.findall("|".join(names), frame):
        return None
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    for i, (answer, behind) in enumerate(zip(answers, rest, strict=True)):
        forms = (answer, answer.strip(), answer.strip("\n"), answer.lstrip("\n"))
        end = len(text) if i == len(rest) - 1 else None
        fits = (f for f in forms if text.startswith(f + behind, cursor) and end in (None, cursor + len(f + behind)))
        form = next(fits, None)
        if form is None:
            return None
        found.append((cursor, cursor + len(form)))
        cursor += len(form) + len(behind)
    return found


def misplaced(name: str, messages: list[dict[str, Any]]) -> list[str]:
    """What is wrong with where the spans of an awkward chat stand."""
    tokenizer = bytes_of(name)
    text, where = shown(tokenizer, messages), places(tokenizer, messages)
    found = spans({"messages": messages}, tokenizer)
    if found is None:
        return [] if where is None or KINDS[name].unfollowable else ["refused, though the template shows it"]
    if where is None:
        own = set(marks([m["content"] for m in messages if m["role"] == "assistant"]))
        return [f"another's words: {span.text!r}" for span in found if set(marks(span.text)) - own]
    if len(found) != len(where):
        return [f"{len(found)} spans for {len(where)} answers"]
    wrong, with_end = [], set()
    for (start, end), span in zip(where, found, strict=True):
        begins, ends = len(span.before), len(span.before) + len(span.text)
        assert text is not None
        assert text[begins:ends] == span.text
        opened = re.fullmatch(_OPENS, text[begins:start]) if begins <= start else not text[start:begins].strip()
        closed = re.fullmatch(_closes(name), text[end:ends]) if end <= ends else not text[ends:end].strip()
        if not opened or not closed:
            wrong.append(f"should be {text[start:end]!r}, is {span.text!r} behind {span.before[-40:]!r}")
        with_end.add(bool(text[end:ends].strip()))
    return wrong + (["ends differ"] if len(with_end) > 1 else [])
