"""Estimate a threshold's errors from rows of known kind that were learned along with the data.

Trusted rows are known to be harmless, known-unsafe rows to be unsafe. The learned model saw them among the
untrusted rows, so they are forgotten in the same way as untrusted rows of their kind. But of which kinds the untrusted
rows are, nobody knows. Harmless ones may be like ordinary rows, like safe examples, or between the two, so an interval
covers both. Unsafe ones differ from the known ones as far as they did in measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics.detection import auroc
from .cuts import FEWEST_TO_COMPARE, TOO_FEW_KEPT, are_too_few_kept

FloatArray = NDArray[np.floating]
_Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A share between 0 and 1, with the bounds of its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:z.0%} ({self.low:z.0%} to {self.high:z.0%})"


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Planted:
    """Forgetting of the rows of known kind, NaN where unscored; empty where there are none.

    Attributes:
        ordinary: Forgetting of rows that the user or the package knows to be harmless.
        set_aside: Forgetting of safe examples that were learned with the data instead of being reviewed.
        known_unsafe: Forgetting of rows known to be unsafe.
    """

    ordinary: FloatArray
    set_aside: FloatArray
    known_unsafe: FloatArray

    @classmethod
    def of_none(cls) -> Planted:
        """Make one without any rows."""
        return cls(np.empty(0), np.empty(0), np.empty(0))

    @property
    def trusted(self) -> FloatArray:
        """Forgetting of all rows known to be harmless."""
        return np.concatenate([self.ordinary, self.set_aside])

    @property
    def has_ordinary(self) -> bool:
        """Tell whether enough ordinary rows have a score to tell their kind by themselves."""
        return int((~np.isnan(self.ordinary)).sum()) >= _FEWEST_OF_A_KIND

    @property
    def trusted_kinds(self) -> list[FloatArray]:
        """Forgetting of each kind of rows known to be harmless of which there are enough to tell it by itself."""
        scored = [kind[~np.isnan(kind)] for kind in (self.ordinary, self.set_aside)]
        return [kind for kind in scored if len(kind) >= _FEWEST_OF_A_KIND]


@dataclass(frozen=True)
class Errors:
    """Estimated errors of a decision; None where there is nothing to estimate one from.

    The intervals cover what is true in 95 of 100 cases where the data's rows are of the kinds of the rows known, or
    between them (docs/evidence.md).

    Attributes:
        precision: Share of the removed rows that are unsafe. Too low rather than too high where recall is below 1.
        recall: Share of the unsafe rows that are removed.
        harmless_removed: Share of the harmless rows that are removed.
    """

    precision: Estimate | None
    recall: Estimate | None
    harmless_removed: Estimate | None


def wilson(count: float, total: float) -> Estimate:
    """Return a share with Wilson's score interval; `total` must be positive."""
    share, z2 = count / total, _Z**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return Estimate(share, min(share, max(0.0, float(centre - half))), max(share, min(1.0, float(centre + half))))


def estimate_errors(removed: int, scored: int, planted: Planted, cut: float | None) -> Errors:
    """Estimate the errors of removing the rows that were forgotten more than `cut`.

    Args:
        removed: How many rows of the data the threshold removes.
        scored: How many rows of the data have a score.
        planted: The rows of known kind.
        cut: The threshold; None removes nothing.
    """
    recall = share_above(planted.known_unsafe, cut)
    if recall is not None and removed:
        recall = _widened(recall, OTHER_UNSAFE)
    lost = share_above(planted.trusted, cut)
    kinds = [share for kind in planted.trusted_kinds if (share := share_above(kind, cut)) is not None]
    if lost is not None and len(kinds) > 1 and cut is not None:
        lost = Estimate(lost.value, min(kind.low for kind in kinds), max(kind.high for kind in kinds))
    precision = None
    # Where no row is kept, nothing tells how many are harmless.
    if lost is not None and 0 < removed < scored:
        # A share `lost` of H harmless rows is removed. The other removed rows are unsafe, so H is at most
        # scored - (removed - lost * H), hence at most (scored - removed) / (1 - lost).
        worst, value, best = (
            min(1.0, share / (1 - share) * (scored - removed) / removed) if share < 1 else 1.0
            for share in (lost.high, lost.value, lost.low)
        )
        precision = Estimate(1 - value, 1 - worst, 1 - best)
    return Errors(precision, recall, lost)


def _widened(share: Estimate, spread: float) -> Estimate:
    """Widen the interval of a share for rows of another kind, whose shares are spread so far on the scale of logits."""
    bounds = np.array([share.low, share.high])
    with np.errstate(divide="ignore"):
        logits = np.log(bounds) - np.log1p(-bounds) + np.array([-_Z, _Z]) * spread
    low, high = 1 / (1 + np.exp(-logits))
    return Estimate(share.value, float(low), float(high))


def share_above(forgetting: FloatArray, cut: float | None) -> Estimate | None:
    """Estimate the share of rows of some kind that a threshold removes; None where none of them has a score."""
    known = forgetting[~np.isnan(forgetting)]
    if not len(known):
        return None
    return wilson(int((known > cut).sum()) if cut is not None else 0, len(known))


@dataclass(frozen=True)
class Doubt:
    """Why precision and the share of harmless rows removed cannot be estimated from the trusted rows.

    Attributes:
        because: The reason, in a few words.
        warning: The reason with figures, and what to do.
    """

    because: str
    warning: str


def doubt_about(suspicion: FloatArray, trusted: FloatArray, cut: float | None, more: str) -> Doubt | None:
    """Check all that can be checked of whether trusted rows tell a threshold's errors; return what is wrong first.

    Args:
        suspicion: Forgetting or suspicion of the data; NaN where unscored.
        trusted, cut, more: As the checks take them.
    """
    removed = np.nan_to_num(suspicion, nan=-np.inf) > (np.inf if cut is None else cut)
    count, scored, kept = int(removed.sum()), int((~np.isnan(suspicion)).sum()), suspicion[~removed]
    return (
        trusted_are_different(kept, trusted, more)
        or trusted_are_above(kept, trusted, cut, more)
        or more_trusted_are_removed(count, scored, trusted, cut)
        or too_few_are_kept(count, scored, trusted)
    )


def trusted_are_different(kept: FloatArray, trusted: FloatArray, more: str) -> Doubt | None:
    """Check that kept rows do not lie above the trusted ones, an assumption of every estimate from the latter.

    Args:
        kept: Forgetting or suspicion of the kept rows; NaN where unscored.
        trusted: The same for the trusted rows.
        more: How to describe the higher of two rows: "forgotten more" or "more suspicious".

    Returns:
        What is wrong, or None.
    """
    above = _share_above_beyond_chance(kept, trusted)
    if above is None:
        return None
    because = f"the kept rows are {more} than the trusted rows"
    return Doubt(
        because,
        f"{because} (a kept row is above a trusted one in {above:.0%} of the pairs, where 50% was expected): unsafe "
        "rows are left, or the trusted rows are not like the harmless rows of the data; then more harmless rows are "
        "removed than the trusted rows tell",
    )


def trusted_are_above(kept: FloatArray, trusted: FloatArray, cut: float | None, more: str) -> Doubt | None:
    """Check that trusted rows do not lie above the data's harmless ones, which makes the precision look too low.

    Args:
        kept: Forgetting or suspicion of the kept rows; NaN where unscored.
        trusted: The same for the trusted rows.
        cut: The threshold. Trusted rows above it are left out, as rows of the data above it are; None removes nothing.
        more: How to describe the higher of two rows: "forgotten more" or "more suspicious".

    Returns:
        What is wrong, or None.
    """
    if cut is None:
        return None
    above = _share_above_beyond_chance(trusted[~(trusted > cut)], kept)
    if above is None:
        return None
    because = f"the trusted rows are {more} than the kept rows"
    return Doubt(
        because,
        f"{because} (a trusted row is above a kept one in {above:.0%} of the pairs below the threshold, where 50% was "
        "expected), so that they are not like the harmless rows of the data: the true precision is probably higher "
        "than they suggest; give --trusted rows that are like the data's own",
    )


def more_trusted_are_removed(removed: int, scored: int, trusted: FloatArray, cut: float | None) -> Doubt | None:
    """Check that a threshold does not remove more of the trusted rows than of the data, which has unsafe rows besides.

    Args:
        removed: How many rows of the data the threshold removes.
        scored: How many rows of the data have a score.
        trusted: Forgetting or suspicion of the trusted rows; NaN where unscored.
        cut: The threshold; None removes nothing.

    Returns:
        What is wrong, or None.
    """
    lost = share_above(trusted, cut)
    if lost is None or not removed or lost.low < removed / scored:
        return None
    because = "more of the trusted rows than of the data are above the threshold"
    return Doubt(
        because,
        f"{because} ({lost.value:.0%} and {removed / scored:.0%}), so that they are not like the harmless rows of the "
        "data: the true precision is probably higher than they suggest; give --trusted rows that are like the data's "
        "own",
    )


def too_few_are_kept(removed: int, scored: int, trusted: FloatArray) -> Doubt | None:
    """Check that enough rows are kept to see whether trusted rows are like the harmless rows of the data.

    Args:
        removed: How many rows of the data the threshold removes.
        scored: How many rows of the data have a score.
        trusted: Forgetting or suspicion of the trusted rows; NaN where unscored.

    Returns:
        What is wrong, or None.
    """
    if np.isnan(trusted).all() or not are_too_few_kept(removed, scored):
        return None
    return Doubt(
        TOO_FEW_KEPT,
        f"{TOO_FEW_KEPT} ({scored - removed:,} of {scored:,}): most of those removed may be harmless; look at them, or "
        "set a threshold that keeps more",
    )


def _share_above_beyond_chance(one: FloatArray, other: FloatArray) -> float | None:
    """Return the share of pairs in which a row of the first group is above one of the second, if beyond chance."""
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if min(len(one), len(other)) < FEWEST_TO_COMPARE:
        return None
    above = auroc(np.concatenate([one, other]), np.repeat([True, False], [len(one), len(other)]))
    # Standard error of an AUROC of two groups of the same distribution.
    standard_error = np.sqrt((len(one) + len(other) + 1) / (12 * len(one) * len(other)))
    return above if above - 3 * standard_error > _ALIKE else None


# Fewer rows tell no kind by itself.
_FEWEST_OF_A_KIND = 10
# Standard deviation of the logit of recall between known unsafe rows and the data's (the panel, half `chosen`).
OTHER_UNSAFE = 0.375
_ALIKE = 0.55


def covered(forgetting: FloatArray, set_aside: FloatArray) -> NDArray[np.bool_]:
    """Find the rows that were forgotten no more than safe examples that were learned but not reviewed.

    These are of the kinds that the safe set covers. All rows count as covered where too few examples were set aside.

    Args:
        forgetting: Forgetting of the data, NaN where unscored.
        set_aside: Forgetting of the safe examples set aside, likewise.
    """
    known = set_aside[~np.isnan(set_aside)]
    if not tells_coverage(set_aside):
        return np.ones(len(forgetting), dtype=bool)
    spared: NDArray[np.bool_] = ~(forgetting > np.quantile(known, 0.95))
    return spared


def tells_coverage(set_aside: FloatArray) -> bool:
    """Tell whether enough safe examples were set aside to show which rows a safe set covers."""
    return int((~np.isnan(set_aside)).sum()) >= FEWEST_TO_COMPARE


def safe_set_is_of_another_kind(forgetting: FloatArray, set_aside: FloatArray) -> str | None:
    """Check that some of the data was forgotten as little as safe examples (paper, Appendix E).

    Where the safe set is of the data's kind, harmless rows are forgotten as little as the safe examples set aside;
    where it is not, all rows are forgotten more (docs/appendix.md).

    Args:
        forgetting: Forgetting of all rows of the data, NaN where unscored.
        set_aside: Forgetting of the safe examples set aside, likewise.

    Returns:
        What is wrong, or None; also None where too few examples were set aside.
    """
    scored, known = forgetting[~np.isnan(forgetting)], set_aside[~np.isnan(set_aside)]
    if not len(scored) or len(known) < FEWEST_TO_COMPARE:
        return None
    spared = int((scored <= np.median(known)).sum())
    if spared >= _LEAST_SPARED * len(scored):
        return None
    return (
        f"only {spared:,} of {len(scored):,} rows were forgotten as little as half of the safe examples set aside: the "
        "data has no harmless rows of their kind, or they are of another kind than the data, so that harmless rows are "
        "forgotten with the unsafe ones. Filter again, with safe examples like the data or with --safe self. In "
        "scores.parquet, covered is false for the rows that the present ones do not stand for"
    )


# Half of the harmless rows that the safe set covers are expected below the median. In the runs of docs/appendix.md it
# was 13% to 71% of all rows with a safe set of the data's kind, and none with one of another kind.
_LEAST_SPARED = 0.05
