"""Measure how much each row is like unsafe rows and unlike safe and trusted ones, without any training.

Linear rules are fitted to the rows' words and to their hidden states under the untouched model M0. The first ones
(`prototypes.py`) separate the package's own unsafe rows, the prototypes, from its harmless ones; of the data they use
only the rows that a person labelled. The last one has safe and trusted rows on one side and, on the other, prototypes,
known unsafe rows, and untrusted rows to the degree that they look unsafe. That degree follows from the rule itself, in
a few rounds: among rows at least as suspicious as this one, how many more untrusted rows are there than the harmless
rows lead one to expect (Storey 2002; learning from positive and unlabelled rows, Elkan and Noto 2008)? Untrusted rows
may also look unsafe because whole kinds of harmless rows are unlike any known ones. So a row counts only to the degree
that it is like the prototypes, and all of them only to the degree that the rules agree about them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .kinds import KNOWN_HARMLESS, UNTRUSTED, WEIGHT_OF_KIND
from .prototypes import like_prototypes
from .rules import FOLDS, Features, Rule, TrainingRows

FloatArray = NDArray[np.floating]
# Untrusted rows begin to count at the first of these correlations of the rules, and count in full at the second.
_NO_AGREEMENT, _AGREEMENT = 0.2, 0.6
# They count in full while at most the first share of them lies beyond the harmless rows, and not at all from the
# second on.
_KINDS_KNOWN, _NO_KIND_KNOWN = 0.8, 0.95
# A row counts half if it is as like unsafe prototypes as harmless ones. One that is a median unsafe prototype counts as
# the logistic function of this.
_SURE = 4 / 3
# The most suspicious harmless rows are ignored, because some of them may be mislabelled.
_OUTLIERS = 0.02
_ROUNDS = 3
# How many rows the untrusted ones count as at first.
_FIRST = 30.0
# A linear rule gains nothing from more rows, and with this many, each row's own influence on it is small.
_MOST_FITTED = 10_000


@dataclass(frozen=True)
class Likeness:
    """What the rules say about n rows; larger = more like unsafe rows.

    Attributes:
        by_words, by_states: Contributions of words and states to the last rule, without a unit, shape (n,); its value
            is their sum.
        to_prototypes: The result of `like_prototypes`: above 0, a row is more like unsafe prototypes than like harmless
            ones. Shape (n,).
        suspected: The degree to which each untrusted row counts as unsafe, 0 to 1; 0 for other rows. Shape (n,).
        suspected_share: The share of the untrusted rows that counts as unsafe, 0 to 1.
    """

    by_words: FloatArray
    by_states: FloatArray
    to_prototypes: FloatArray
    suspected: FloatArray
    suspected_share: float


def measure_likeness(features: Features, kinds: NDArray[np.integer], random_ranks: NDArray[np.integer]) -> Likeness:
    """Fit the rules and apply them, cross-fitted: no row takes part in its own prediction.

    Args:
        features: The features of n rows.
        kinds: The kind of each row, shape (n,).
        random_ranks: The rank of each row in a random order (`data.draw.ranks_of_copies`), which gives the folds,
            shape (n,).
    """
    fitted = choose_fitted(kinds == UNTRUSTED, random_ranks)
    training = TrainingRows(features.take(fitted), kinds[fitted], random_ranks[fitted] % FOLDS)
    to_prototypes = like_prototypes(training, features, fitted)
    untrusted, prototypes = training.are(UNTRUSTED), to_prototypes[fitted]
    plausible = untrusted / (1 + np.exp(-_SURE * np.clip(prototypes, -100, 100)))
    suspected = untrusted * (_FIRST / max(1, int(untrusted.sum())))
    for _ in range(_ROUNDS):
        rule = training.fit(WEIGHT_OF_KIND, suspected)
        posterior = _posterior(training, rule)
        belief = _belief(rule.total[untrusted], prototypes[untrusted], posterior[untrusted])
        suspected = belief * posterior * plausible
    rule = training.fit(WEIGHT_OF_KIND, suspected)
    suspected_of_all = np.zeros(len(kinds))
    suspected_of_all[fitted] = suspected
    share = float(suspected.sum() / max(1, untrusted.sum()))
    return Likeness(*rule.predict(features, fitted), to_prototypes, suspected_of_all, share)


def choose_fitted(untrusted: NDArray[np.bool_], random_ranks: NDArray[np.integer]) -> NDArray[np.intp]:
    """Choose the rows that rules are fitted to: all of known kind, and the untrusted ones of lowest random rank."""
    places = np.flatnonzero(untrusted)
    if len(places) > _MOST_FITTED:
        places = places[np.argsort(random_ranks[places], kind="stable")[:_MOST_FITTED]]
    return np.sort(np.concatenate([places, np.flatnonzero(~untrusted)]))


def _posterior(training: TrainingRows, rule: Rule) -> FloatArray:
    """Estimate how likely each untrusted row is not of the known harmless kinds, 0 to 1; 0 for other rows."""
    posterior, untrusted = np.zeros(len(training.kinds)), training.are(UNTRUSTED)
    posterior[untrusted] = beyond_harmless(rule.total[untrusted], rule.total[training.are(*KNOWN_HARMLESS)])
    return posterior


def _belief(suspicion: FloatArray, prototypes: FloatArray, posterior: FloatArray) -> float:
    """Return the degree to which untrusted rows may count as unsafe, 0 to 1.

    It is 0 where the rules disagree about them, and where nearly all of them lie beyond the known harmless rows,
    because these are then of other kinds than the data.
    """
    if len(suspicion) < 2 or min(suspicion.std(), prototypes.std()) < 1e-9:
        return 0.0
    agreement = float(np.corrcoef(suspicion, prototypes)[0, 1])
    agreement_degree = (agreement - _NO_AGREEMENT) / (_AGREEMENT - _NO_AGREEMENT)
    coverage_degree = (_NO_KIND_KNOWN - float(posterior.mean())) / (_NO_KIND_KNOWN - _KINDS_KNOWN)
    return float(np.clip(agreement_degree, 0.0, 1.0) * np.clip(coverage_degree, 0.0, 1.0))


def beyond_harmless(untrusted: FloatArray, harmless: FloatArray) -> FloatArray:
    """Estimate how likely each untrusted row is not harmless: 1 minus the false discovery rate of a cut at it.

    Args:
        untrusted: Values of untrusted rows, shape (n,); larger = less like the harmless ones.
        harmless: Values of rows known to be harmless, shape (m,).

    Returns:
        0 to 1, shape (n,), increasing with `untrusted`; all 0 where there are no harmless rows.
    """
    if not len(harmless) or not len(untrusted):
        return np.zeros(len(untrusted))
    null, ordered = np.sort(harmless)[: len(harmless) - int(_OUTLIERS * len(harmless))], np.sort(untrusted)
    null_share_above = (len(null) - np.searchsorted(null, untrusted, "left") + 1) / (len(null) + 1)
    share_above = (len(ordered) - np.searchsorted(ordered, untrusted, "left")) / len(ordered)
    # Half of the harmless rows lie below the median of the known harmless ones; few unsafe rows do.
    harmless_share = min(1.0, 2 * float((untrusted <= np.median(null)).mean()) + 1 / len(ordered))
    rate = np.minimum(1.0, harmless_share * null_share_above / share_above)
    # A row's rate is the lowest among the cuts that remove it (its q-value).
    order = np.argsort(untrusted, kind="stable")
    rate[order] = np.minimum.accumulate(rate[order])
    return 1 - rate
