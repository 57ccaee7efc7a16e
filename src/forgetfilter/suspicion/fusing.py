"""Fuse what all witnesses say about a row into one number, its suspicion.

No witness is always right: a review makes a model forget whole kinds of harmless rows that the safe examples do not
cover, for example, and likeness does not. So forgetting, and any rival that was asked, is trusted to the degree that
it agrees with likeness (after Parisi et al. 2014, ranking and combining predictors without labels).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .likeness import Likeness
from .nearest import Overlap

FloatArray = NDArray[np.floating]
# The parts of likeness that an explanation of suspicion tells apart.
WORDS, STATES, PROTOTYPES = "words", "states", "prototypes"
# Likeness to the run's own rows: words and states together.
OWN_ROWS = "own rows"
# Weights of likeness to the prototypes, and of a witness that agrees completely with likeness. Likeness to the run's
# own rows, in part learned from the data itself, weighs from a third to 1, more, the more rows of the data it counts as
# unsafe: where these are few, most are mistakes. It has its full weight where they are half of all.
_PROTOTYPES, _OTHERS = 2 / 3, 1.0
_LEAST_OWN_ROWS, _SHARE_FOR_ALL = 1 / 3, 0.5
# How far forgetting counts where ten unsafe rows are known and hardly any row of the data is like the safe examples.
_LEAST_FORGETTING = 0.5
# How many rows count as the most suspicious ones to a witness: this share of all, but no fewer than these.
_TOP, _FEWEST_TOP = 0.05, 5
# What is standardised has a standard deviation of 1, or of hardly anything where it does not vary.
_VARIES = 0.5
# Fewer rows tell neither whether a witness agrees, nor how much harmless rows differ, nor what unsafe ones are like.
FEWEST = 10


@dataclass(frozen=True)
class Fused:
    """Suspicion of n rows, in standard deviations above the mean of harmless rows; larger = more likely unsafe.

    Attributes:
        parts: What each witness contributes, by name, each of shape (n,).
        to_prototypes: The attribute of `Likeness`.
    """

    parts: dict[str, FloatArray]
    to_prototypes: FloatArray

    @property
    def suspicion(self) -> FloatArray:
        """Add up the parts, shape (n,)."""
        return _sum(self.parts)


def trust_in(overlap: Overlap | None, reviews: Collection[str], known_unsafe: int) -> dict[str, float]:
    """Tell how far evidence counts that rests on the safe examples, by name.

    Where the data is unlike these and no other row known to be harmless covers it, what is learned from the run's own
    rows finds whole kinds of harmless rows. A review makes the model forget the same ones. With known unsafe rows the
    two agree for that very reason, so that their agreement does not show that forgetting finds unsafe rows.

    Args:
        overlap: How far rows known to be harmless lie among the data; None where that is not known.
        reviews: Names of the forgetting by each review.
        known_unsafe: How many unsafe rows are known.
    """
    if overlap is None:
        return {}
    of_reviews = _LEAST_FORGETTING + (1 - _LEAST_FORGETTING) * overlap.alike if known_unsafe >= FEWEST else 1.0
    return {OWN_ROWS: 1.0 if overlap.is_covered else overlap.alike, **dict.fromkeys(reviews, of_reviews)}


def _sum(parts: Mapping[str, FloatArray]) -> FloatArray:
    total: FloatArray = np.sum(list(parts.values()), axis=0)
    return total


def fuse(
    likeness: Likeness,
    others: Mapping[str, FloatArray],
    untrusted: NDArray[np.bool_],
    harmless: NDArray[np.bool_],
    trust: Mapping[str, float],
) -> Fused:
    """Standardise what each witness says, weigh it and add it up.

    Args:
        likeness: Likeness of n rows to unsafe ones.
        others: Values of further witnesses, by name, each of shape (n,), NaN where one has none; larger = more likely
            unsafe. Such a row counts as the untrusted rows of its likeness do on average.
        untrusted: Which rows are to be judged, shape (n,).
        harmless: Which rows serve as the reference for harmless ones, shape (n,).
        trust: How far likeness to the run's own rows (`OWN_ROWS`) and further witnesses count, by name, 0 to 1; those
            not named count wholly. See `trust_in`.
    """
    reliable = min(1.0, likeness.suspected_share / _SHARE_FOR_ALL) * trust.get(OWN_ROWS, 1.0)
    weight = _LEAST_OWN_ROWS + (1 - _LEAST_OWN_ROWS) * reliable
    scale = weight / max(float((likeness.by_words + likeness.by_states)[untrusted].std()), 1e-9)
    parts = {WORDS: scale * likeness.by_words, STATES: scale * likeness.by_states}
    parts[PROTOTYPES] = _PROTOTYPES * _standardised(likeness.to_prototypes, untrusted)
    total_likeness = _sum(parts)
    for name, values in others.items():
        missing = np.isnan(values)
        told = untrusted & ~missing
        by_likeness, by_witness = _standardised(total_likeness, told), _standardised(values, told)
        over_all, about_top = _agreement(by_witness[told], by_likeness[told])
        # Linear regression on likeness fills gaps. What a witness would say of known unsafe rows, which show where rows
        # like them begin, is not what it says of an average row.
        filled = np.where(missing, over_all * by_likeness, by_witness)
        parts[name] = _OTHERS * trust.get(name, 1.0) * (over_all + about_top) / 2 * filled
    # Harmless rows set the zero, and the unit unless they are few.
    total = _sum(parts)
    spread = max(float(total[harmless if harmless.sum() >= FEWEST else harmless | untrusted].std()), 1e-9)
    parts = {name: (part - part[harmless].mean()) / spread for name, part in parts.items()}
    return Fused(parts, likeness.to_prototypes)


def _agreement(by_witness: FloatArray, by_likeness: FloatArray) -> tuple[float, float]:
    """Tell how far likeness agrees with a witness, over all rows and about the rows most suspicious to it, 0 to 1 each.

    The first is their correlation, which is small where few rows are unsafe, however well both find these. The second
    is how suspicious the rows that are most suspicious to the witness are by likeness, as a share of how suspicious as
    many rows are at most. Both are 0 where there are too few rows, or one of the two does not vary.

    Args:
        by_witness, by_likeness: What the two say of the same rows, standardised, each of shape (n,).
    """
    if len(by_witness) < FEWEST or min(by_witness.std(), by_likeness.std()) < _VARIES:
        return 0.0, 0.0
    top = _top(by_witness, max(_FEWEST_TOP, int(_TOP * len(by_witness))))
    most = np.sort(by_likeness)[-int(top.sum()) :].mean()
    about_top = by_likeness[top].mean() / most if most > 0 else 0.0
    over_all = np.mean(by_witness * by_likeness)
    return float(np.clip(over_all, 0.0, 1.0)), float(np.clip(about_top, 0.0, 1.0))


def _top(values: FloatArray, count: int) -> NDArray[np.bool_]:
    """Mark about so many of the largest values; equal ones are marked together, or not at all."""
    last = np.sort(values)[-count]
    above: NDArray[np.bool_] = values > last
    at_least: NDArray[np.bool_] = values >= last
    return above if at_least.sum() > 2 * count and above.any() else at_least


def _standardised(values: FloatArray, reference: NDArray[np.bool_]) -> FloatArray:
    """Express values in standard deviations of some rows above their mean; 0 if there are no such rows."""
    if not reference.any():
        return np.zeros(len(values))
    spread = max(float(values[reference].std()), 1e-9)
    standardised: FloatArray = (values - values[reference].mean()) / spread
    return standardised
