"""Which rows a person should look at first: those that tell most about all the others.

Half are the rows about which the threshold is least certain (Lewis and Gale 1994). Half lead groups: rows that stand
for many, suspicious ones above all, for which no row speaks yet that is proposed or that a person decided about. They
are chosen one by one, each for what it adds (facility location; Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
_UNCERTAIN, _PROPOSED = 10, 20
# So many rows stand for all others. Unlike rows are looked for in the tenth nearest to the threshold, so many at most.
_SAMPLE, _NEAREST_SHARE, _NEAREST = 2000, 0.1, 500
# Of two rows as alike as this, a person need see but one.
_SAME = 0.95
# What a leader has to add, beside what the first one adds, to be worth a look.
_LEAST_GAIN = 0.02


@dataclass(frozen=True)
class Proposal:
    """Places of the rows to look at, the most telling of each kind first.

    Attributes:
        uncertain: Rows nearest to the threshold that are not alike, shape (k,).
        leaders: Rows that stand for groups, shape (m,).
        group_sizes: About how many rows each leader stands for, shape (m,): those that are more like it than like any
            other proposed or decided row.
    """

    uncertain: NDArray[np.intp]
    leaders: NDArray[np.intp]
    group_sizes: NDArray[np.intp]


def propose(suspicion: FloatArray, states: FloatArray, cut: float | None, decided: NDArray[np.bool_]) -> Proposal:
    """Propose twenty rows, or fewer where rows are much alike.

    Works on a sample of many rows, which follows from suspicion and not from the order of the rows.

    Args:
        suspicion: Of n rows, none of them NaN; larger = rather unsafe.
        states: What tells rows apart, shape (n, k); the more alike two rows are, the larger the cosine of the two.
        cut: Rows above it are removed. With None the most suspicious rows are the uncertain ones: once a person has
            found some of them unsafe, these tell where to cut.
        decided: Which rows a person decided about; they are not proposed, and rows like them count as spoken for.
    """
    distance = -suspicion if cut is None else np.abs(suspicion - cut)
    uncertain = _unlike(np.flatnonzero(~decided), distance, states)
    sample = _spread(suspicion)
    spoken_for = np.concatenate([uncertain, _spread(suspicion, np.flatnonzero(decided))])
    here = _directions(states, sample)
    covered = (here @ _directions(states, spoken_for).T).max(axis=1, initial=0.0)
    # Rows count by their rank, as it is the suspicious ones whose groups have to be told apart.
    weights = np.linspace(0, 1, len(sample)) if len(sample) > 1 else np.ones(len(sample))
    free = np.flatnonzero(~decided[sample] & ~np.isin(sample, uncertain))
    alike = here @ here[free].T
    chosen, group, least = list[int](), np.full(len(sample), -1), 0.0
    while len(chosen) < min(_PROPOSED - len(uncertain), len(free)):
        gains = weights @ np.maximum(alike - covered[:, None], 0.0)
        best = int(np.argmax(gains))
        if gains[best] <= least:
            break
        least = least or _LEAST_GAIN * float(gains[best])
        group[alike[:, best] > covered] = len(chosen)
        covered = np.maximum(covered, alike[:, best])
        chosen.append(best)
    sizes = np.bincount(group[group >= 0], minlength=len(chosen)) * (len(suspicion) / max(1, len(sample)))
    return Proposal(uncertain, sample[free[chosen]], np.maximum(1, sizes.round()).astype(np.intp))


def _unlike(places: NDArray[np.intp], distance: FloatArray, states: FloatArray) -> NDArray[np.intp]:
    """The nearest of some rows, of rows that are alike the nearest alone."""
    near = min(_NEAREST, max(_UNCERTAIN, int(_NEAREST_SHARE * len(places))))
    if len(places) > near:
        places = places[np.argpartition(distance[places], near)[:near]]
    places = places[np.argsort(distance[places], kind="stable")]
    directions, chosen = _directions(states, places), list[int]()
    for i, direction in enumerate(directions):
        if len(chosen) == _UNCERTAIN:
            break
        if (directions[chosen] @ direction).max(initial=0.0) < _SAME:
            chosen.append(i)
    return places[chosen]


def _spread(suspicion: FloatArray, among: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """Rows spread evenly from the least suspicious to the most; all of them where they are few."""
    places = np.arange(len(suspicion)) if among is None else among
    ordered = places[np.argsort(suspicion[places], kind="stable")]
    if len(ordered) <= _SAMPLE:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _SAMPLE).round().astype(np.intp)]


def _directions(states: FloatArray, places: NDArray[np.intp]) -> FloatArray:
    """The states of some rows, scaled to length one, shape (len(places), k)."""
    found = np.asarray(states[places], dtype=np.float32)
    scaled: FloatArray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
    return scaled
