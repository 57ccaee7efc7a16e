"""Describe frames, the fixed words around what differs between answers, and take answers out of them.

Of `{"label": "yes", "reason": "It is."}` the beginning is `{"label": "`, the one joint `", "reason": "`, the end `"}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import regex

# Words of scripts without blanks between words are split into letters, much as tokenizers do.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
_SPACED = rf"[\w--{_UNSPACED}]+"
_UNIT = regex.compile(
    rf"(?V1) (?: {_UNSPACED} | {_SPACED} (?: ['’\-] {_SPACED} )* | [^\w\s] ) [^\S\n]* | \s+", regex.VERBOSE
)
_LETTER_ALONE = regex.compile(f"(?V1){_UNSPACED}")
_DIGITS = re.compile("[0-9]+")
# Stand for digits, or for the letter of a choice, in the text that all answers of a frame share. No row's text has
# the first, and hardly any the second.
NUMBER, LETTER = "\0", "\1"
_AS_PATTERN = {NUMBER: "[0-9]++", LETTER: "[A-Za-z]"}


def units(text: str, most: int) -> list[str]:
    """Split the beginning of a text into at most `most` words, marks and line ends, each with the blanks after it."""
    beginning: list[str] = []
    for match in _UNIT.finditer(text):
        if len(beginning) == most:
            break
        beginning.append(match.group())
    return beginning


def is_unspaced(letter: str) -> bool:
    """Tell whether a letter is of a script without blanks between words, and so a unit by itself."""
    return _LETTER_ALONE.fullmatch(letter) is not None


def without_numbers(unit: str) -> str:
    """Return a unit as it is compared: with one blank for several, one line end, and the same sign for all numbers."""
    if unit.isspace():
        return "\n" if "\n" in unit else " "
    core = unit.rstrip()
    return _DIGITS.sub(NUMBER, core) + (" " if len(core) < len(unit) else "")


@dataclass(frozen=True)
class Frame:
    """The text that is the same in many answers.

    Attributes:
        beginning: The units that an answer begins with (`without_numbers`; LETTER for any one letter).
        joints: What stands between the parts that differ, as it is written; an answer may lack some.
        end: What follows the last part that differs; an answer may lack it.
    """

    beginning: tuple[str, ...]
    joints: tuple[str, ...] = ()
    end: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Frame:
        """Make a frame from its `stored` form."""
        return cls(tuple(stored["beginning"]), tuple(stored["joints"]), str(stored["end"]))

    @property
    def stored(self) -> dict[str, Any]:
        """Return the frame as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        shown = "".join(self.beginning).replace(NUMBER, "#").replace(LETTER, "#")
        return "…".join([shown, *self.joints, self.end])

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # All quantifiers are possessive, so that there is no backtracking and no answer takes long.
        return re.compile(r"\s*+" + "".join(_unit_pattern(unit) for unit in self.beginning[:-1]) + self._last)

    @property
    def _last(self) -> str:
        last = self.beginning[-1].rstrip()
        return (_unit_pattern(last) if last else "") + r"\s*+"

    def own_spans(self, answer: str) -> list[tuple[int, int]]:
        """Find an answer's own words, as (start, end) of parts that are not blank; none outside this frame."""
        begins = self._pattern.match(answer)
        if begins is None:
            return []
        at, end = begins.end(), len(answer)
        if self.end and (closed := len(answer.rstrip()) - len(self.end)) >= at and answer.startswith(self.end, closed):
            end = closed
        spans = []
        for joint in self.joints:
            if (place := answer.find(joint, at, end)) >= 0:
                spans.append((at, place))
                at = place + len(joint)
        spans.append((at, end))
        return [(first, last) for first, last in spans if answer[first:last].strip()]

    def own(self, answer: str) -> str:
        """Return an answer's own words; empty where it has none or is not in this frame."""
        between = "\n" if any("\n" in joint for joint in self.joints) else " "
        return between.join(answer[first:last] for first, last in self.own_spans(answer))


def _unit_pattern(unit: str) -> str:
    if unit.isspace():
        return r"[^\S\n]*+\n\s*+" if "\n" in unit else r"[^\S\n]++"
    core = "".join(_AS_PATTERN.get(c) or re.escape(c) for c in unit.rstrip())
    return core + (r"[^\S\n]++" if unit.endswith(" ") else "")
