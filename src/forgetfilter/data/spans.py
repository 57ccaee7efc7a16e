"""Find the answers of a chat in the text that a template rendered it as: pure functions of texts and places."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from .chats import TOOL_CALLS, Message
from .marking import CALL_NAME, Piece, Place

# Start and end in a text, the end excluded.
Span = tuple[int, int]

# Where the text around letters may be split: at blanks, after a tag and before one.
_SEAM = regex.compile(r"\s+|(?<=>)|(?=<)")
_TAG = regex.compile(r"</?\w+>")
# How a call goes on after its last letter, where nothing else shows it.
_CLOSING = regex.compile(r"[\"'\]}\)\s]*(?:</\w+>)?")


@dataclass(frozen=True)
class Problem:
    """Says why the answers of a rendered chat cannot be found.

    Attributes:
        found: What was found.
        expected: What was expected.
    """

    found: str
    expected: str


@dataclass(frozen=True)
class Answer:
    """The place of a turn that is trained on in a text, as (start, end) with the end excluded.

    Attributes:
        spans: All of it, with its end-of-turn token; one span, unless another message stands within it.
        parts: Its reasoning, its content and its tool calls, each by itself; the last has the end-of-turn token.
    """

    spans: tuple[Span, ...]
    parts: tuple[Span, ...]


@dataclass(frozen=True)
class TemplateFrame:
    """The text that a template puts around answers.

    Attributes:
        end_of_turn: What ends the last answer of a chat; empty for nothing.
        opening: What the model is given to begin an answer with.
        special: Matches the tokenizer's special tokens.
    """

    end_of_turn: str
    opening: str
    special: regex.Pattern[str]


class Shown:
    """A chat as a template shows it.

    Args:
        text: The rendered text.
        blocks: What the template itself marks as generated; empty where it marks nothing.
        pieces: The texts of the chat, in order.
        places: Where each of them stands; None where it is not shown.

    Attributes:
        text: The rendered text.
        blocks: What the template itself marks as generated, in the order of the text.
        hidden: The pieces that are not shown.
    """

    def __init__(
        self, text: str, blocks: Sequence[Span], pieces: Sequence[Piece], places: Sequence[Place | None]
    ) -> None:
        self.text, self.blocks = text, sorted(blocks)
        self.hidden = [piece for piece, place in zip(pieces, places, strict=True) if place is None]
        there = [(place, piece) for piece, place in zip(pieces, places, strict=True) if place is not None]
        self._there = sorted(there, key=lambda pair: pair[0].start)
        self._starts = [place.start for place, _ in self._there]
        self._of: dict[int, list[tuple[Piece, Place]]] = defaultdict(list)
        for place, piece in self._there:
            self._of[piece.message].append((piece, place))

    def of(self, message: int) -> list[tuple[Piece, Place]]:
        """Return the pieces of a message that are shown, in the order of the text."""
        return self._of.get(message, [])

    def marked(self, *parts: Span) -> list[Span]:
        """Return the blocks that the template marks as generated and that overlap these parts."""
        first = bisect_right(self.blocks, parts[0][0], key=lambda block: block[1])
        marked = []
        for block in self.blocks[first:]:
            if block[0] >= parts[-1][1]:
                break
            if any(_meet(block, part) for part in parts):
                marked.append(block)
        return marked

    def around(self, start: int, end: int) -> Span:
        """Return the span that a piece of a message could fill: up to its neighbours, or the ends of the text."""
        before, after = bisect_left(self._starts, start), bisect_left(self._starts, end)
        return (
            min(start, self._there[before - 1][0].end) if before else 0,
            self._starts[after] if after < len(self._starts) else len(self.text),
        )

    def is_parted(self, message: int, start: int, end: int) -> bool:
        """Tell whether another message stands within a part of the text."""
        within = range(bisect_left(self._starts, start), bisect_left(self._starts, end))
        return any(self._there[i][1].message != message for i in within)


def find_answers(messages: Sequence[Message], shown: Shown, frame: TemplateFrame) -> tuple[Answer, ...] | Problem:
    """Find the turns that are trained on, in order, as far as they are shown.

    Returns:
        The turns; or why there are none, where none is shown or one is shown more than once.
    """
    trained = [i for i, message in enumerate(messages) if message.trained]
    if any(place.letters > piece.letters for i in trained for piece, place in shown.of(i)):
        return Problem("an answer that the model's chat template shows more than once", "it once")
    turns = [turn for i in trained if (turn := _turn(i, shown, frame)) is not None]
    if not turns:
        return Problem("no answer in what the model's chat template shows", "an answer, to train on")
    # Where a template ends some answers with a token and others with none, all are taken without it.
    all_closed = all(turn.closed is not None for turn in turns)
    return tuple(sorted((turn.answer(shown, closed=all_closed) for turn in turns), key=lambda answer: answer.parts))


@dataclass(frozen=True)
class _Turn:
    """A turn that is trained on, as the text shows it.

    Attributes:
        message: Its position in the chat.
        parts: Its parts, without an end-of-turn token.
        closed: Where that token ends; None where there is none.
        blocks: What of the turn the template marks as generated; empty where it marks nothing.
    """

    message: int
    parts: list[Span]
    closed: int | None
    blocks: tuple[Span, ...] = ()

    def answer(self, shown: Shown, *, closed: bool) -> Answer:
        """Return the answer with its end-of-turn token, or without."""
        if self.blocks:
            return Answer(self.blocks, (*self.parts[:-1], (self.parts[-1][0], self.blocks[-1][1])))
        start, end = self.parts[-1]
        parts = (*self.parts[:-1], (start, self.closed if closed and self.closed is not None else end))
        whole = parts[0][0], parts[-1][1]
        return Answer(parts if shown.is_parted(self.message, *whole) else (whole,), parts)


def _turn(message: int, shown: Shown, frame: TemplateFrame) -> _Turn | None:
    """Find a turn; None where it is not shown, or where the template marks nothing of it as generated."""
    pieces = shown.of(message)
    parts = [_with_ends(group, shown.text) for group in _groups(pieces)]
    if not parts:
        return None
    if shown.blocks:
        blocks = [_unopened(block, shown.text, frame.opening) for block in shown.marked(*parts)]
        return _Turn(message, _clipped(parts, blocks), None, tuple(blocks)) if blocks else None
    first, last = (pieces[i][0].name in (CALL_NAME, TOOL_CALLS) for i in (0, -1))
    if first:
        parts[0] = (_opening(parts[0], shown, frame), parts[0][1])
    closed = _end_of_turn(parts[-1], shown, frame, is_call=last)
    if last and closed is None:
        parts[-1] = (parts[-1][0], _end_of_call(parts[-1], shown, frame))
    return _Turn(message, parts, closed)


def _unopened(block: Span, text: str, opening: str) -> Span:
    """Return a generated block without the opening of every answer, which some templates mark, too."""
    marked = text[slice(*block)]
    start = block[0] + len(marked) - len(marked.lstrip())
    return (start + len(opening), block[1]) if opening and text.startswith(opening, start) else block


def _opening(part: Span, shown: Shown, frame: TemplateFrame) -> int:
    """Find where a turn begins that is nothing but a call: after what the model is given to begin an answer."""
    before, _ = shown.around(*part)
    at = shown.text.rfind(frame.opening, before, part[0]) if frame.opening else -1
    return at + len(frame.opening) if at >= 0 else part[0]


def _end_of_turn(part: Span, shown: Shown, frame: TemplateFrame, *, is_call: bool) -> int | None:
    """Find the end of the token that ends a turn; None where the template has none, or not here.

    Args:
        part: The last part of a turn.
        shown: The rendered chat.
        frame: What the template puts around answers.
        is_call: Whether the part is a call. Then the template closes first what it opened.
    """
    _, after = shown.around(*part)
    rest = shown.text[part[1] : after]
    if not frame.end_of_turn:
        return None
    at = rest.find(frame.end_of_turn)
    if at >= 0 and (is_call or not rest[:at].strip()):
        return part[1] + at + len(frame.end_of_turn)
    # An earlier turn may end with another token. The one that begins the next turn follows it.
    specials = list(frame.special.finditer(rest)) if is_call else list(frame.special.finditer(rest))[:2]
    follows = [*(special.start() for special in specials), len(rest)][1:]
    for special, next_one in zip(specials, follows, strict=False):
        ends = next_one < len(rest) or after == len(shown.text)
        if not is_call:
            return part[1] + special.end() if ends and not rest[: special.start()].strip() else None
        if ends and not rest[special.end() : next_one].strip():
            return part[1] + special.end()
    return None


def _end_of_call(part: Span, shown: Shown, frame: TemplateFrame) -> int:
    """Find where a call ends that no end-of-turn token follows: where the next turn begins, or the text ends."""
    _, after = shown.around(*part)
    rest = shown.text[part[1] : after]
    # Tokens such as </tool_call> are the call's own.
    special = next((match for match in frame.special.finditer(rest) if not _TAG.fullmatch(match[0])), None)
    if special is None and after < len(shown.text):
        closing = _CLOSING.match(rest)
        return part[1] + (len(closing[0].rstrip()) if closing else 0)
    return part[1] + len(rest[: special.start() if special else len(rest)].rstrip())


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _clipped(parts: Sequence[Span], blocks: Sequence[Span]) -> list[Span]:
    """Return what of some parts lies in blocks."""
    return [(max(a, c), min(b, d)) for a, b in parts for c, d in blocks if _meet((a, b), (c, d))]


def _groups(pieces: Sequence[tuple[Piece, Place]]) -> list[list[tuple[Piece, Place]]]:
    """Group the pieces that belong together, in the order of the text."""
    groups: dict[int, list[tuple[Piece, Place]]] = defaultdict(list)
    for piece, place in pieces:
        groups[piece.group].append((piece, place))
    return list(groups.values())


def _with_ends(group: Sequence[tuple[Piece, Place]], text: str) -> Span:
    """Widen pieces by what stands before their first letter and after their last, as far as the template shows it."""
    start, end = group[0][1].start, max(place.end for _, place in group)
    lead, trail = group[0][0].lead, group[-1][0].trail
    # Of several words, such as a tag and a quotation mark, the template may show only the nearest.
    leads = (lead[at:] for at in (0, *(seam.end() for seam in _SEAM.finditer(lead))))
    trails = (trail[:at] for at in (len(trail), *(seam.start() for seam in _SEAM.finditer(trail))))
    return (
        start - max((len(part) for part in leads if text.endswith(part, 0, start)), default=0),
        end + max((len(part) for part in trails if text.startswith(part, end)), default=0),
    )
