"""Render a chat with the model's own template, and tell where in the text its answers stand."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import regex

from ..errors import ModelError
from .chats import ASSISTANT, REASONING, TOOL_CALLS, Chat, FieldError, Message, called
from .marking import CALL_NAME, CONTENT, Marker, Piece, Place, where

Span = tuple[int, int]

_GENERATION = regex.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# What a row cannot set: the arguments of the renderer itself.
_OURS = {"messages", "tools", "documents", "add_generation_prompt", "chat_template", "continue_final_message"}
# What is marked, tried in turn: templates look at names of functions, and at words such as "/no_think" in a prompt.
_MARKED = (
    ((CONTENT, *REASONING, TOOL_CALLS), True),
    ((CONTENT, *REASONING), True),
    ((CONTENT, *REASONING, TOOL_CALLS), False),
    ((CONTENT,), False),
)
_TOKEN = regex.compile(r"<[|｜]\S{1,40}[|｜]>")
_ASKED, _ANSWERED = {"role": "user", CONTENT: "A"}, {"role": ASSISTANT, CONTENT: "B"}
_BLANK = regex.compile(r"\s+")


@dataclass(frozen=True)
class Answer:
    """Where a turn that is trained on stands in a text, as (start, end) with the end excluded.

    Attributes:
        spans: All of it, with its end-of-turn token; one span, unless another message stands within it.
        parts: Its reasoning, its content and its tool calls, each by itself; the last has the end-of-turn token.
    """

    spans: tuple[Span, ...]
    parts: tuple[Span, ...]


@dataclass(frozen=True)
class Rendered:
    """A chat as text.

    Attributes:
        text: What the model is shown.
        answers: The turns that are trained on, in order, as far as they are shown.
        unshown: What the template leaves out, by name, such as `tools` or `reasoning_content`.
    """

    text: str
    answers: tuple[Answer, ...]
    unshown: tuple[str, ...] = ()


class _Shown:
    """What a template made of a chat.

    Args:
        text: The text.
        blocks: What the template itself marks as generated; empty where it marks nothing.
        pieces: The texts of the chat, in order.
        places: Where each of them stands; None where it is not shown.

    Attributes:
        text, blocks: As given.
        hidden: The pieces that are not shown.
    """

    def __init__(
        self, text: str, blocks: Sequence[Span], pieces: Sequence[Piece], places: Sequence[Place | None]
    ) -> None:
        self.text, self.blocks = text, blocks
        self.hidden = [piece for piece, place in zip(pieces, places, strict=True) if place is None]
        there = [(place, piece) for piece, place in zip(pieces, places, strict=True) if place is not None]
        self._there = sorted(there, key=lambda pair: pair[0].start)
        self._starts = [place.start for place, _ in self._there]
        self._of: dict[int, list[tuple[Piece, Place]]] = defaultdict(list)
        for place, piece in self._there:
            self._of[piece.message].append((piece, place))

    def of(self, message: int) -> list[tuple[Piece, Place]]:
        """The pieces of a message that are shown, in the order of the text."""
        return self._of.get(message, [])

    def around(self, start: int, end: int) -> Span:
        """How far a piece of a message could reach: to its neighbours, or the ends of the text."""
        before, after = bisect_left(self._starts, start), bisect_left(self._starts, end)
        return (
            min(start, self._there[before - 1][0].end) if before else 0,
            self._starts[after] if after < len(self._starts) else len(self.text),
        )

    def is_parted(self, message: int, start: int, end: int) -> bool:
        """Whether another message stands within a part of the text."""
        within = range(bisect_left(self._starts, start), bisect_left(self._starts, end))
        return any(self._there[i][1].message != message for i in within)


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: A tokenizer that has one.

    Raises:
        ModelError: It is no template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        try:
            tokenizer.apply_chat_template([_ASKED, _ANSWERED], tokenize=False)
        except (jinja2.TemplateSyntaxError, ValueError) as error:
            problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelError(f"this model's chat template is broken: {problem}; use --template plain") from error
        except Exception:
            # It may refuse so short a chat, and yet take the data's own.
            pass

    def render(self, chat: Chat) -> Rendered:
        """Render a chat and find its answers.

        Raises:
            FieldError: The template refuses the chat, shows none of its answers, or does with an answer what cannot
                be followed.
        """
        arguments = self._arguments(chat)
        problem: FieldError | None = None
        for turns in _forms(chat.messages):
            try:
                shown = self._shown(turns, arguments)
                answers = self._answers(chat.messages, shown)
            except FieldError as error:
                problem = problem or error
                continue
            return Rendered(shown.text, answers, tuple(self._unshown(chat, shown)))
        assert problem is not None
        raise problem

    def _arguments(self, chat: Chat) -> dict[str, Any]:
        """What the template is given beside the messages. A row may set the template's own variables, and no other."""
        names = self._variables(bool(chat.tools)) - _OURS - set(self._tokenizer.special_tokens_map)
        kwargs = {name: value for name, value in chat.template_kwargs.items() if name in names}
        return kwargs | ({"tools": list(chat.tools)} if chat.tools else {})

    def _source(self, tools: Any = None) -> str:
        """The template's text; models may have one of its own for tools."""
        return str(self._tokenizer.get_chat_template(tools=tools or None))

    @cache  # noqa: B019
    def _variables(self, tools: bool) -> frozenset[str]:
        """What the template reads, by name, with tools or without."""
        environment = jinja2.Environment(extensions=[jinja2.ext.loopcontrols], autoescape=True)
        try:
            source = _GENERATION.sub("", self._source([{}] if tools else None))
            return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(source)))
        except jinja2.TemplateError:
            return frozenset()

    def _apply(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text that the template makes of turns, and what it marks as generated.

        Raises:
            FieldError: The template refuses them.
        """
        tokenizer = self._tokenizer
        try:
            if not _GENERATION.search(self._source(arguments.get("tools"))):
                return str(tokenizer.apply_chat_template(list(turns), tokenize=False, **arguments)), []
            # `apply_chat_template` itself says which tokens are marked, where characters are wanted.
            from transformers.utils.chat_template_utils import render_jinja_template

            (text,), (blocks,) = render_jinja_template(
                [[{name: value for name, value in turn.items() if value is not None} for turn in turns]],
                chat_template=self._source(arguments.get("tools")),
                return_assistant_tokens_mask=True,
                **{**tokenizer.special_tokens_map, **arguments},
            )
        except Exception as error:
            # A template is a program of the model's author; whatever it raises is about this row and that model.
            problem = next(iter(str(error).strip().splitlines()), type(error).__name__)
            found = f"a chat that the model's chat template refuses ({problem})"
            raise FieldError("", found, "one that it takes, or --template plain") from error
        return text, blocks

    def _shown(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> _Shown:
        """What the template makes of turns, and where each piece of them came out."""
        text, blocks = self._apply(turns, arguments)
        for fields, context in _MARKED:
            marker = Marker(fields, context=context)
            marked = marker.mark(turns)
            try:
                places = where(text, self._apply(marked, arguments)[0], marker.pieces)
            except FieldError:
                continue
            if places is not None:
                return _Shown(text, blocks, marker.pieces, places)
        answers = [i for i, turn in enumerate(turns) if turn["role"] == ASSISTANT]
        if len(answers) == len(blocks) > 0:
            return _Shown(text, blocks, [Piece(i, CONTENT, i) for i in answers], [Place(*block, 0) for block in blocks])
        found = "a message that the model's chat template changes in a way that cannot be followed"
        raise FieldError("", found, "messages shown as they are, or --template plain")

    def _answers(self, messages: Sequence[Message], shown: _Shown) -> tuple[Answer, ...]:
        """The turns that are trained on, as far as they are shown."""
        found = [
            answer
            for i, message in enumerate(messages)
            if message.trained and (answer := self._answer(i, shown)) is not None
        ]
        if not found:
            raise FieldError("", "no answer in what the model's chat template shows", "an answer, to train on")
        # Where a template ends some answers with a token and others with none, all are taken without it.
        alike = all(answer.closed is not None for answer in found)
        return tuple(sorted((answer.whole(shown, closed=alike) for answer in found), key=lambda answer: answer.parts))

    def _answer(self, message: int, shown: _Shown) -> _Found | None:
        """Where a turn stands; None where it is not shown, or where the template marks nothing of it as generated."""
        pieces = shown.of(message)
        if any(place.letters > piece.letters for piece, place in pieces):
            raise FieldError("", "an answer that the model's chat template shows more than once", "it once")
        parts = [_with_ends(group, shown.text) for group in _groups(pieces)]
        if not parts:
            return None
        if shown.blocks:
            blocks = [self._unopened(block, shown.text) for block in shown.blocks]
            blocks = [block for block in blocks if any(_meet(block, part) for part in parts)]
            return _Found(message, _clipped(parts, blocks), None, tuple(blocks)) if blocks else None
        if pieces[0][0].name == CALL_NAME:
            parts[0] = (self._opening(parts[0], shown), parts[0][1])
        closed = self._end_of_turn(parts[-1], shown, is_call=pieces[-1][0].name in (CALL_NAME, TOOL_CALLS))
        return _Found(message, parts, closed)

    def _unopened(self, block: Span, text: str) -> Span:
        """What a template marks as generated, without what begins every answer: some mark that, too."""
        start = block[0] + len(text[block[0] : block[1]]) - len(text[block[0] : block[1]].lstrip())
        given = self._probe.opening
        return (start + len(given), block[1]) if given and text.startswith(given, start) else block

    def _opening(self, part: Span, shown: _Shown) -> int:
        """Where a turn begins that is nothing but a call: behind what the model is given to begin an answer."""
        before, _ = shown.around(*part)
        opening = self._probe.opening
        at = shown.text.rfind(opening, before, part[0]) if opening else -1
        return at + len(opening) if at >= 0 else part[0]

    def _end_of_turn(self, part: Span, shown: _Shown, *, is_call: bool) -> int | None:
        """Where the token ends that ends a turn; None where the template has none, or not here.

        Args:
            part: The last part of a turn.
            shown: What the template made.
            is_call: Whether the part is a call. Then the template closes what it opened first.
        """
        _, after = shown.around(*part)
        rest, last = shown.text[part[1] : after], self._probe.end_of_turn
        if not last:
            return None
        at = rest.find(last)
        if at >= 0 and (is_call or not rest[:at].strip()):
            return part[1] + at + len(last)
        # An earlier turn may end with another token. The one that begins the next turn follows it.
        specials = self._special.finditer(rest)
        first, second = next(specials, None), next(specials, None)
        ends = first is not None and (second is not None or after == len(shown.text))
        if first is None or not ends or not (is_call or not rest[: first.start()].strip()):
            return None
        return part[1] + first.end()

    @cached_property
    def _special(self) -> regex.Pattern[str]:
        """The tokenizer's special tokens, in a text."""
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        names = sorted({*added, *self._tokenizer.all_special_tokens}, key=len, reverse=True)
        return regex.compile("|".join(map(regex.escape, names)) or "(?!)")

    @cached_property
    def _probe(self) -> _Probe:
        """What the template puts around an answer, as it shows the shortest chat."""
        try:
            shown = self._shown([_ASKED, _ANSWERED], {})
            before = self._apply([_ASKED], {})[0]
            given = self._apply([_ASKED], {"add_generation_prompt": True})[0]
        except FieldError:
            return _Probe("", "")
        if not shown.of(1):
            return _Probe("", "")
        place = shown.of(1)[-1][1]
        tail = shown.text[place.end :].strip()
        special = self._special.match(tail)
        end = special[0] if special else tail if _TOKEN.fullmatch(tail) else ""
        opening = given.removeprefix(before).strip() if given.startswith(before) else ""
        return _Probe(end, opening or shown.text[shown.around(place.start, place.end)[0] : place.start].strip())

    def _unshown(self, chat: Chat, shown: _Shown) -> Iterator[str]:
        if chat.tools and "tools" not in self._variables(tools=True):
            yield "tools"
        names = {CONTENT: "{} messages", CALL_NAME: TOOL_CALLS}
        without = {piece.group for piece in shown.hidden if piece.name == CALL_NAME}
        for piece in shown.hidden:
            if piece.letters and not (piece.name == TOOL_CALLS and piece.group in without):
                yield names.get(piece.name, piece.name).format(chat.messages[piece.message].role)


@dataclass(frozen=True)
class _Probe:
    """What a template puts around an answer.

    Attributes:
        end_of_turn: What ends the last answer of a chat; empty for nothing.
        opening: What the model is given to begin an answer with.
    """

    end_of_turn: str
    opening: str


@dataclass(frozen=True)
class _Found:
    """A turn that was found.

    Attributes:
        message: Which message it is.
        parts: Its parts, without an end-of-turn token.
        closed: Where that token ends; None where there is none.
        blocks: What of the turn the template marks as generated; empty where it marks nothing.
    """

    message: int
    parts: list[Span]
    closed: int | None
    blocks: tuple[Span, ...] = ()

    def whole(self, shown: _Shown, *, closed: bool) -> Answer:
        """The answer with its end-of-turn token, or without."""
        if self.blocks:
            return Answer(self.blocks, (*self.parts[:-1], (self.parts[-1][0], self.blocks[-1][1])))
        start, end = self.parts[-1]
        parts = (*self.parts[:-1], (start, self.closed if closed and self.closed is not None else end))
        whole = parts[0][0], parts[-1][1]
        return Answer(parts if shown.is_parted(self.message, *whole) else (whole,), parts)


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _clipped(parts: Sequence[Span], blocks: Sequence[Span]) -> list[Span]:
    """Of some parts what lies in blocks."""
    return [(max(a, c), min(b, d)) for a, b in parts for c, d in blocks if _meet((a, b), (c, d))]


def _groups(pieces: Sequence[tuple[Piece, Place]]) -> list[list[tuple[Piece, Place]]]:
    """Pieces that belong together, in the order of the text."""
    groups: dict[int, list[tuple[Piece, Place]]] = defaultdict(list)
    for piece, place in pieces:
        groups[piece.group].append((piece, place))
    return list(groups.values())


def _with_ends(group: Sequence[tuple[Piece, Place]], text: str) -> Span:
    """Pieces with what stands before their first letter and behind their last, as far as the template shows it."""
    start, end = group[0][1].start, max(place.end for _, place in group)
    lead, trail = group[0][0].lead, group[-1][0].trail
    # Of several words, such as a tag and a quotation mark, the template may show but the nearest.
    leads = (lead[at:] for at in (0, *(blank.end() for blank in _BLANK.finditer(lead))))
    trails = (trail[:at] for at in (len(trail), *(blank.start() for blank in _BLANK.finditer(trail))))
    return (
        start - max((len(part) for part in leads if text.endswith(part, 0, start)), default=0),
        end + max((len(part) for part in trails if text.startswith(part, end)), default=0),
    )


def _forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """Turns in the forms that templates take, the most usual first."""
    turns: list[dict[str, Any]] = [{"role": m.role, CONTENT: m.content, **m.extra} for m in messages]
    calls = [turn for turn in turns if turn.get(TOOL_CALLS)]
    # A turn that is nothing but a call, or a thought, has no content.
    bare = [{k: v for k, v in turn.items() if k != CONTENT or v or len(turn) == 2} for turn in turns]
    yield bare
    if bare != turns:
        yield turns
    if calls:
        yield [
            {**turn, TOOL_CALLS: [_with_text_arguments(call) for call in turn[TOOL_CALLS]]}
            if turn.get(TOOL_CALLS)
            else turn
            for turn in turns
        ]
    # Models that see images may take nothing but lists of parts.
    yield [{**turn, CONTENT: [{"type": "text", "text": turn[CONTENT]}]} for turn in turns]


def _with_text_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    bare = called(call)
    given = bare["arguments"]
    return {**call, "function": {**bare, "arguments": given if isinstance(given, str) else json.dumps(given)}}
