"""Read thresholds as users write them, and the number of removed rows that raises an alarm."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import SettingsError
from .auto import Auto
from .cuts import FalseDiscoveryRate, Fixed, Threshold, Top


def parse_threshold(text: str) -> Threshold:
    """Parse a threshold: a number, `top:10%`, `fdr:5%`, or `auto`.

    Raises:
        SettingsError: It is none of these.
    """
    wrong = SettingsError(
        f"threshold must be a number, top:PERCENT% (such as top:10%), fdr:PERCENT% or auto; found {text[:40]!r}"
    )
    if text == "auto":
        return Auto()
    kind, _, rest = text.rpartition(":")
    if kind and (kind not in _PERCENT or not rest.endswith("%")):
        raise wrong
    written = rest.removesuffix("%") if kind else text
    if not _NUMBER.fullmatch(written):
        raise wrong
    number = float(written)
    if not np.isfinite(number) or (kind and not 0 <= number <= 100):
        raise wrong
    return _PERCENT[kind](number / 100) if kind else Fixed(number)


@dataclass(frozen=True)
class MostRemoved:
    """The most rows that may be removed without an alarm.

    Attributes:
        text: As the user wrote it.
        number: A share of the rows, 0 to 1, or a count.
        is_share: Which of these it is.
    """

    text: str
    number: Fraction
    is_share: bool

    def is_exceeded(self, removed: int, rows: int) -> bool:
        """Tell whether more of the rows were removed; exactly as many are not more."""
        return removed > (self.number * rows if self.is_share else self.number)


_NUMBER = re.compile(r"(?ai:[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)")
_COUNT_OR_PERCENT = re.compile(r"(?a:\d{1,9}|\d{1,3}(\.\d{1,9})?%)")


def parse_most_removed(text: str) -> MostRemoved:
    """Parse the most rows that may be removed: a share such as `1%`, or a count.

    Raises:
        SettingsError: It is neither.
    """
    number, is_share = text.removesuffix("%"), text.endswith("%")
    if not _COUNT_OR_PERCENT.fullmatch(text) or (is_share and float(number) > 100):
        raise SettingsError(
            f"fail_above must be a share of the rows such as 1% or 0.5%, or a number of rows; found {text[:40]!r}"
        )
    return MostRemoved(text, Fraction(number) / (100 if is_share else 1), is_share)


_PERCENT: dict[str, Callable[[float], Threshold]] = {"top": Top, "fdr": FalseDiscoveryRate}
