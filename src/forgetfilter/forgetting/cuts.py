"""Define cuts, above which rows are removed, and the rules that need no groups of rows to choose one.

Thresholds see forgetting or suspicion alone, never labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

FloatArray = NDArray[np.floating]
NO_ROWS: FloatArray = np.empty(0)
# Fewer rows than this are not compared with others, and where a larger share is removed, they have to be.
FEWEST_TO_COMPARE, _MOST_REMOVED = 20, 0.7
_TOO_FEW_TO_SHOW = "too few to show whether the trusted rows are like the harmless rows of the data"
TOO_FEW_KEPT = f"the kept rows are {_TOO_FEW_TO_SHOW}"


@dataclass(frozen=True)
class Cut:
    """The cut that a threshold chose: rows above `value` are removed, none where it is None."""

    value: float | None
    explanation: str

    def removes(self, forgetting: FloatArray) -> NDArray[np.bool_]:
        """Mark the rows that are removed, shape (n,); rows without a score (NaN) never are."""
        if self.value is None:
            return np.zeros(len(forgetting), dtype=bool)
        above: NDArray[np.bool_] = np.nan_to_num(forgetting, nan=-np.inf) > self.value
        return above


class Threshold(Protocol):
    """A rule that chooses the cut.

    `cut` takes the forgetting of all rows, shape (n,), and that of trusted rows, shape (m,), where some were
    learned along with the data; NaN where unscored.
    """

    def cut(self, forgetting: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut: ...


@dataclass(frozen=True)
class Fixed:
    """The paper's threshold φ, in the signal's unit."""

    phi: float

    def cut(self, forgetting: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut:  # noqa: ARG002
        return Cut(self.phi, f"fixed at {self.phi:g}")


@dataclass(frozen=True)
class Top:
    """The share of the scored rows that was forgotten most, 0 to 1; rows tied at the cut are kept."""

    share: float

    def cut(self, forgetting: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut:  # noqa: ARG002
        scored = np.sort(forgetting[~np.isnan(forgetting)])[::-1]
        count = int(self.share * len(scored) + 0.5)
        explanation = f"the {100 * self.share:g}% of the rows with the largest values"
        if count == 0:
            return Cut(None, explanation + ", which is no row")
        return Cut(value_below(scored, count), explanation)


def value_below(ordered: FloatArray, count: int) -> float:
    """Return the value of the cut that removes the first `count` of falling values, one at least; ties stay."""
    return float(ordered[count] if count < len(ordered) else np.nextafter(ordered[-1], -np.inf))


@dataclass(frozen=True)
class FalseDiscoveryRate:
    """The lowest cut at which at most this share of the removed rows is harmless, in expectation; 0 to 1.

    A row's conformal p-value is the share of trusted rows (and itself) that are forgotten at least as much. The
    procedure of Benjamini and Hochberg, with Storey's estimate of the number of harmless rows, finds how many rows with
    the smallest p-values can be removed (Bates et al., Testing for outliers with conformal p-values, 2023). The bound
    holds if the trusted rows are forgotten like the harmless rows of the data. Where these are of several kinds, nobody
    knows which of them the data's harmless rows are like, so the largest p-value counts.

    Attributes:
        rate: The share.
        kinds: Forgetting of each kind of trusted rows, none NaN; empty where they are not told apart.
        unlike: Why the trusted rows are not like the harmless rows of the data, so that nothing is removed; empty where
            they may be.

    Raises:
        SettingsError: By `cut`, where there are no trusted rows.
    """

    rate: float
    kinds: tuple[FloatArray, ...] = ()
    unlike: str = ""

    def cut(self, forgetting: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut:
        scored, known = np.sort(forgetting[~np.isnan(forgetting)])[::-1], np.sort(trusted[~np.isnan(trusted)])
        if not len(known):
            raise self.no_trusted_rows()
        if self.unlike:
            return Cut(None, f"no cutoff can be known to meet {self._target}: {self.unlike}")
        kinds = [np.sort(kind) for kind in self.kinds] if len(self.kinds) > 1 else [known]
        p_values = np.max([_p_values(scored, kind) for kind in kinds], axis=0)
        # Storey's estimate of how many rows are harmless: their p-values are uniform, so twice as many rows are
        # harmless as have one above a half.
        harmless = min(len(scored), 2 * (1 + int((p_values > 0.5).sum())))
        counts = np.arange(1, len(scored) + 1)
        small = np.flatnonzero(p_values <= self.rate * counts / max(1, harmless))
        if not len(small):
            # The smallest p-value is 1 / (trusted + 1), so it takes many trusted rows to detect a few unsafe ones.
            above = max(1, int((scored > known[-1]).sum()))
            wanted = len(kinds) * int(np.ceil(harmless / (self.rate * above))) if self.rate else 0
            more = f"; it would take about {wanted:,} trusted rows to tell" if wanted > len(known) else ""
            counted = self._counted(len(known))
            return Cut(None, f"no cutoff meets {self._target} with {counted}{more}")
        last = scored[small[-1]]
        below = np.concatenate([scored[scored < last][:1], known[known < last][-1:]])
        return Cut(
            float(below.max() if len(below) else np.nextafter(last, -np.inf)),
            f"at most {100 * self.rate:g}% of the removed rows are harmless, in expectation, judged by "
            f"{self._counted(len(known))}",
        )

    def checked(self, cut: Cut, forgetting: FloatArray) -> Cut:
        """Refuse a cut that keeps too few rows to see whether the trusted rows are like the data's harmless ones."""
        removed, scored = int(cut.removes(forgetting).sum()), int((~np.isnan(forgetting)).sum())
        if not are_too_few_kept(removed, scored):
            return cut
        left = f"{scored - removed:,} of {scored:,} rows"
        return Cut(None, f"no cutoff can be known to meet {self._target}: it would keep {left}, {_TOO_FEW_TO_SHOW}")

    @property
    def _target(self) -> str:
        return f"the {100 * self.rate:g}% false-removal target"

    def _counted(self, known: int) -> str:
        return f"{known:,} trusted row{'' if known == 1 else 's'}{' of two kinds' if len(self.kinds) > 1 else ''}"

    def no_trusted_rows(self) -> SettingsError:
        """Describe what is wrong where no row is known to be harmless."""
        return SettingsError(
            f"threshold fdr:{100 * self.rate:g}% rests on rows known to be harmless that were learned with the data; "
            "run 'forgetfilter filter' with --trusted FILE, --trusted builtin or --set-aside 0.5"
        )

    def none_learned(self) -> SettingsError:
        """Describe what is wrong where M1 was trained elsewhere, without the rows known to be harmless."""
        return SettingsError(
            f"threshold fdr:{100 * self.rate:g}% rests on rows known to be harmless that were learned with the data, "
            "and with --learned none were; take auto, top:10% or a number"
        )


def are_too_few_kept(removed: int, scored: int) -> bool:
    """Tell whether a decision removes most rows and keeps too few to compare with the trusted ones.

    What trusted rows tell of errors rests on their being like the harmless rows of the data. Where most rows lie above
    them, that may be wrong instead.
    """
    return scored - removed < FEWEST_TO_COMPARE and removed > _MOST_REMOVED * scored


def _p_values(scored: FloatArray, known: FloatArray) -> FloatArray:
    """Return the share of trusted rows, and of itself, that are forgotten at least as much as each row."""
    p_values: FloatArray = (1 + len(known) - np.searchsorted(known, scored, side="left")) / (len(known) + 1)
    return p_values
