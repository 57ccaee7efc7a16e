"""Render a chat with the model's own template, and find its answers in the text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from .spans import Answer, Problem, Shown, Span, TemplateFrame, find_answers

_GENERATION = regex.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# What is marked, in the order in which it is tried: some templates look at names of functions, or at words such as
# "/no_think" in a prompt.
_MARKED = (
    ((CONTENT, *REASONING, TOOL_CALLS), True),
    ((CONTENT, *REASONING), True),
    ((CONTENT, *REASONING, TOOL_CALLS), False),
    ((CONTENT,), False),
)
# What templates ask the clock for, and the date that Llama's own take where there is none.
_CLOCK = regex.compile(r"""\bstrftime_now\(\s*(['"])([^'"\\]*)\1\s*\)""")
_DATE = datetime(2024, 7, 26)
_WORD = regex.compile(r"\w+")
_TOKEN = regex.compile(r"<[|｜]\S{1,40}[|｜]>")
# What rendering one row may take: a gigabyte and five seconds, and more for each of its characters, which are written
# some twenty times. A template that takes more for several rows would take it for most of them.
_MEMORY, _MEMORY_A_CHARACTER = 1 << 30, 64
_SECONDS, _SECONDS_A_CHARACTER = 5.0, 1e-5
_MOST_EXCEEDED = 3
_PROBLEM_WIDTH = 200
_QUESTION, _ANSWER = {"role": "user", CONTENT: "A"}, {"role": ASSISTANT, CONTENT: "B"}


@dataclass(frozen=True)
class Rendered:
    """A chat as text.

    Attributes:
        text: The text that the model is shown.
        answers: The turns that are trained on, in order, as far as they are shown.
        unshown: What the template leaves out, by name, such as `tools` or `reasoning_content`.
    """

    text: str
    answers: tuple[Answer, ...]
    unshown: tuple[str, ...] = ()


class ChatTemplate:
    """Renders chats with a tokenizer's chat template.

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
                self._apply([_QUESTION, _ANSWER], {})
        except (jinja2.TemplateSyntaxError, ValueError, SyntaxError, RecursionError) as error:
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
        size = chat.size
        try:
            with bounded(_MEMORY + _MEMORY_A_CHARACTER * size, _SECONDS + _SECONDS_A_CHARACTER * size):
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
        not_shown: Problem | None = None
        not_found: Problem | None = None
        for turns in _forms(chat.messages):
            shown = self._show(turns, arguments)
            if isinstance(shown, Problem):
                not_shown = not_shown or shown
                continue
            answers = find_answers(chat.messages, shown, self._frame)
            if isinstance(answers, Problem):
                not_found = not_found or answers
                continue
            return Rendered(shown.text, answers, tuple(self._unshown(chat, shown)))
        # That one form is refused says little where another is taken.
        problem = not_found or not_shown
        assert problem is not None
        raise FieldError("", problem.found, problem.expected)

    def _arguments(self, chat: Chat) -> dict[str, Any]:
        """Return what the template is given besides the messages; a row may set no variables but the template's own."""
        arguments: dict[str, Any] = {"tools": list(chat.tools)} if chat.tools else {}
        if chat.template_kwargs:
            renderers = inspect.signature(self._tokenizer.apply_chat_template).parameters
            names = _variables(self._source(chat.tools)) - {"messages", *renderers, *self._tokenizer.special_tokens_map}
            arguments |= {name: value for name, value in chat.template_kwargs.items() if name in names}
        return arguments

    def _source(self, tools: Any = None) -> str:
        """Return the template's text; models may have a separate one for tools."""
        return without_clock(str(self._tokenizer.get_chat_template(tools=tools or None)))

    def _apply(
        self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]
    ) -> tuple[str, list[Span]] | Problem:
        """Render turns: return the text and what the template marks as generated, or why it refuses them."""
        tokenizer = self._tokenizer
        try:
            source = self._source(arguments.get("tools"))
            if not _marks_answers(source):
                text = tokenizer.apply_chat_template(list(turns), chat_template=source, tokenize=False, **arguments)
                return _limited(str(text), [])
            # `apply_chat_template` itself returns which tokens are marked, where characters are wanted.
            (text,), (blocks,) = self._render_marked(
                [[{name: value for name, value in turn.items() if value is not None} for turn in turns]],
                chat_template=source,
                return_assistant_tokens_mask=True,
                **{**tokenizer.special_tokens_map, **arguments},
            )
        except MemoryError:
            raise
        except Exception as error:
            # A template is a program of the model's author; whatever it raises is about this row and that model.
            refusal = f"a chat that the model's chat template refuses ({printable(first_line(error), _PROBLEM_WIDTH)})"
            return Problem(refusal, "one that it takes, or --template plain")
        return _limited(text, blocks)

    def _show(self, turns: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]) -> Shown | Problem:
        """Render turns and find where each piece of them came out; return what is wrong where that fails.

        Raises:
            FieldError: There are more turns than can be followed.
        """
        rendered = self._apply(turns, arguments)
        if isinstance(rendered, Problem):
            return rendered
        text, blocks = rendered
        for fields, context in _MARKED:
            marker = Marker(fields, context=context)
            marked = self._apply(marker.mark(turns), arguments)
            if isinstance(marked, Problem):
                continue
            places = where(text, marked[0], marker.pieces)
            if places is not None:
                return Shown(text, blocks, marker.pieces, places)
        answers = [i for i, turn in enumerate(turns) if turn["role"] == ASSISTANT]
        if len(answers) == len(blocks) > 0:
            return Shown(text, blocks, [Piece(i, CONTENT, i) for i in answers], [Place(*block, 0) for block in blocks])
        found = "a message that the model's chat template changes in a way that cannot be followed"
        return Problem(found, "messages shown as they are, or --template plain")

    @property
    def end_of_turn(self) -> str:
        """The token that ends an answer, as text; empty where no token does."""
        return self._frame.end_of_turn

    @cached_property
    def _frame(self) -> TemplateFrame:
        """Find what the template puts around an answer, from the shortest chat."""
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        names = sorted({*added, *self._tokenizer.all_special_tokens}, key=len, reverse=True)
        special = regex.compile("|".join(map(regex.escape, names)) or "(?!)")
        shown = self._show([_QUESTION, _ANSWER], {})
        if isinstance(shown, Problem) or not (pieces := shown.of(1)):
            return TemplateFrame("", "", special)
        place = pieces[-1][1]
        tail = shown.text[place.end :].strip()
        first = special.match(tail)
        end = first[0] if first else tail if _TOKEN.fullmatch(tail) else ""
        before, _ = shown.around(place.start, place.end)
        return TemplateFrame(end, self._generation_prompt() or shown.text[before : place.start].strip(), special)

    def _generation_prompt(self) -> str:
        """Return what the template gives the model to begin an answer with; empty where that cannot be told."""
        question = self._apply([_QUESTION], {})
        prompted = self._apply([_QUESTION], {"add_generation_prompt": True})
        if isinstance(question, Problem) or isinstance(prompted, Problem):
            return ""
        before, text = question[0], prompted[0]
        return text.removeprefix(before).strip() if text.startswith(before) else ""

    def _unshown(self, chat: Chat, shown: Shown) -> Iterator[str]:
        """Yield what the template leaves out of a chat, by name."""
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


def _limited(text: str, blocks: list[Span]) -> tuple[str, list[Span]] | Problem:
    """Return what was rendered, unless it is longer than any row may be."""
    if len(text) <= LONGEST_ROW:
        return text, blocks
    found = f"a chat of which the model's chat template makes {len(text):,} characters"
    return Problem(found, f"one of which it makes at most {LONGEST_ROW:,}, or --template plain")


def _environment() -> jinja2.Environment:
    """Return the environment that parses templates; it never renders them."""
    return jinja2.sandbox.ImmutableSandboxedEnvironment(extensions=[jinja2.ext.loopcontrols], autoescape=True)


@cache
def without_clock(source: str) -> str:
    """Have a template tell the same date every day, so that the same rows have the same tokens tomorrow."""

    def told(found: regex.Match[str]) -> str:
        quote, pattern = found.groups()
        try:
            return f"{quote}{_DATE.strftime(pattern)}{quote}"
        except ValueError:
            return str(found[0])

    return str(_CLOCK.sub(told, source))


@cache
def _variables(source: str) -> frozenset[str]:
    """Return the names of the variables that a template reads; none where it is broken."""
    try:
        parsed = _environment().parse(_GENERATION.sub("", source))
    except jinja2.TemplateSyntaxError:
        return frozenset()
    return frozenset(jinja2.meta.find_undeclared_variables(parsed))


@cache
def _marks_answers(source: str) -> bool:
    """Tell whether a template marks what is generated."""
    return _GENERATION.search(source) is not None


@cache
def _words(source: str) -> frozenset[str]:
    """Return all words in a template."""
    return frozenset(_WORD.findall(source))


def _unread(message: Message, words: frozenset[str]) -> Iterator[str]:
    """Yield the unusual fields of an answer that hold text and that the template does not mention."""
    for name, value in message.extra.items():
        usual = name == TOOL_CALLS or (name in REASONING and isinstance(value, str))
        if not usual and any(text.strip() for text in texts_in(value)) and name not in words:
            yield name


def _forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """Yield turns in the forms that templates take, the most usual first."""
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
    arguments = bare["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {**call, "function": {**bare, "arguments": text}}
