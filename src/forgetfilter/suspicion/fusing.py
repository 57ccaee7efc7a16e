"""Suspicion: what all witnesses say of a row, as one number.

No witness is always right: a review makes a model forget whole kinds of harmless rows that the safe examples do not
cover, which likeness knows nothing of. So forgetting, and any other filter that was asked, is believed as far as it
agrees with likeness over the untrusted rows (Parisi et al. 2014, ranking and combining predictors without labels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .likeness import Likeness

FloatArray = NDArray[np.floating]
# The parts of likeness, as they are told apart where suspicion is explained.
WORDS, STATES, PROTOTYPES = "words", "states", "prototypes"
# How much likeness to prototypes weighs beside likeness to the run's own rows, which weighs 1 where untrusted rows
# count in it and less where they do not, and how much a witness that agrees completely with both.
_PROTOTYPES, _OTHERS = 0.5, 1.0
_WITHOUT_UNTRUSTED = 0.25
_FEWEST_TO_AGREE = 10


@dataclass(frozen=True)
class Fused:
    """Suspicion of n rows, in standard deviations above the mean of harmless rows; larger = rather unsafe.

    Attributes:
        parts: What each witness adds to it, by name, each of shape (n,).
    """

    parts: dict[str, FloatArray]

    @property
    def suspicion(self) -> FloatArray:
        """The sum, shape (n,)."""
        return _sum(self.parts)


def _sum(parts: Mapping[str, FloatArray]) -> FloatArray:
    total: FloatArray = np.sum(list(parts.values()), axis=0)
    return total


def fuse(
    likeness: Likeness,
    others: Mapping[str, FloatArray],
    untrusted: NDArray[np.bool_],
    harmless: NDArray[np.bool_],
) -> Fused:
    """Add up what the witnesses say.

    Args:
        likeness: Likeness to unsafe rows.
        others: What further witnesses say, by name, likewise; NaN where one is silent. Larger = rather unsafe.
        untrusted: Which rows are to be judged, shape (n,).
        harmless: Which rows tell how harmless ones look, shape (n,).
    """
    own = _WITHOUT_UNTRUSTED + (1 - _WITHOUT_UNTRUSTED) * likeness.belief
    unit = own / max(float((likeness.by_words + likeness.by_states)[untrusted].std()), 1e-9)
    parts = {WORDS: unit * likeness.by_words, STATES: unit * likeness.by_states}
    parts[PROTOTYPES] = _PROTOTYPES * _standardised(likeness.to_prototypes, untrusted)
    alike = _sum(parts)
    for name, values in others.items():
        parts[name] = _OTHERS * _agreement(values, alike, untrusted) * _standardised(values, untrusted)
    # The zero, and the unit, are those of harmless rows.
    total = _sum(parts)
    spread = max(float(total[harmless].std()), 1e-9)
    return Fused({name: (part - part[harmless].mean()) / spread for name, part in parts.items()})


def _agreement(values: FloatArray, alike: FloatArray, untrusted: NDArray[np.bool_]) -> float:
    """The correlation with likeness over the untrusted rows, 0 where there is none or too few rows tell."""
    there = untrusted & ~np.isnan(values)
    if there.sum() < _FEWEST_TO_AGREE or min(values[there].std(), alike[there].std()) < 1e-9:
        return 0.0
    return max(0.0, float(np.corrcoef(values[there], alike[there])[0, 1]))


def _standardised(values: FloatArray, untrusted: NDArray[np.bool_]) -> FloatArray:
    """In standard deviations of the untrusted rows above their mean; 0 where the witness is silent."""
    there = untrusted & ~np.isnan(values)
    if not there.any():
        return np.zeros(len(values))
    spread = max(float(values[there].std()), 1e-9)
    standardised: FloatArray = np.nan_to_num((values - values[there].mean()) / spread)
    return standardised
