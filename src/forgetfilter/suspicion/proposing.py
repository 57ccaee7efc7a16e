"""Propose the rows that a person should look at first: those that tell most about all the others.

Half are the rows about which the threshold is least certain (Lewis and Gale 1994). The other half are leaders: rows
that represent many others, suspicious ones above all, that are not yet represented by a proposed row or by one that a
person decided about. They are chosen one by one, each for what it adds (facility location; Nemhauser, Wolsey and Fisher
1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
_UNCERTAIN, _PROPOSED = 10, 20
# Rows in the sample that represents all rows. Uncertain rows are sought in the tenth nearest to the threshold, among
# at most _NEAREST rows.
_SAMPLE, _NEAREST_SHARE, _NEAREST = 2000, 0.1, 500
# Of two rows whose states have this cosine or more, a person need see only one.
_SAME = 0.95
# What a leader has to add, as a share of what the first one adds, to be worth a look.
_LEAST_GAIN = 0.02


@dataclass(frozen=True)
class Proposal:
    """Indices of the rows to look at, the most informative of each kind first.

    Attributes:
        uncertain: Rows nearest to the threshold, without near duplicates, shape (k,).
        leaders: Rows that represent groups, shape (m,).
        group_sizes: About how many rows each leader represents, shape (m,): those that are more like it than like any
            other proposed or decided row.
    """

    uncertain: NDArray[np.intp]
    leaders: NDArray[np.intp]
    group_sizes: NDArray[np.intp]


def propose(suspicion: FloatArray, states: FloatArray, cut: float | None, decided: NDArray[np.bool_]) -> Proposal:
    """Propose twenty rows, or fewer where rows are much alike.

    Where there are many rows it works on a sample that depends on suspicion and not on the order of the rows.

    Args:
        suspicion: Suspicion of n rows, none of them NaN; larger = more likely unsafe.
        states: Hidden states of the rows, shape (n, k); the more alike two rows are, the larger their cosine.
        cut: Rows above it are removed. With None the most suspicious rows are the uncertain ones: once a person has
            found some of them unsafe, these show where to cut.
        decided: Which rows a person decided about; they are not proposed, and rows like them count as represented.
    """
    distance = -suspicion if cut is None else np.abs(suspicion - cut)
    uncertain = _distinct_nearest(np.flatnonzero(~decided), distance, states)
    sample = _sample_evenly(suspicion)
    represented = np.concatenate([uncertain, _sample_evenly(suspicion, np.flatnonzero(decided))])
    sample_directions = _directions(states, sample)
    covered = (sample_directions @ _directions(states, represented).T).max(axis=1, initial=0.0)
    # Rows count by their rank, because it is the groups of suspicious rows that a person has to tell apart.
    weights = np.linspace(0, 1, len(sample)) if len(sample) > 1 else np.ones(len(sample))
    candidates = np.flatnonzero(~decided[sample] & ~np.isin(sample, uncertain))
    alike = sample_directions @ sample_directions[candidates].T
    chosen, group, least = list[int](), np.full(len(sample), -1), 0.0
    while len(chosen) < min(_PROPOSED - len(uncertain), len(candidates)):
        gains = weights @ np.maximum(alike - covered[:, None], 0.0)
        best = int(np.argmax(gains))
        if gains[best] <= least:
            break
        least = least or _LEAST_GAIN * float(gains[best])
        group[alike[:, best] > covered] = len(chosen)
        covered = np.maximum(covered, alike[:, best])
        chosen.append(best)
    sizes = np.bincount(group[group >= 0], minlength=len(chosen)) * (len(suspicion) / max(1, len(sample)))
    return Proposal(uncertain, sample[candidates[chosen]], np.maximum(1, sizes.round()).astype(np.intp))


def _distinct_nearest(places: NDArray[np.intp], distance: FloatArray, states: FloatArray) -> NDArray[np.intp]:
    """Choose the nearest rows, and of near duplicates only the nearest."""
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


def _sample_evenly(suspicion: FloatArray, among: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """Sample rows evenly from the least to the most suspicious; return all of them where they are few."""
    places = np.arange(len(suspicion)) if among is None else among
    ordered = places[np.argsort(suspicion[places], kind="stable")]
    if len(ordered) <= _SAMPLE:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _SAMPLE).round().astype(np.intp)]


def _directions(states: FloatArray, places: NDArray[np.intp]) -> FloatArray:
    """Scale the states of the rows at `places` to length one, shape (len(places), k)."""
    chosen = np.asarray(states[places], dtype=np.float32)
    scaled: FloatArray = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6)
    return scaled
