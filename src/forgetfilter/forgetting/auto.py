"""Choose the cut from the rows themselves: the valley between groups of rows, or what rows of known kind tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .cuts import NO_ROWS, Cut, FalseDiscoveryRate
from .looks import where_rows_look_unsafe
from .valleys import TOO_MANY, Valleys, find_valley

FloatArray = NDArray[np.floating]
# The false discovery rate where there is no valley, that for a cut below a valley, and the largest share of the trusted
# rows that may lie above one.
_RATE, _RATE_BELOW_VALLEY = 0.2, 0.05
_MOST_TRUSTED = 0.1
# For suspicion: the false discovery rates where there is no valley, the stricter first, and looser ones where fewer
# than ten unsafe rows are known; and the largest share of rows above a valley that may be harmless (docs/appendix.md).
_RATES_OF_SUSPICION, _LOOSER_RATES, _MOST_HARMLESS = (0.1, 0.2), (0.3, 0.4), 0.5
# The smallest share of the rows above a cut that look unsafe by themselves, and the same where known unsafe rows show
# what unsafe rows look like.
_FEWEST_LOOK_UNSAFE, _FEWEST_LIKE_KNOWN = 1 / 3, 1 / 2
# Where some rows are unsafe, others begin this far before the boundary between the package's examples: rows of the data
# are less like these examples than the examples are like each other.
_FURTHER = 0.75
# The largest share of the trusted rows that may lie above a cut that was lowered to where rows begin to look unsafe.
_MOST_TRUSTED_LOOK_UNSAFE = 0.2
# Fewer known unsafe rows do not represent their kind, and fewer such rows in the data may be there by chance.
FEWEST_UNSAFE, _FEWEST_THERE = 10, 3
# Fewer trusted rows do not tell how many harmless rows are as suspicious as the least suspicious unsafe ones.
_FEWEST_TRUSTED = 20
# A group of more than so many times the rows that are like known unsafe ones is not theirs, and a cut with a smaller
# share of the known unsafe ones above it than this lies within theirs.
_MOST_BEYOND, _FEWEST_KNOWN_BEYOND = 1.5, 0.7
# Unsafe rows are seldom the majority; a larger group is more likely a whole kind of harmless rows, all of
# which the review made the model forget because the safe examples are of another kind. Evidence other than forgetting
# supports a larger group, and tells more of them apart.
_OF_FORGETTING, _OF_SUSPICION = Valleys(2, shallow=0.8, largest=0.6), Valleys(3, shallow=0.85, largest=0.7)
_UNACCEPTABLE = "beyond the valley lie too many trusted rows"
_LOOK_HARMLESS = (
    "but too few of these are more like unsafe examples than like harmless ones; look at the topmost ones, give rows "
    "that you know to be unsafe, or set a threshold, such as top:5%"
)


@dataclass(frozen=True)
class Auto:
    """The valley between two groups of rows: one that was forgotten little, one that was forgotten much.

    Two normal distributions are fitted to the forgetting of all rows, and the cut is where the density between their
    means is lowest. There is no valley where one distribution explains the rows as well, where the density has no
    clear minimum between the means, or where the group that was forgotten more holds most of the rows. The false
    discovery rate then decides if there are trusted rows, and nothing is removed if there are none. A valley may also
    lie too high, between most unsafe rows and a few that were forgotten even more, so trusted rows may lower the cut.
    """

    def cut(self, forgetting: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut:
        forgetting = forgetting[~np.isnan(forgetting)]
        valley, why = find_valley(forgetting, "forgotten", _OF_FORGETTING)
        known = trusted[~np.isnan(trusted)]
        if not len(known):
            return valley
        if valley.value is not None and float((known > valley.value).mean()) <= _MOST_TRUSTED:
            further = FalseDiscoveryRate(_RATE_BELOW_VALLEY).cut(forgetting, known)
            # A cut below the valley must not remove most of the rows.
            takes_too_many = float(further.removes(forgetting).mean()) > _OF_FORGETTING.largest
            if further.value is None or further.value >= valley.value or takes_too_many:
                return valley
            return Cut(further.value, f"below the valley at {valley.value:.3g}; {further.explanation}")
        fallback = FalseDiscoveryRate(_RATE).cut(forgetting, known)
        if (share := float(fallback.removes(forgetting).mean())) > _OF_FORGETTING.largest:
            return Cut(None, f"{share:.0%} of the rows were forgotten more than trusted rows, {TOO_MANY}")
        return Cut(fallback.value, f"{why or _UNACCEPTABLE}; {fallback.explanation}")


@dataclass(frozen=True)
class AutoOfSuspicion:
    """The same for suspicion, which separates two groups of rows better than it separates trusted from other rows.

    The cut is the lowest valley between groups. There may be three, as harmless rows are often of two kinds, if rows of
    known kind can tell which valley it is. It is none if trusted rows show that most rows above it are harmless, or
    known unsafe ones that far more rows lie above it than there are like them, that rows like them lie below it, too,
    or that those above it are of another kind. Without such a valley, known unsafe rows show where rows like them
    begin.

    Where nothing is like these, the false discovery rate decides. That takes whatever trusted rows are unlike for
    suspicious, so a good part of the rows above such a cut has to look unsafe by itself. It also rests on few trusted
    rows, so without known unsafe ones the cut is lowered to where rows begin to look unsafe, if there are any beyond
    doubt or above the cut.

    Attributes:
        known_unsafe: Suspicion of rows known to be unsafe, shape (k,).
        to_prototypes: Whether each row of the data is more like the package's unsafe examples (above 0) or its harmless
            ones (below), shape (n,); None where they were not compared.
        unlike: Why trusted rows do not tell how many of the removed rows are harmless; empty where they may.
    """

    known_unsafe: FloatArray
    to_prototypes: FloatArray | None = None
    unlike: str = ""

    def cut(self, suspicion: FloatArray, trusted: FloatArray = NO_ROWS) -> Cut:
        if (unscored := np.isnan(suspicion)).any():
            looks = None if self.to_prototypes is None else self.to_prototypes[~unscored]
            return replace(self, to_prototypes=looks).cut(suspicion[~unscored], trusted)
        known, unsafe = trusted[~np.isnan(trusted)], self.known_unsafe[~np.isnan(self.known_unsafe)]
        expected = _count_like(suspicion, known, unsafe)

        def objection(value: float) -> str:
            if expected >= _FEWEST_THERE and (suspicion > value).sum() > _MOST_BEYOND * expected:
                return "beyond the valley lie far more rows than there are like the known unsafe ones"
            if len(known) and _harmless_share(suspicion, known, value) > _MOST_HARMLESS:
                return _UNACCEPTABLE
            if not self._knows_unsafe:
                return ""
            if (unsafe > value).mean() < _FEWEST_KNOWN_BEYOND:
                return "too many of the known unsafe rows lie below the valley"
            if self._look_unsafe(suspicion > value) < _FEWEST_LIKE_KNOWN:
                return "too few of the rows beyond the valley look unsafe"
            return ""

        can_tell = len(known) > 0 or expected >= _FEWEST_THERE
        wanted = _OF_SUSPICION if can_tell else replace(_OF_SUSPICION, groups=2)
        valley, why = find_valley(suspicion, "suspicious", wanted, objection)
        if valley.value is not None:
            return valley
        if expected >= _FEWEST_THERE:
            return _where_unsafe_begin(suspicion, unsafe, expected)
        beyond_trusted = self._beyond_trusted(suspicion, known, why) if len(known) else valley
        if self._knows_unsafe or self.to_prototypes is None:
            return beyond_trusted
        return _lowered(beyond_trusted, suspicion, known, self.to_prototypes, why)

    @property
    def _knows_unsafe(self) -> bool:
        return int((~np.isnan(self.known_unsafe)).sum()) >= FEWEST_UNSAFE

    def _look_unsafe(self, removed: NDArray[np.bool_]) -> float:
        """Return the share of these rows that is more like unsafe examples than like harmless ones; 1 if unknown."""
        if self.to_prototypes is None or not removed.any():
            return 1.0
        return float((self.to_prototypes[removed] > 0).mean())

    def _beyond_trusted(self, suspicion: FloatArray, known: FloatArray, why: str) -> Cut:
        """Return the cut by the false discovery rate, or why nothing is removed; `why` there is no valley."""
        # Where no cutoff meets the stricter rate, the looser one is better than none.
        # With known unsafe rows nothing in the data is like these, or it would have decided.
        rates = _RATES_OF_SUSPICION if self._knows_unsafe else _RATES_OF_SUSPICION + _LOOSER_RATES
        cuts = [(rate, FalseDiscoveryRate(rate).cut(suspicion, known)) for rate in rates]
        rate, fallback = next((found for found in cuts if found[1].value is not None), cuts[0])
        removed = fallback.removes(suspicion)
        more_suspicious = f"{removed.mean():.0%} of the rows are more suspicious than trusted rows"
        if removed.mean() > _OF_SUSPICION.largest:
            return Cut(None, f"{more_suspicious}, {TOO_MANY}")
        if self._look_unsafe(removed) < (_FEWEST_LIKE_KNOWN if self._knows_unsafe else _FEWEST_LOOK_UNSAFE):
            return Cut(None, f"{more_suspicious}, {_LOOK_HARMLESS}")
        beyond = f"as for {100 * rate:g}% harmless rows among the removed, which cannot be known: {self.unlike}"
        return Cut(fallback.value, f"{why}; {beyond if self.unlike else fallback.explanation}")


def _lowered(cut: Cut, suspicion: FloatArray, trusted: FloatArray, to_prototypes: FloatArray, why: str) -> Cut:
    """Lower a cut to where rows begin to look unsafe, but not into the trusted rows; `why` there is no valley.

    A cut shows that some rows are unsafe, and so do rows that look unsafe beyond doubt, whatever their suspicion. Where
    neither is there, nothing is removed.
    """
    largest = _OF_SUSPICION.largest
    if cut.value is None and where_rows_look_unsafe(to_prototypes, to_prototypes, 0.0, largest).value is None:
        return cut
    begin = [where_rows_look_unsafe(suspicion, to_prototypes, boundary, largest) for boundary in (0.0, -_FURTHER)]
    lowest = min(cut, *begin, key=_height)
    if lowest is cut:
        return cut
    lowest = _out_of_trusted(lowest, trusted)
    looks = to_prototypes[lowest.removes(suspicion)]
    if _height(lowest) >= _height(cut) or len(looks) < _FEWEST_THERE or (looks > 0).mean() < _FEWEST_LOOK_UNSAFE:
        return cut
    return Cut(lowest.value, f"{lowest.explanation}; not between groups of rows, as {why}")


def _out_of_trusted(cut: Cut, trusted: FloatArray) -> Cut:
    """Raise a cut where too many trusted rows lie above it."""
    floor = float(np.quantile(trusted, 1 - _MOST_TRUSTED_LOOK_UNSAFE, method="higher")) if len(trusted) else -np.inf
    if _height(cut) >= floor:
        return cut
    return Cut(floor, f"{cut.explanation}, but no lower than {1 - _MOST_TRUSTED_LOOK_UNSAFE:.0%} of the trusted rows")


def _height(cut: Cut) -> float:
    return np.inf if cut.value is None else cut.value


def _count_like(suspicion: FloatArray, trusted: FloatArray, unsafe: FloatArray) -> float:
    """Estimate how many rows are as suspicious as known unsafe ones; 0 where too few of these are known.

    There are three estimates, from the rows above the 5%, 25% and 50% quantiles of the known unsafe ones. The largest
    counts: known rows are often more alike than those of the data, and so more suspicious. Above the lowest quantile
    are many harmless rows, so that it takes trusted rows to tell these.
    """
    estimated = 0.0
    if len(unsafe) < FEWEST_UNSAFE:
        return estimated
    for share in (0.05, 0.25, 0.5) if len(trusted) >= _FEWEST_TRUSTED else (0.25, 0.5):
        quantile = float(np.quantile(unsafe, share))
        by_chance = len(suspicion) * float((trusted > quantile).mean()) if len(trusted) else 0.0
        excess = float((suspicion > quantile).sum()) - by_chance
        if excess > 2 * by_chance**0.5:
            estimated = max(estimated, excess / max(float((unsafe > quantile).mean()), 1e-9))
    return estimated


def _where_unsafe_begin(suspicion: FloatArray, unsafe: FloatArray, expected: float) -> Cut:
    """Return the cut of the largest F1 if so many rows are unsafe, and as suspicious as the known unsafe ones."""
    cuts = np.unique(np.concatenate([suspicion, unsafe]))
    removed, recall = (len(x) - np.searchsorted(np.sort(x), cuts, side="right") for x in (suspicion, unsafe))
    f1 = 2 * expected * recall / len(unsafe) / (removed + expected)
    best = cuts[np.argmax(np.where(recall >= _FEWEST_KNOWN_BEYOND * len(unsafe), f1, 0.0))]
    return Cut(
        float(best),
        f"where rows like the {len(unsafe):,} known unsafe ones begin, of which there are about {expected:.0f}",
    )


def _harmless_share(suspicion: FloatArray, trusted: FloatArray, cut: float) -> float:
    """Estimate the share of harmless rows among those above a cut, if they are as suspicious as trusted ones."""
    above, lost = float((suspicion > cut).sum()), float((trusted > cut).mean())
    kept = float((suspicion <= cut).sum())
    return min(1.0, lost / max(1 - lost, 1e-9) * kept / max(above, 1.0))
