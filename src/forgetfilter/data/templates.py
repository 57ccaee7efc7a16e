"""Render a chat with the model's own template, and tell where in the text its answers stand."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox
import regex

from ..console import printable
from ..errors import ModelError, first_line
from ..limits import ExceededError, bounded
from .chats import ASSISTANT, REASONING, TOOL_CALLS, Chat, FieldError, Message, called, texts_in
from .marking import CALL_NAME, CONTENT, Marker, Piece, Place, where
from .records import LONGEST_ROW
from .spans import Answer, Frame, Shown, Span, find_answers

_GENERATION = regex.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# What is marked, tried in turn: templates look at names of functions, and at words such as "/no_think" in a prompt.
_MARKED = (
    ((CONTENT, *REASONING, TOOL_CALLS), True),
    ((CONTENT, *REASONING), True),
    ((CONTENT, *REASONING, TOOL_CALLS), False),
    ((CONTENT,), False),
)
_WORD = regex.compile(r"\w+")
_TOKEN = regex.compile(r"<[|｜]\S{1,40}[|｜]>")
# What rendering one row may take: a gigabyte and five seconds, and more for each of its characters, which are written
# some twenty times. A template that takes more for several rows would take it for most of them.
_MEMORY, _MEMORY_A_CHARACTER = 1 << 30, 64
_SECONDS, _SECONDS_A_CHARACTER = 5.0, 1e-5
_MOST_EXCEEDED = 3
_PROBLEM_WIDTH = 200
_ASKED, _ANSWERED = {"role": "user", CONTENT: "A"}, {"role": ASSISTANT, CONTENT: "B"}


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


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: A tokenizer that has one.

    Raises:
        ModelError: It is no template, or takes too much time or memory for the shortest chat.
    """

    def __init__(self, tokenizer: Any) -> None:
        # It imports much, for which the bounds of a template are not meant.
        from transformers.utils.chat_template_utils import render_jinja_template

        self._tokenizer, self._render_marked = tokenizer, render_jinja_template
        self._exceeded = 0
        try:
            with bounded(_MEMORY, _SECONDS):
                _environment().compile(_GENERATION.sub("", self._source()))
                with suppress(FieldError):
                    self._apply([_ASKED, _ANSWERED], {})
        except (jinja2.TemplateSyntaxError, ValueError, RecursionError, SyntaxError) as error:
            problem = printable(first_line(error), _PROBLEM_WIDTH)
            raise ModelError(f"this model's chat template is broken: {problem}; use --template plain") from error
        except ExceededError as error:
            raise ModelError(
                f"this model's chat template takes {error} for a short chat; use --template plain"
            ) from error

    def render(self, chat: Chat) -> Rendered:
        """Render a chat and find its answers.

        Raises:
            FieldError: The template refuses the chat, shows none of its answers, does with an answer what cannot be
                followed, or takes too much time or memory.
            ModelError: It takes too much for several chats.
        """
        try:
            with bounded(_MEMORY + _MEMORY_A_CHARACTER * chat.size, _SECONDS + _SECONDS_A_CHARACTER * chat.size):
                return self._rendered(chat)
        except ExceededError as error:
            self._exceeded += 1
            if self._exceeded == _MOST_EXCEEDED:
                told = f"this model's chat template takes {error} for each of {_MOST_EXCEEDED} rows"
                raise ModelError(f"{told}; use --template plain") from error
            found = f"a chat for which the model's chat template takes {error}"
            raise FieldError("", found, "one for which it does not, or --template plain") from error

    def _rendered(self, chat: Chat) -> Rendered:
        arguments = self._arguments(chat)
        refused: FieldError | None = None
        problem: FieldError | None = None
        for turns in _forms(chat.messages):
            try:
                shown = self._shown(turns, arguments)
            except FieldError as error:
                refused = refused or error
                continue
            try:
                answers = find_answers(chat.messages, shown, self._frame)
            except FieldError as error:
                problem = problem or error
                continue
            return Rendered(shown.text, answers, tuple(self._unshown(chat, shown)))
        # That one form is refused tells little where another is taken.
        told = problem or refused
        assert told is not None
        raise told

    def _arguments(self, chat: Chat) -> dict[str, Any]:
        """What the template is given beside the messages. A row may set the template's own variables, and no other."""
        arguments: dict[str, Any] = {"tools": list(chat.tools)} if chat.tools else {}
        if chat.template_kwargs:
            renderers = inspect.signature(self._tokenizer.apply_chat_template).parameters
            names = _variables(self._source(chat.tools)) - {"messages", *renderers, *self._tokenizer.special_tokens_map}
            arguments |= {name: value for name, value in chat.template_kwargs.items() if name in names}
        return arguments

    def _source(self, tools: Any = None) -> str:
        """The template's text; models may have one of its own for tools."""
        return str(self._tokenizer.get_chat_template(tools=tools or None))

    def _apply(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text that the template makes of turns, and what it marks as generated.

        Raises:
            FieldError: The template refuses them.
        """
        text, blocks = self._written(turns, arguments)
        if len(text) > LONGEST_ROW:
            found = f"a chat of which the model's chat template makes {len(text):,} characters"
            raise FieldError("", found, f"one of which it makes at most {LONGEST_ROW:,}, or --template plain")
        return text, blocks

    def _written(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> tuple[str, list[Span]]:
        tokenizer = self._tokenizer
        try:
            if not _marks_answers(self._source(arguments.get("tools"))):
                return str(tokenizer.apply_chat_template(list(turns), tokenize=False, **arguments)), []
            # `apply_chat_template` itself says which tokens are marked, where characters are wanted.
            (text,), (blocks,) = self._render_marked(
                [[{name: value for name, value in turn.items() if value is not None} for turn in turns]],
                chat_template=self._source(arguments.get("tools")),
                return_assistant_tokens_mask=True,
                **{**tokenizer.special_tokens_map, **arguments},
            )
        except MemoryError:
            raise
        except Exception as error:
            # A template is a program of the model's author; whatever it raises is about this row and that model.
            problem = printable(first_line(error), _PROBLEM_WIDTH)
            found = f"a chat that the model's chat template refuses ({problem})"
            raise FieldError("", found, "one that it takes, or --template plain") from error
        return text, blocks

    def _shown(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> Shown:
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
                return Shown(text, blocks, marker.pieces, places)
        answers = [i for i, turn in enumerate(turns) if turn["role"] == ASSISTANT]
        if len(answers) == len(blocks) > 0:
            return Shown(text, blocks, [Piece(i, CONTENT, i) for i in answers], [Place(*block, 0) for block in blocks])
        found = "a message that the model's chat template changes in a way that cannot be followed"
        raise FieldError("", found, "messages shown as they are, or --template plain")

    @cached_property
    def _frame(self) -> Frame:
        """What the template puts around an answer, as it shows the shortest chat."""
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        names = sorted({*added, *self._tokenizer.all_special_tokens}, key=len, reverse=True)
        special = regex.compile("|".join(map(regex.escape, names)) or "(?!)")
        try:
            shown = self._shown([_ASKED, _ANSWERED], {})
            place = shown.of(1)[-1][1]
        except (FieldError, IndexError):
            return Frame("", "", special)
        tail = shown.text[place.end :].strip()
        first = special.match(tail)
        end = first[0] if first else tail if _TOKEN.fullmatch(tail) else ""
        before, _ = shown.around(place.start, place.end)
        return Frame(end, self._given() or shown.text[before : place.start].strip(), special)

    def _given(self) -> str:
        """What the template gives the model to begin an answer with, where it tells."""
        try:
            before = self._apply([_ASKED], {})[0]
            given = self._apply([_ASKED], {"add_generation_prompt": True})[0]
        except FieldError:
            return ""
        return given.removeprefix(before).strip() if given.startswith(before) else ""

    def _unshown(self, chat: Chat, shown: Shown) -> Iterator[str]:
        if chat.tools and "tools" not in _variables(self._source(chat.tools)):
            yield "tools"
        names = {CONTENT: "{} messages", CALL_NAME: TOOL_CALLS}
        without = {piece.group for piece in shown.hidden if piece.name == CALL_NAME}
        for piece in shown.hidden:
            if piece.letters and not (piece.name == TOOL_CALLS and piece.group in without):
                yield names.get(piece.name, piece.name).format(chat.messages[piece.message].role)
        for i, message in enumerate(chat.messages):
            for piece, place in shown.of(i):
                if place.letters < piece.letters:
                    yield f"all of {names.get(piece.name, piece.name).format(message.role)}"
            if message.trained:
                yield from _unread(message, _words(self._source(chat.tools)))


def _environment() -> jinja2.Environment:
    """What reads templates, to look at them alone."""
    return jinja2.sandbox.ImmutableSandboxedEnvironment(extensions=[jinja2.ext.loopcontrols], autoescape=True)


@cache
def _variables(source: str) -> frozenset[str]:
    """What a template reads, by name; nothing where it is broken."""
    try:
        parsed = _environment().parse(_GENERATION.sub("", source))
    except jinja2.TemplateSyntaxError:
        return frozenset()
    return frozenset(jinja2.meta.find_undeclared_variables(parsed))


@cache
def _marks_answers(source: str) -> bool:
    """Whether a template marks what is generated."""
    return _GENERATION.search(source) is not None


@cache
def _words(source: str) -> frozenset[str]:
    """All words in a template."""
    return frozenset(_WORD.findall(source))


def _unread(message: Message, words: frozenset[str]) -> Iterator[str]:
    """What an answer has beside its usual fields, with texts in it, of which a template knows nothing."""
    for name, value in message.extra.items():
        usual = name == TOOL_CALLS or (name in REASONING and isinstance(value, str))
        if not usual and any(text.strip() for text in texts_in(value)) and name not in words:
            yield name


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
