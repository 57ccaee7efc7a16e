"""How much a row is like unsafe ones, and unlike safe and trusted ones: a witness that needs no training.

A linear rule is fitted to what rows say and to what the untouched model M0 makes of them inside: rows of known kind
stand on its two sides, and so do untrusted rows, as far as they look unsafe. How far that is follows from the rule
itself, in a few rounds: of rows as suspicious as this one, what share is there among the untrusted rows beyond what
there is among the harmless ones (Efron et al. 2001; learning from positive and unlabelled rows, Elkan and Noto 2008)?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ridge import Table, solve
from .word_table import WordTable

FloatArray = NDArray[np.floating]
# What a row is: nothing is known of it, or that it is one of these. HARMLESS and UNSAFE are single rows that somebody
# looked at; prototypes are the package's own.
UNTRUSTED, SAFE, TRUSTED, HARMLESS, UNSAFE, PROTOTYPE_UNSAFE, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY = range(8)
# How many rows each kind counts for. Known and suspected unsafe rows count by themselves, so that they outweigh the
# prototypes as soon as there are some dozen of them.
_WEIGHT_OF_KIND = {SAFE: 100.0, TRUSTED: 100.0, PROTOTYPE_UNSAFE: 30.0, PROTOTYPE_SAFE: 30.0, PROTOTYPE_ORDINARY: 60.0}
# Of two kinds that are much alike, each takes the other's weight where that has no rows.
_ALIKE = {SAFE: PROTOTYPE_SAFE, PROTOTYPE_SAFE: SAFE, TRUSTED: PROTOTYPE_ORDINARY, PROTOTYPE_ORDINARY: TRUSTED}
# The most suspicious of the harmless rows tell little of how these look; there may be wrong ones among them.
_OUTLIERS = 0.02
_WEIGHT_OF_KNOWN = 3.0
_ROUNDS = 3
_SHARES_BELIEVED = 0.7, 0.9
_WEIGHT, _RIDGE = 500.0, 50.0
# Hidden states count half as much as words: they have something in common with every row.
_STATES = 0.5
# A linear rule needs no more rows to be fitted to; with so many, each row's own part in it is small.
_MOST_FITTED = 20_000


@dataclass(frozen=True)
class Marks(Table):
    """What n rows are told apart by.

    Attributes:
        words: The words of each row's completion, and pairs of them.
        states: What M0 makes of the row inside, of length about one, shape (n, k).
    """

    words: WordTable
    states: FloatArray

    @property
    def width(self) -> int:
        return self.words.width + int(self.states.shape[1])

    def times(self, of_columns: FloatArray) -> FloatArray:
        return self.by_words(of_columns) + self.by_states(of_columns)

    def by_words(self, of_columns: FloatArray) -> FloatArray:
        """The part of `times` that the words have."""
        return self.words.times(of_columns[: self.words.width])

    def by_states(self, of_columns: FloatArray) -> FloatArray:
        """The part of `times` that the states have."""
        product: FloatArray = self.states @ (_STATES**0.5 * of_columns[self.words.width :])
        return product

    def take(self, rows: NDArray[np.integer]) -> Marks:
        """Those of some rows."""
        return Marks(self.words.take(rows), np.asarray(self.states[rows], dtype=np.float32))

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        of_states = _STATES**0.5 * (of_rows @ self.states)
        return np.concatenate([self.words.transposed_times(of_rows), of_states])


@dataclass(frozen=True)
class Likeness:
    """What the rule says of n rows; larger = more like unsafe ones, without a unit.

    Attributes:
        by_words, by_states: The parts that words and states have in it, shape (n,); the rule says their sum.
        posterior: Of the untrusted rows, how likely each is unsafe by this, 0 to 1; 0 of the others. Shape (n,).
    """

    by_words: FloatArray
    by_states: FloatArray
    posterior: FloatArray

    @property
    def total(self) -> FloatArray:
        """What the rule says, shape (n,)."""
        return self.by_words + self.by_states


def measure_likeness(marks: Marks, kinds: NDArray[np.integer], fold_of: NDArray[np.integer]) -> Likeness:
    """Fit the rule and apply it, cross-fitted: no row takes part in what is said of itself.

    Args:
        marks: What the rows are told apart by.
        kinds: What each row is, shape (n,).
        fold_of: In which of the folds each row is, shape (n,).
    """
    fitted = _fitted(kinds)
    some = marks.take(fitted) if len(fitted) < len(kinds) else marks
    untrusted = kinds[fitted] == UNTRUSTED
    suspected = untrusted * (_WEIGHT_OF_KIND[PROTOTYPE_UNSAFE] / max(1, int(untrusted.sum())))
    belief = 1.0
    for _ in range(_ROUNDS):
        by_words, by_states, _ = _apply(some, kinds[fitted], suspected, fold_of[fitted])
        posterior = _posterior(by_words + by_states, kinds[fitted])
        belief = min(belief, _belief(float(posterior[untrusted].mean()) if untrusted.any() else 0.0))
        suspected = belief * posterior
    own_words, own_states, solution = _apply(some, kinds[fitted], suspected, fold_of[fitted])
    by_words, by_states = (own_words, own_states)
    if len(fitted) < len(kinds):
        by_words, by_states = marks.by_words(solution), marks.by_states(solution)
        by_words[fitted], by_states[fitted] = own_words, own_states
    return Likeness(by_words, by_states, _posterior(by_words + by_states, kinds))


def _belief(suspected: float) -> float:
    """How far untrusted rows may count as unsafe, 0 to 1, where such a share of them seems to be.

    Where nearly all of them are beyond the harmless rows that are known, these are of other kinds than the data.
    """
    most, all_but = _SHARES_BELIEVED
    return float(np.clip((all_but - suspected) / (all_but - most), 0.0, 1.0))


def _fitted(kinds: NDArray[np.integer]) -> NDArray[np.intp]:
    """The rows that the rule is fitted to: all of known kind, and untrusted ones spread evenly over the data."""
    untrusted = np.flatnonzero(kinds == UNTRUSTED)
    if len(untrusted) > _MOST_FITTED:
        untrusted = untrusted[np.linspace(0, len(untrusted) - 1, _MOST_FITTED).astype(np.intp)]
    return np.sort(np.concatenate([untrusted, np.flatnonzero(kinds != UNTRUSTED)]))


def _apply(
    marks: Marks, kinds: NDArray[np.integer], suspected: FloatArray, fold_of: NDArray[np.integer]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What words and states say of each row, cross-fitted, and the rule of all rows together."""
    values, weights = _sides(kinds, suspected)
    by_words, by_states = np.zeros(len(kinds)), np.zeros(len(kinds))
    for fold in np.unique(fold_of):
        here = fold_of == fold
        solution = solve(values, np.where(here, 0.0, weights), marks, _RIDGE)
        by_words[here], by_states[here] = marks.by_words(solution)[here], marks.by_states(solution)[here]
    return by_words, by_states, solve(values, weights, marks, _RIDGE)


def _sides(kinds: NDArray[np.integer], suspected: FloatArray) -> tuple[FloatArray, FloatArray]:
    """On which side each row stands, -1 (harmless) to 1 (unsafe), and how much it weighs; both sides weigh the same."""
    unsafe, harmless = suspected.copy(), np.zeros(len(kinds))
    for kind, weight in _WEIGHT_OF_KIND.items():
        there = kinds == kind
        if kind in _ALIKE and not (kinds == _ALIKE[kind]).any():
            weight += _WEIGHT_OF_KIND[_ALIKE[kind]]
        side = unsafe if kind == PROTOTYPE_UNSAFE else harmless
        side[there] = weight / max(1, int(there.sum()))
    unsafe[kinds == UNSAFE] = _WEIGHT_OF_KNOWN
    harmless[kinds == HARMLESS] = _WEIGHT_OF_KNOWN
    unsafe, harmless = (_WEIGHT / 2 * side / max(side.sum(), 1e-9) for side in (unsafe, harmless))
    weights = unsafe + harmless
    return (unsafe - harmless) / np.where(weights > 0, weights, 1.0), weights


def _posterior(suspicion: FloatArray, kinds: NDArray[np.integer]) -> FloatArray:
    """How likely each untrusted row is unsafe, 0 to 1, by how the harmless ones of known kind look; 0 of the others."""
    posterior, untrusted = np.zeros(len(kinds)), kinds == UNTRUSTED
    harmless = suspicion[np.isin(kinds, (SAFE, TRUSTED, HARMLESS))]
    posterior[untrusted] = beyond_harmless(suspicion[untrusted], harmless)
    return posterior


def beyond_harmless(untrusted: FloatArray, harmless: FloatArray) -> FloatArray:
    """How likely each untrusted row is none of the harmless kind: 1 less the false discovery rate down to it.

    Args:
        untrusted: Of untrusted rows, shape (n,); larger = less like the harmless ones.
        harmless: Of rows known to be harmless, shape (m,).

    Returns:
        0 to 1, shape (n,), rising with `untrusted`; 0 throughout where there are no harmless rows.
    """
    if not len(harmless) or not len(untrusted):
        return np.zeros(len(untrusted))
    null, own = np.sort(harmless)[: len(harmless) - int(_OUTLIERS * len(harmless))], np.sort(untrusted)
    as_high = (len(null) - np.searchsorted(null, untrusted, "left") + 1) / (len(null) + 1)
    there = (len(own) - np.searchsorted(own, untrusted, "left")) / len(own)
    # Half of the harmless rows lie below the median of those that are known; few unsafe ones do.
    share = min(1.0, 2 * float((untrusted <= np.median(null)).mean()) + 1 / len(own))
    rate = np.minimum(1.0, share * as_high / there)
    # From the top down: a row counts for no more than those above it. Whole kinds of harmless rows of which none is
    # known look a little suspicious, but seldom more so than all that are known.
    order = np.argsort(-untrusted, kind="stable")
    rate[order] = np.maximum.accumulate(rate[order])
    return 1 - rate
