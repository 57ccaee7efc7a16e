"""An answer's own words, where answers share a frame.

Of "The answer is ans2: The grandfather" all but the choice is the same in every answer, right or wrong, and a small
model that learns the frame may never learn the choice: what was never learned cannot be forgotten. Without the frame
it is learned (docs/evidence.md, "Bias").
"""

from __future__ import annotations

from dataclasses import replace

import regex

from ..errors import InputError
from .chats import Chat, Message

# A pattern that takes longer for one answer would take for ever for a hostile one.
_SECONDS = 2.0


class OwnWords:
    """Takes answers out of their frame.

    Args:
        pattern: A regular expression; its first group, or all of it where it has none, are an answer's own words. Empty
            for answers without a frame.

    Attributes:
        found: Answers taken out so far; those that do not match, or with nothing but blanks inside, stay whole.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = regex.compile(pattern, regex.DOTALL) if pattern else None
        self.found = 0

    def of(self, chat: Chat) -> Chat:
        """A row, of its answers the own words alone; plain text has no answers.

        Raises:
            InputError: The pattern takes too long.
        """
        if self._pattern is None or chat.is_text:
            return chat
        return chat.with_messages([self._bare(turn) if turn.trained else turn for turn in chat.messages])

    def _bare(self, answer: Message) -> Message:
        assert self._pattern is not None
        try:
            match = self._pattern.search(answer.content, timeout=_SECONDS)
        except TimeoutError as error:
            raise InputError(
                f"own_words: '{self._pattern.pattern}' takes more than {_SECONDS:g} s for one answer of "
                f"{len(answer.content):,} characters; make it simpler"
            ) from error
        words = (match[1 if self._pattern.groups else 0] or "") if match else ""
        if not words.strip():
            return answer
        self.found += 1
        return replace(answer, content=words)
