"""Frames: fixed words around what differs between answers, and what an answer in one says by itself.

Of `{"label": "yes", "reason": "It is."}` the beginning is `{"label": "`, the one joint `", "reason": "`, the end `"}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import regex

# Words of scripts without blanks between words are taken letter by letter, much as tokenizers do.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"
_SPACED = rf"[\w--{_UNSPACED}]+"
_UNIT = regex.compile(
    rf"(?V1) (?: {_UNSPACED} | {_SPACED} (?: ['’\-] {_SPACED} )* | [^\w\s] ) [^\S\n]* | \s+", regex.VERBOSE
)
_LETTER_ALONE = regex.compile(f"(?V1){_UNSPACED}")
_DIGITS = re.compile("[0-9]+")
# In place of digits, or of the letter of a choice, in what is the same in all answers of a frame. No text of a row has
# these characters.
NUMBER, LETTER = "\0", "\1"
_AS_PATTERN = {NUMBER: "[0-9]++", LETTER: "[A-Za-z]"}


def units(text: str, most: int) -> list[str]:
    """The first so many words, marks and line ends of a text, each with the blanks behind it; joined, they are it."""
    found: list[str] = []
    for match in _UNIT.finditer(text):
        if len(found) == most:
            break
        found.append(match.group())
    return found


def is_unspaced(letter: str) -> bool:
    """Whether a letter is of a script without blanks between words, and so a unit by itself."""
    return _LETTER_ALONE.fullmatch(letter) is not None


def without_numbers(unit: str) -> str:
    """A unit as it is compared: blanks are one blank, lines end once, numbers are all the same."""
    if unit.isspace():
        return "\n" if "\n" in unit else " "
    core = unit.rstrip()
    return _DIGITS.sub(NUMBER, core) + (" " if len(core) < len(unit) else "")


@dataclass(frozen=True)
class Frame:
    """What is the same in many answers.

    Attributes:
        beginning: The units that an answer begins with (`without_numbers`; LETTER for any one letter).
        joints: What stands between the parts that differ, as it is written. An answer may lack some.
        end: What stands behind the last of them; an answer may lack it.
    """

    beginning: tuple[str, ...]
    joints: tuple[str, ...] = ()
    end: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Frame:
        """The frame of which `stored` is the mapping."""
        return cls(tuple(stored["beginning"]), tuple(stored["joints"]), str(stored["end"]))

    @property
    def stored(self) -> dict[str, Any]:
        """The frame as JSON can hold it."""
        return asdict(self)

    def __str__(self) -> str:
        shown = "".join(self.beginning).replace(NUMBER, "#").replace(LETTER, "#")
        return "…".join([shown, *self.joints, self.end])

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # No part of it can give back what it took, so that no answer takes long.
        return re.compile(r"\s*+" + "".join(_unit_pattern(unit) for unit in self.beginning[:-1]) + self._last)

    @property
    def _last(self) -> str:
        last = self.beginning[-1].rstrip()
        return (_unit_pattern(last) if last else "") + r"\s*+"

    def own_spans(self, answer: str) -> list[tuple[int, int]]:
        """Where in an answer its own words stand, blanks left out; nowhere where it is in another frame, or in none."""
        begins = self._pattern.match(answer)
        if begins is None:
            return []
        at, end = begins.end(), len(answer)
        if self.end and (closed := len(answer.rstrip()) - len(self.end)) >= at and answer.startswith(self.end, closed):
            end = closed
        spans = []
        for joint in self.joints:
            if (found := answer.find(joint, at, end)) >= 0:
                spans.append((at, found))
                at = found + len(joint)
        spans.append((at, end))
        return [(first, last) for first, last in spans if answer[first:last].strip()]

    def own(self, answer: str) -> str:
        """An answer's own words; nothing where it is in another frame, or has none."""
        between = "\n" if any("\n" in joint for joint in self.joints) else " "
        return between.join(answer[first:last] for first, last in self.own_spans(answer))


def _unit_pattern(unit: str) -> str:
    if unit.isspace():
        return r"[^\S\n]*+\n\s*+" if "\n" in unit else r"[^\S\n]++"
    core = "".join(_AS_PATTERN.get(c) or re.escape(c) for c in unit.rstrip())
    return core + (r"[^\S\n]++" if unit.endswith(" ") else "")
