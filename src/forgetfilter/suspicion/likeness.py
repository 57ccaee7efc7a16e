"""Measure how much each row is like unsafe rows and unlike safe and trusted ones, without any training.

Two linear rules are fitted to the rows' words and to their hidden states under the untouched model M0. The first rule
separates the package's own unsafe rows, the prototypes, from its harmless ones; of the data it uses only the rows that
a person labelled. The second rule has safe and trusted rows on one side and, on the other, prototypes, known unsafe
rows, and untrusted rows to the degree that they look unsafe. That degree follows from the second rule itself, in a few
rounds: among rows at least as suspicious as this one, how many more untrusted rows are there than the harmless rows
lead one to expect (Storey 2002; learning from positive and unlabelled rows, Elkan and Noto 2008)? Untrusted rows may
also look unsafe because whole kinds of harmless rows are unlike any known ones, so they count only to the degree that
the two rules agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .ridge import Table, solve
from .word_table import WordTable, concatenate_on_disk

FloatArray = NDArray[np.floating]
# The kinds of rows. Nothing is known about UNTRUSTED ones. HARMLESS and UNSAFE are single rows that a person looked at;
# prototypes are the package's own.
UNTRUSTED, SAFE, TRUSTED, HARMLESS, UNSAFE, PROTOTYPE_UNSAFE, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY = range(8)
# How many rows each kind counts as. Known and suspected unsafe rows are weighted individually, so that they outweigh
# the prototypes as soon as there are a few dozen of them.
_WEIGHT_OF_KIND = {SAFE: 100.0, TRUSTED: 100.0, PROTOTYPE_UNSAFE: 30.0, PROTOTYPE_SAFE: 30.0, PROTOTYPE_ORDINARY: 60.0}
# In the first rule, safe and trusted rows only stand in for missing prototypes.
_PROTOTYPES_ALONE = {kind: weight for kind, weight in _WEIGHT_OF_KIND.items() if kind not in (SAFE, TRUSTED)}
# Each of two similar kinds takes over the other's weight where the other has no rows.
_ALIKE = {SAFE: PROTOTYPE_SAFE, PROTOTYPE_SAFE: SAFE, TRUSTED: PROTOTYPE_ORDINARY, PROTOTYPE_ORDINARY: TRUSTED}
_WEIGHT_OF_KNOWN = 3.0
# Untrusted rows begin to count at the first of these correlations of the two rules, and count in full at the second.
_NO_AGREEMENT, _AGREEMENT = 0.2, 0.6
# They count in full while at most the first share of them lies beyond the harmless rows, and not at all from the
# second on.
_KINDS_KNOWN, _NO_KIND_KNOWN = 0.8, 0.95
# The most suspicious harmless rows are ignored, because some of them may be mislabelled.
_OUTLIERS = 0.02
_ROUNDS = 3
_WEIGHT, _RIDGE = 500.0, 50.0
# Hidden states count half as much as words, because any two rows' states have something in common.
_STATES = 0.5
# A linear rule gains nothing from more rows, and with this many, each row's own influence on it is small.
_MOST_FITTED, _FOLDS = 10_000, 10
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Features(Table):
    """The features of n rows, from which both rules are computed.

    Attributes:
        words: The words of each row's completion, and pairs of adjacent words.
        states: The row's projected hidden states under M0, of length about one, shape (n, k).
    """

    words: WordTable
    states: FloatArray

    @property
    def width(self) -> int:
        return self.words.width + int(self.states.shape[1])

    def times(self, of_columns: FloatArray) -> FloatArray:
        return self.by_words(of_columns) + self.by_states(of_columns)

    def by_words(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the words to `times`."""
        return self.words.times(of_columns[: self.words.width])

    def by_states(self, of_columns: FloatArray) -> FloatArray:
        """Return the contribution of the states to `times`."""
        coefficients = (_STATES**0.5 * of_columns[self.words.width :]).astype(np.float32)
        product = np.zeros(len(self.states))
        # States are stored in half precision, and converting those of a million rows at once would take much memory.
        for start in range(0, len(product), _AT_ONCE):
            product[start : start + _AT_ONCE] = self.states[start : start + _AT_ONCE].astype(np.float32) @ coefficients
        return product

    def take(self, rows: NDArray[np.integer]) -> Features:
        """Select rows by index."""
        return Features(self.words.take(rows), self.states[rows].astype(np.float32))

    def without_states(self) -> Features:
        """Leave the states out, so that rules go by words alone."""
        return Features(self.words, np.empty((self.words.count, 0), dtype=np.float32))

    def followed_by(self, other: Features, folder: Path) -> Features:
        """Append others of the same vocabulary and basis, in unnamed files in `folder`."""
        states = concatenate_on_disk(folder, self.states, other.states)
        return Features(self.words.followed_by(other.words, folder), states)

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        of_states = _STATES**0.5 * (of_rows.astype(np.float32) @ self.states)
        return np.concatenate([self.words.transposed_times(of_rows), of_states])


@dataclass(frozen=True)
class Likeness:
    """The values of both rules for n rows; larger = more like unsafe rows, without a unit.

    Attributes:
        by_words, by_states: Contributions of words and states to the second rule, shape (n,); its value is their sum.
        to_prototypes: Value of the first rule, shape (n,).
        suspected: The degree to which each untrusted row counts as unsafe, 0 to 1; 0 for other rows. Shape (n,).
        belief: The degree to which untrusted rows may count as unsafe at all, 0 to 1.
    """

    by_words: FloatArray
    by_states: FloatArray
    to_prototypes: FloatArray
    suspected: FloatArray
    belief: float


def measure_likeness(features: Features, kinds: NDArray[np.integer], random_ranks: NDArray[np.integer]) -> Likeness:
    """Fit both rules and apply them, cross-fitted: no row takes part in its own prediction.

    Args:
        features: The features of n rows.
        kinds: The kind of each row, shape (n,).
        random_ranks: The rank of each row in a random order (`data.draw.random_ranks`), which gives the folds, shape
            (n,).
    """
    fitted = choose_fitted(kinds == UNTRUSTED, random_ranks)
    training = _TrainingRows(features.take(fitted), kinds[fitted], random_ranks[fitted] % _FOLDS)
    prototypes = training.fit(_PROTOTYPES_ALONE, np.zeros(len(fitted)))
    untrusted, weights, belief = training.kinds == UNTRUSTED, _WEIGHT_OF_KIND, 0.0
    suspected = untrusted * (_WEIGHT_OF_KIND[PROTOTYPE_UNSAFE] / max(1, int(untrusted.sum())))
    for _ in range(_ROUNDS):
        second = training.fit(weights, suspected)
        posterior = training.posterior(second.total)
        belief = _belief(second.total[untrusted], prototypes.total[untrusted], posterior[untrusted])
        suspected = belief * posterior
    second = training.fit(weights, suspected)
    suspected_of_all = np.zeros(len(kinds))
    suspected_of_all[fitted] = suspected
    by_words, by_states = second.predict(features, fitted)
    return Likeness(by_words, by_states, np.sum(prototypes.predict(features, fitted), axis=0), suspected_of_all, belief)


@dataclass(frozen=True)
class _Rule:
    """A rule, and its cross-fitted values for the rows that it was fitted to."""

    by_words: FloatArray
    by_states: FloatArray
    solution: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.by_words + self.by_states

    def predict(self, features: Features, fitted: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Return the contributions of words and states for all rows; those of `fitted` rows are cross-fitted."""
        if len(fitted) == features.words.count:
            return self.by_words, self.by_states
        by_words, by_states = features.by_words(self.solution), features.by_states(self.solution)
        by_words[fitted], by_states[fitted] = self.by_words, self.by_states
        return by_words, by_states


@dataclass(frozen=True)
class _TrainingRows:
    """The rows that rules are fitted to: features, kinds and folds."""

    features: Features
    kinds: NDArray[np.integer]
    fold_of: NDArray[np.integer]

    def fit(self, weights_of: Mapping[int, float], suspected: FloatArray) -> _Rule:
        """Fit a rule with these weights of the kinds, counting untrusted rows as unsafe to the degree `suspected`."""
        values, weights = _targets_and_weights(self.kinds, weights_of, suspected)
        by_words, by_states = np.zeros(len(self.kinds)), np.zeros(len(self.kinds))
        for fold in np.unique(self.fold_of):
            here = self.fold_of == fold
            solution = solve(values, np.where(here, 0.0, weights), self.features, _RIDGE)
            by_words[here] = self.features.by_words(solution)[here]
            by_states[here] = self.features.by_states(solution)[here]
        return _Rule(by_words, by_states, solve(values, weights, self.features, _RIDGE))

    def posterior(self, suspicion: FloatArray) -> FloatArray:
        """Estimate how likely each untrusted row is not of the known harmless kinds, 0 to 1; 0 for other rows."""
        posterior, untrusted = np.zeros(len(self.kinds)), self.kinds == UNTRUSTED
        harmless = suspicion[np.isin(self.kinds, (SAFE, TRUSTED, HARMLESS))]
        posterior[untrusted] = beyond_harmless(suspicion[untrusted], harmless)
        return posterior


def choose_fitted(untrusted: NDArray[np.bool_], random_ranks: NDArray[np.integer]) -> NDArray[np.intp]:
    """Choose the rows that rules are fitted to: all of known kind, and the untrusted ones of lowest random rank."""
    places = np.flatnonzero(untrusted)
    if len(places) > _MOST_FITTED:
        places = places[np.argsort(random_ranks[places])[:_MOST_FITTED]]
    return np.sort(np.concatenate([places, np.flatnonzero(~untrusted)]))


def _targets_and_weights(
    kinds: NDArray[np.integer], weights_of: Mapping[int, float], suspected: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return each row's target, -1 (harmless) to 1 (unsafe), and its weight; both sides weigh the same in total."""
    unsafe, harmless = suspected.copy(), np.zeros(len(kinds))
    for kind in _WEIGHT_OF_KIND:
        of_kind, weight = kinds == kind, weights_of.get(kind, 0.0)
        if kind in _ALIKE and not (kinds == _ALIKE[kind]).any():
            weight += weights_of.get(_ALIKE[kind], 0.0)
        side = unsafe if kind == PROTOTYPE_UNSAFE else harmless
        side[of_kind] = weight / max(1, int(of_kind.sum()))
    unsafe[kinds == UNSAFE] = _WEIGHT_OF_KNOWN
    harmless[kinds == HARMLESS] = _WEIGHT_OF_KNOWN
    unsafe, harmless = (_WEIGHT / 2 * side / max(side.sum(), 1e-9) for side in (unsafe, harmless))
    weights = unsafe + harmless
    return (unsafe - harmless) / np.where(weights > 0, weights, 1.0), weights


def _belief(suspicion: FloatArray, prototypes: FloatArray, posterior: FloatArray) -> float:
    """Return the degree to which untrusted rows may count as unsafe, 0 to 1.

    It is 0 where the two rules disagree about them, and where nearly all of them lie beyond the known harmless rows,
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
