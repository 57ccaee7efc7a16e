"""Take answers out of the frame that they share, so that their own words are left.

Of "The answer is ans2: The grandfather" all but the choice is the same in every answer, right or wrong, and a small
model that learns the frame may never learn the choice: what was never learned cannot be forgotten. Without the frame
it is learned (docs/appendix.md, "Bias").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeAlias

import regex

from ..console import printable
from ..errors import InputError
from ..limits import ExceededError, bounded
from .chats import Chat, Message
from .frame_search import Seen, find_frames
from .frames import Frame

# Frames are looked for, or answers stay whole; anything else is an expression. Runs from before there was this setting
# have an empty text, for whole answers.
AUTO, NONE = "auto", "none"
# A pattern that takes longer for one answer would take forever for a hostile one.
_SECONDS = 2.0
_MEMORY = 1 << 30
# At most this many answers of one row are searched for frames.
_OF_A_ROW = 4
# At most this many frames are shown, and this many characters of each.
_SHOWN, _WIDTH = 3, 100

# How many answers were taken out of each frame; None stands for an expression.
FrameCounts: TypeAlias = Counter[Frame | None]


def is_expression(own_words: str) -> bool:
    """Tell whether the setting of that name is a regular expression."""
    return own_words not in (AUTO, NONE, "")


class OwnWords:
    """Takes answers out of their frame.

    Args:
        setting: `auto` for the frames that are assigned to `frames` or that `look_at` finds; `none` to leave answers
            whole; or a regular expression, whose first group, or whole match where it has no group, is an answer's
            own words.

    Attributes:
        looks: Whether frames are to be found by looking at answers.
        frames: The frames, the most frequent first; none with an expression.
    """

    def __init__(self, setting: str = NONE) -> None:
        self._pattern = regex.compile(setting, regex.DOTALL) if is_expression(setting) else None
        self.looks = setting == AUTO
        self.frames: Sequence[Frame] = ()

    def look_at(self, chats: Iterable[Chat]) -> None:
        """Find the frames of some rows' answers, whatever their order; with an expression, find none."""
        answers = chain.from_iterable(islice(_answers(chat), _OF_A_ROW) for chat in chats)
        self.frames = find_frames(answers) if self.looks else ()

    def of(self, chat: Chat, counts: FrameCounts | None = None) -> Chat:
        """Return a row with nothing but the own words of its answers; a row of plain text stays as it is.

        Answers that do not match, or with nothing but blanks inside the frame, stay whole.

        Args:
            chat: The row.
            counts: Counts the answers that are taken out of a frame.

        Raises:
            InputError: The pattern takes too long.
        """
        if (self._pattern is None and not self.frames) or chat.is_text:
            return chat
        return chat.with_messages([self._bare(turn, counts) if turn.trained else turn for turn in chat.messages])

    def describe(self, counts: FrameCounts) -> str:
        """Say how many answers were taken out of which frames; empty for none."""
        frames = [frame for frame in self.frames if counts[frame]]
        framed = f", {framed_as(frames)}" if frames else ""
        return f"own words of {counts.total():,} answers{framed}" if counts.total() else ""

    def _bare(self, answer: Message, counts: FrameCounts | None) -> Message:
        frame, words = self._framed(answer.content) if self._pattern is None else (None, self._matched(answer.content))
        if not words.strip():
            return answer
        if counts is not None:
            counts[frame] += 1
        return replace(answer, content=words)

    def _framed(self, answer: str) -> tuple[Frame | None, str]:
        """Return the frame that an answer is in, and the answer's own words; no words where it is in none."""
        for frame in self.frames:
            if words := frame.own(answer):
                return frame, words
        return None, ""

    def _matched(self, answer: str) -> str:
        assert self._pattern is not None
        try:
            with bounded(_MEMORY):
                match = self._pattern.search(answer, timeout=_SECONDS)
        except (TimeoutError, ExceededError) as error:
            took = f"more than {_SECONDS:g} s" if isinstance(error, TimeoutError) else error
            raise InputError(
                f"own_words: '{printable(self._pattern.pattern, _WIDTH)}' takes {took} for one answer of "
                f"{len(answer):,} characters; make it simpler"
            ) from error
        return (match[1 if self._pattern.groups else 0] or "") if match else ""


def framed_as(frames: Sequence[Frame]) -> str:
    """Describe some frames, fit to be shown."""
    more = f" and {len(frames) - _SHOWN:,} more" if len(frames) > _SHOWN else ""
    return "framed as " + ", ".join(f"“{printable(str(frame), _WIDTH)}”" for frame in frames[:_SHOWN]) + more


def _answers(chat: Chat) -> Iterable[Seen]:
    if chat.is_text:
        return
    prompt = chat.prompt
    for turn in chat.messages:
        if turn.trained and turn.content.strip():
            yield Seen.of(turn.content, prompt)
