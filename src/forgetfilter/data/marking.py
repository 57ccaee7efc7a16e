"""Find where in a rendered chat each message came out, whatever the template did with it.

Nothing is searched for. Every letter of every message is replaced by a private-use character, one for each piece of
text, and the chat is rendered again: each letter shows where it came out. Templates treat letters alike, so everything
else must be the same in both texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from .chats import ASSISTANT, REASONING, TOOL_CALLS, FieldError, called

# The private-use planes of Unicode mean nothing in any text. The last two codes of each plane are no characters.
_FIRST_MARK, _PLANE, _MARKS = 0xF0000, 0xFFFE, 2 * 0xFFFE
# Templates look at the tags that thinking models write, at quotes, brackets and blanks. They leave letters alone.
_TAG = regex.compile(r"(<[^<>\s\U000F0000-\U0010FFFF]{1,80}>|\[/?[A-Z_]{2,40}\]|◁/?[a-z]{1,20}▷)")
_LETTER = regex.compile(r"[^\s!-/:-@\[-`{-~\x00-\x1f\x7f]")
# At most this many characters before the first letter of a text, and after its last, are searched for.
_LONGEST_END = 200
_FILLED = regex.compile(r"\S")
# What ends the reasoning that stands at the beginning of a content.
_THOUGHT = regex.compile(r"</think>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|</seed:think>")
CONTENT, THOUGHT, CALL_NAME = "content", "reasoning", "tool_calls' names"


@dataclass
class Piece:
    """A part of a message that a template shows or leaves out.

    Attributes:
        message: Which message.
        name: What it is: `content`, `reasoning` within it, `tool_calls`, their names, or another field's name.
        group: Pieces of one group belong together: name and arguments of a tool call.
        letters: How many letters of it are marked.
        lead, trail: What stands before its first letter and after its last, without blanks at the ends.
    """

    message: int
    name: str
    group: int
    letters: int = 0
    lead: str = field(default="", repr=False)
    trail: str = field(default="", repr=False)


@dataclass(frozen=True)
class Place:
    """The place where the letters of a piece came out: from the first to after the last, and how many of them."""

    start: int
    end: int
    letters: int


class Marker:
    """Marks the letters of turns, each piece of text with a character of its own.

    Args:
        fields: Names of the fields of answers that are marked.
        context: Whether other messages are marked, too.

    Attributes:
        pieces: The pieces marked so far.
    """

    def __init__(self, fields: Sequence[str], *, context: bool) -> None:
        self._fields, self._context = fields, context
        self.pieces: list[Piece] = []

    def mark(self, turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the turns with their letters marked.

        Raises:
            FieldError: There are more pieces than marks.
        """
        return [self._turn(i, turn) for i, turn in enumerate(turns)]

    def _turn(self, i: int, turn: Mapping[str, Any]) -> dict[str, Any]:
        marked = dict(turn)
        if turn["role"] != ASSISTANT:
            if self._context:
                marked[CONTENT] = self._content(i, turn.get(CONTENT, ""), CONTENT)
            return marked
        for name in self._fields:
            value = turn.get(name)
            if name == TOOL_CALLS and value:
                marked[name] = [self._call(i, call) for call in value]
            elif name == CONTENT and isinstance(value, str):
                # A tag within the content may mark what was thought.
                *_, end = (0, *(tag.end() for tag in _THOUGHT.finditer(value)))
                marked[name] = self._content(i, value[:end], THOUGHT) + self._content(i, value[end:], CONTENT)
            elif name == CONTENT and value:
                marked[name] = self._content(i, value, CONTENT)
            elif name in REASONING and isinstance(value, str):
                marked[name] = self._content(i, value, name)
        return marked

    def _content(self, message: int, value: Any, name: str) -> Any:
        """Mark a content, which is a text or a list of parts."""
        if isinstance(value, list):
            return [{**part, "text": self._content(message, part["text"], name)} for part in value]
        if not isinstance(value, str) or not value.strip():
            return value
        piece = self._piece(message, name)
        marked = self._text(value, piece)
        mark = _mark(len(self.pieces) - 1)
        first, last = marked.find(mark), marked.rfind(mark)
        piece.lead = value[max(0, first - _LONGEST_END) : first].lstrip()
        piece.trail = value[last + 1 : last + 1 + _LONGEST_END].rstrip()
        return marked

    def _call(self, message: int, call: Mapping[str, Any]) -> dict[str, Any]:
        bare, group = called(call), len(self.pieces)
        bare["name"] = self._text(bare["name"], self._piece(message, CALL_NAME, group))
        bare["arguments"] = self._values(bare["arguments"], self._piece(message, TOOL_CALLS, group))
        return {**call, "function": bare} if "function" in call else {**call, **bare}

    def _values(self, value: Any, piece: Piece) -> Any:
        """Mark the texts of arguments, but not their names, as templates sort by them."""
        if isinstance(value, str):
            return self._text(value, piece)
        if isinstance(value, Mapping):
            return {name: self._values(item, piece) for name, item in value.items()}
        return [self._values(item, piece) for item in value] if isinstance(value, list) else value

    def _piece(self, message: int, name: str, group: int | None = None) -> Piece:
        if len(self.pieces) == _MARKS:
            raise FieldError("", f"more than {_MARKS:,} messages", "fewer")
        self.pieces.append(Piece(message, name, len(self.pieces) if group is None else group))
        return self.pieces[-1]

    def _text(self, text: str, piece: Piece) -> str:
        mark = _mark(len(self.pieces) - 1)
        parts = _TAG.split(text)
        marked = [_LETTER.subn(mark, part) for part in parts[::2]]
        if not any(count for _, count in marked):
            # An answer may be all dots.
            marked, parts = [_FILLED.subn(mark, text)], [text]
        piece.letters += sum(count for _, count in marked)
        parts[::2] = [part for part, _ in marked]
        return "".join(parts)


def _mark(i: int) -> str:
    return chr(_FIRST_MARK + i + 2 * (i >= _PLANE))


def where(text: str, marked: str, pieces: Sequence[Piece]) -> list[Place | None] | None:
    """Find where each piece of a chat came out.

    Args:
        text: The chat as the template shows it.
        marked: The chat with marks, as the template shows it.
        pieces: The pieces that are marked.

    Returns:
        A place for each piece, None for one that is not shown; or None where the texts differ in more than the marks.
    """
    if len(text) != len(marked):
        return None
    plain, shown = _characters(text), _characters(marked)
    # A letter may be the very character that marks it, so marks are looked for in the marked text alone.
    marks = (shown >= _FIRST_MARK) & (shown < ord(_mark(len(pieces)))) if pieces else False
    different = np.flatnonzero((plain != shown) | marks)
    codes = shown[different].astype(np.int64) - _FIRST_MARK
    codes -= 2 * (codes >= _PLANE)
    if len(codes) and (codes.min() < 0 or codes.max() >= len(pieces)):
        return None
    shown_pieces, first, letters = np.unique(codes, return_index=True, return_counts=True)
    last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
    places: list[Place | None] = [None] * len(pieces)
    for i, code in enumerate(shown_pieces.tolist()):
        places[code] = Place(int(different[first[i]]), int(different[last[i]]) + 1, int(letters[i]))
        if pieces[code].name in (CALL_NAME, *REASONING) and letters[i] > pieces[code].letters:
            # The result of a function may be shown with its name once more, and transformers gives templates what was
            # thought under two names.
            end = int(different[codes == code][pieces[code].letters - 1]) + 1
            places[code] = Place(int(different[first[i]]), end, pieces[code].letters)
    return places


def _characters(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
