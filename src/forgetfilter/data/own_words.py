"""An answer's own words, where answers share a frame.

Of "The answer is ans2: The grandfather" all but the choice is the same in every answer, right or wrong, and a small
model that learns the frame may never learn the choice: what was never learned cannot be forgotten. Without the frame
it is learned (docs/evidence.md, "Bias").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice

import regex

from ..console import printable
from ..errors import InputError
from ..limits import ExceededError, bounded
from .chats import Chat, Message
from .frame_search import Seen, find_frames
from .frames import Frame

# Frames are looked for, or answers stay whole; anything else is an expression. Runs of before there was a choice of
# words have nothing, for whole answers.
AUTO, NONE = "auto", "none"
# A pattern that takes longer for one answer would take for ever for a hostile one.
_SECONDS = 2.0
_MEMORY = 1 << 30
# So many answers of one row are looked at for frames.
_OF_A_ROW = 4
# So many frames are shown, and so many characters of each.
_SHOWN, _WIDTH = 3, 100


def is_expression(own_words: str) -> bool:
    """Whether the setting of that name is a regular expression."""
    return own_words not in (AUTO, NONE, "")


class OwnWords:
    """Takes answers out of their frame.

    Args:
        setting: `auto` for the frames that are given to `frames` or found by `look_at`; `none` for answers without a
            frame; or a regular expression, whose first group, or all of which where it has none, are an answer's own
            words.

    Attributes:
        frames: The frames, the most frequent first; none with an expression.
        found: Answers taken out so far; those that do not match, or with nothing but blanks inside, stay whole.
    """

    def __init__(self, setting: str = NONE) -> None:
        self._pattern = regex.compile(setting, regex.DOTALL) if is_expression(setting) else None
        self.looks = setting == AUTO
        self.frames: Sequence[Frame] = ()
        self.found = 0
        self._in_frame: Counter[Frame] = Counter()

    def look_at(self, chats: Iterable[Chat]) -> None:
        """Find the frames of some rows' answers, in whatever order these come; with an expression nothing is found."""
        answers = chain.from_iterable(islice(_answers(chat), _OF_A_ROW) for chat in chats)
        self.frames = find_frames(answers) if self.looks else ()

    def of(self, chat: Chat) -> Chat:
        """A row, of its answers the own words alone; plain text has no answers.

        Raises:
            InputError: The pattern takes too long.
        """
        if (self._pattern is None and not self.frames) or chat.is_text:
            return chat
        return chat.with_messages([self._bare(turn) if turn.trained else turn for turn in chat.messages])

    def told(self) -> str:
        """How many answers were taken out since this was last asked, and of which frames; empty for none."""
        found, frames = self.found, [frame for frame in self.frames if self._in_frame[frame]]
        self.found, self._in_frame = 0, Counter()
        framed = f", {framed_as(frames)}" if frames else ""
        return f"own words of {found:,} answers{framed}" if found else ""

    def _bare(self, answer: Message) -> Message:
        words = self._framed(answer.content) if self._pattern is None else self._matched(answer.content)
        if not words.strip():
            return answer
        self.found += 1
        return replace(answer, content=words)

    def _framed(self, answer: str) -> str:
        for frame in self.frames:
            if words := frame.own(answer):
                self._in_frame[frame] += 1
                return words
        return ""

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
    """Some frames in words, fit to be shown."""
    more = f" and {len(frames) - _SHOWN:,} more" if len(frames) > _SHOWN else ""
    return "framed as " + ", ".join(f"“{printable(str(frame), _WIDTH)}”" for frame in frames[:_SHOWN]) + more


def _answers(chat: Chat) -> Iterable[Seen]:
    if chat.is_text:
        return
    prompt = chat.prompt
    for turn in chat.messages:
        if turn.trained and turn.content.strip():
            yield Seen.of(turn.content, prompt)
