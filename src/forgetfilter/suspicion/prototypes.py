"""Measure how much each row is like the package's own unsafe rows, the prototypes, and unlike its harmless ones.

Rows can be unsafe in many ways, and one linear rule is the average of them all: what it gains on one it loses on
another. So there is also a rule for each family of prototypes, of which the most suspicious one speaks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .kinds import FAMILIES, HARMLESS_PROTOTYPES, KNOWN_HARMLESS, SAFE, TRUSTED, UNSAFE, WEIGHT_OF_KIND
from .rules import Features, TrainingRows

FloatArray = NDArray[np.floating]
# Of the data only the rows that a person labelled take part. Safe and trusted rows stand in for missing prototypes.
_PROTOTYPES_ALONE = {kind: weight for kind, weight in WEIGHT_OF_KIND.items() if kind not in (SAFE, TRUSTED)}


def like_prototypes(training: TrainingRows, features: Features, fitted: NDArray[np.intp]) -> FloatArray:
    """Compare all rows with the prototypes, cross-fitted.

    Args:
        training: The rows that rules are fitted to.
        features: The features of all n rows.
        fitted: The places of the rows of `training` among these.

    Returns:
        Shape (n,): 1 for a row like the median unsafe prototype, -1 for one like the median harmless one, and 0 for a
        row that is as far from one as from the other.
    """
    harmless = fitted[training.are(*KNOWN_HARMLESS, *HARMLESS_PROTOTYPES)]
    families = [family for family in FAMILIES if training.are(family).any()]
    likeness = _standardised(_apply(training, features, fitted), harmless)
    if families:
        # A row that a person labelled is of no known family.
        others = [[UNSAFE, *(other for other in families if other != family)] for family in families]
        by_family = [_apply(training.without(*without), features, fitted) for without in others]
        likeness += _standardised(np.max([_standardised(one, harmless) for one in by_family], axis=0), harmless)
    return _between(likeness, fitted[training.are(*FAMILIES)], _harmless_examples(training, fitted))


def _apply(training: TrainingRows, features: Features, fitted: NDArray[np.intp]) -> FloatArray:
    values: FloatArray = np.sum(training.fit(_PROTOTYPES_ALONE).predict(features, fitted), axis=0)
    return values


def _standardised(values: FloatArray, harmless: NDArray[np.intp]) -> FloatArray:
    """Express values in standard deviations of the harmless rows above their mean."""
    if not len(harmless):
        return values
    reference = values[harmless]
    standardised: FloatArray = (values - reference.mean()) / max(float(reference.std()), 1e-9)
    return standardised


def _harmless_examples(training: TrainingRows, fitted: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the harmless prototypes; where a run uses them as its safe or trusted rows, these."""
    kinds = [kind for kind in HARMLESS_PROTOTYPES if training.are(kind).any()]
    return fitted[training.are(*(kinds if len(kinds) == len(HARMLESS_PROTOTYPES) else (*kinds, SAFE, TRUSTED)))]


def _between(values: FloatArray, unsafe: NDArray[np.intp], harmless: NDArray[np.intp]) -> FloatArray:
    """Scale values so that the medians of two groups of rows become 1 and -1."""
    if not len(unsafe) or not len(harmless):
        return values
    high, low = float(np.median(values[unsafe])), float(np.median(values[harmless]))
    scaled: FloatArray = (2 * values - high - low) / max(high - low, 1e-9)
    return scaled
