"""How much a row is like unsafe ones, and unlike safe and trusted ones: a witness that needs no training.

Two linear rules are fitted to what rows say and to what the untouched model M0 makes of them inside. The first tells
the package's own unsafe rows, the prototypes, from its harmless ones; of the data it knows but rows that somebody
looked at. The second has safe and trusted rows on one side and, on the other, prototypes, known unsafe rows, and
untrusted rows as far as they look unsafe. How far that is follows from the second rule itself, in a few rounds: of
rows as suspicious as this one, what share is there among the untrusted rows beyond what there is among the harmless
ones (Storey 2002; learning from positive and unlabelled rows, Elkan and Noto 2008)? Untrusted rows may also look
unsafe because whole kinds of harmless rows are like none that are known; so they count only as far as both rules
agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .ridge import Table, solve
from .word_table import WordTable, end_to_end

FloatArray = NDArray[np.floating]
# What a row is: nothing is known of it, or that it is one of these. HARMLESS and UNSAFE are single rows that somebody
# looked at; prototypes are the package's own.
UNTRUSTED, SAFE, TRUSTED, HARMLESS, UNSAFE, PROTOTYPE_UNSAFE, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY = range(8)
# How many rows each kind counts for. Known and suspected unsafe rows count by themselves, so that they outweigh the
# prototypes as soon as there are some dozen of them.
_WEIGHT_OF_KIND = {SAFE: 100.0, TRUSTED: 100.0, PROTOTYPE_UNSAFE: 30.0, PROTOTYPE_SAFE: 30.0, PROTOTYPE_ORDINARY: 60.0}
# In the first rule safe and trusted rows only stand in for prototypes that are not there.
_PROTOTYPES_ALONE = {kind: weight for kind, weight in _WEIGHT_OF_KIND.items() if kind not in (SAFE, TRUSTED)}
# Of two kinds that are much alike, each takes the other's weight where that has no rows.
_ALIKE = {SAFE: PROTOTYPE_SAFE, PROTOTYPE_SAFE: SAFE, TRUSTED: PROTOTYPE_ORDINARY, PROTOTYPE_ORDINARY: TRUSTED}
_WEIGHT_OF_KNOWN = 3.0
# The correlation of both rules over the untrusted rows from which on these count, and that with which they do in full.
_NO_AGREEMENT, _AGREEMENT = 0.2, 0.6
# The share of the untrusted rows beyond the harmless ones up to which they count in full, and that from which on not.
_KINDS_KNOWN, _NO_KIND_KNOWN = 0.8, 0.95
# The most suspicious of the harmless rows tell little of how these look, as there may be wrong ones among them.
_OUTLIERS = 0.02
_ROUNDS = 3
_WEIGHT, _RIDGE = 500.0, 50.0
# Hidden states count half as much as words: they have something in common with every row.
_STATES = 0.5
# A linear rule needs no more rows to be fitted to; with so many, each row's own part in it is small.
_MOST_FITTED, _FOLDS = 10_000, 10
_AT_ONCE = 1 << 16


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
        own = (_STATES**0.5 * of_columns[self.words.width :]).astype(np.float32)
        product = np.zeros(len(self.states))
        # Kept states are of half precision, and may be as many as there are rows.
        for start in range(0, len(product), _AT_ONCE):
            product[start : start + _AT_ONCE] = self.states[start : start + _AT_ONCE].astype(np.float32) @ own
        return product

    def take(self, rows: NDArray[np.integer]) -> Marks:
        """Those of some rows."""
        return Marks(self.words.take(rows), self.states[rows].astype(np.float32))

    def followed_by(self, other: Marks, folder: Path) -> Marks:
        """These and then others, found by the same words and directions, in files without a name in a folder."""
        states = end_to_end(folder, self.states, other.states)
        return Marks(self.words.followed_by(other.words, folder), states)

    def transposed_times(self, of_rows: FloatArray) -> FloatArray:
        of_states = _STATES**0.5 * (of_rows.astype(np.float32) @ self.states)
        return np.concatenate([self.words.transposed_times(of_rows), of_states])


@dataclass(frozen=True)
class Likeness:
    """What both rules say of n rows; larger = more like unsafe ones, without a unit.

    Attributes:
        by_words, by_states: The parts that words and states have in the second rule, shape (n,); it says their sum.
        to_prototypes: What the first rule says, shape (n,).
        suspected: How far each untrusted row counts as unsafe, 0 to 1; 0 of the others. Shape (n,).
        belief: How far untrusted rows may count as unsafe at all, 0 to 1.
    """

    by_words: FloatArray
    by_states: FloatArray
    to_prototypes: FloatArray
    suspected: FloatArray
    belief: float


def measure_likeness(marks: Marks, kinds: NDArray[np.integer], places: NDArray[np.integer]) -> Likeness:
    """Fit both rules and apply them, cross-fitted: no row takes part in what is said of itself.

    Args:
        marks: What the rows are told apart by.
        kinds: What each row is, shape (n,).
        places: Each row's rank in a random order (`data.draw.random_ranks`), which tells folds apart, shape (n,).
    """
    fitted = _fitted(kinds, places)
    rules = _Rules(marks.take(fitted), kinds[fitted], places[fitted] % _FOLDS)
    prototypes = rules.apply(_PROTOTYPES_ALONE, np.zeros(len(fitted)))
    untrusted, weights, belief = rules.kinds == UNTRUSTED, _WEIGHT_OF_KIND, 0.0
    suspected = untrusted * (_WEIGHT_OF_KIND[PROTOTYPE_UNSAFE] / max(1, int(untrusted.sum())))
    for _ in range(_ROUNDS):
        second = rules.apply(weights, suspected)
        posterior = rules.posterior(second.total)
        belief = _belief(second.total[untrusted], prototypes.total[untrusted], posterior[untrusted])
        suspected = belief * posterior
    second = rules.apply(weights, suspected)
    whole = np.zeros(len(kinds))
    whole[fitted] = suspected
    by_words, by_states = second.on(marks, fitted)
    return Likeness(by_words, by_states, np.sum(prototypes.on(marks, fitted), axis=0), whole, belief)


@dataclass(frozen=True)
class _Rule:
    """A rule, and what it says of the rows that it was fitted to, cross-fitted."""

    by_words: FloatArray
    by_states: FloatArray
    solution: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.by_words + self.by_states

    def on(self, marks: Marks, fitted: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """What words and states say by it of all rows, of which some were fitted."""
        if len(fitted) == marks.words.count:
            return self.by_words, self.by_states
        by_words, by_states = marks.by_words(self.solution), marks.by_states(self.solution)
        by_words[fitted], by_states[fitted] = self.by_words, self.by_states
        return by_words, by_states


@dataclass(frozen=True)
class _Rules:
    """What rules are fitted to: rows, what each is, and the folds."""

    marks: Marks
    kinds: NDArray[np.integer]
    fold_of: NDArray[np.integer]

    def apply(self, weights_of: Mapping[int, float], suspected: FloatArray) -> _Rule:
        """Fit a rule in which kinds weigh so much, and untrusted rows count as unsafe so far."""
        values, weights = _sides(self.kinds, weights_of, suspected)
        by_words, by_states = np.zeros(len(self.kinds)), np.zeros(len(self.kinds))
        for fold in np.unique(self.fold_of):
            here = self.fold_of == fold
            solution = solve(values, np.where(here, 0.0, weights), self.marks, _RIDGE)
            by_words[here], by_states[here] = self.marks.by_words(solution)[here], self.marks.by_states(solution)[here]
        return _Rule(by_words, by_states, solve(values, weights, self.marks, _RIDGE))

    def posterior(self, suspicion: FloatArray) -> FloatArray:
        """How likely each untrusted row is beyond the harmless ones that are known, 0 to 1; 0 of the others."""
        posterior, untrusted = np.zeros(len(self.kinds)), self.kinds == UNTRUSTED
        harmless = suspicion[np.isin(self.kinds, (SAFE, TRUSTED, HARMLESS))]
        posterior[untrusted] = beyond_harmless(suspicion[untrusted], harmless)
        return posterior


def _fitted(kinds: NDArray[np.integer], places: NDArray[np.integer]) -> NDArray[np.intp]:
    """The rows that rules are fitted to: all of known kind, and of the untrusted ones the first by their places."""
    untrusted = np.flatnonzero(kinds == UNTRUSTED)
    if len(untrusted) > _MOST_FITTED:
        untrusted = untrusted[np.argsort(places[untrusted])[:_MOST_FITTED]]
    return np.sort(np.concatenate([untrusted, np.flatnonzero(kinds != UNTRUSTED)]))


def _sides(
    kinds: NDArray[np.integer], weights_of: Mapping[int, float], suspected: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """On which side each row stands, -1 (harmless) to 1 (unsafe), and how much it weighs; both sides weigh the same."""
    unsafe, harmless = suspected.copy(), np.zeros(len(kinds))
    for kind in _WEIGHT_OF_KIND:
        there, weight = kinds == kind, weights_of.get(kind, 0.0)
        if kind in _ALIKE and not (kinds == _ALIKE[kind]).any():
            weight += weights_of.get(_ALIKE[kind], 0.0)
        side = unsafe if kind == PROTOTYPE_UNSAFE else harmless
        side[there] = weight / max(1, int(there.sum()))
    unsafe[kinds == UNSAFE] = _WEIGHT_OF_KNOWN
    harmless[kinds == HARMLESS] = _WEIGHT_OF_KNOWN
    unsafe, harmless = (_WEIGHT / 2 * side / max(side.sum(), 1e-9) for side in (unsafe, harmless))
    weights = unsafe + harmless
    return (unsafe - harmless) / np.where(weights > 0, weights, 1.0), weights


def _belief(suspicion: FloatArray, prototypes: FloatArray, posterior: FloatArray) -> float:
    """How far untrusted rows may count as unsafe, 0 to 1.

    Not where both rules disagree over them, nor where nearly all of them are beyond the harmless rows that are known,
    as these are of other kinds than the data then.
    """
    if len(suspicion) < 2 or min(suspicion.std(), prototypes.std()) < 1e-9:
        return 0.0
    agreement = float(np.corrcoef(suspicion, prototypes)[0, 1])
    agree = (agreement - _NO_AGREEMENT) / (_AGREEMENT - _NO_AGREEMENT)
    known = (_NO_KIND_KNOWN - float(posterior.mean())) / (_NO_KIND_KNOWN - _KINDS_KNOWN)
    return float(np.clip(agree, 0.0, 1.0) * np.clip(known, 0.0, 1.0))


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
    # A row is as likely unsafe as the best of the cuts that remove it has it (its q-value).
    order = np.argsort(untrusted, kind="stable")
    rate[order] = np.minimum.accumulate(rate[order])
    return 1 - rate
