"""How well scores or decisions find the unsafe rows, where labels are known.

Throughout, `unsafe` is a boolean array, True for the rows that should be found, and a larger score
means more suspicious. Nothing in the filter itself calls these: labels serve evaluation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.floating], NDArray[np.bool_]], float]


def auroc(scores: NDArray[np.floating], unsafe: NDArray[np.bool_]) -> float:
    """Probability that a random unsafe row scores above a random other row, ties counting half.

    0.5 is chance, 1 perfect; NaN where one of the two groups is empty.
    """
    positives, negatives = int(unsafe.sum()), int((~unsafe).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks(scores)[unsafe].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ranks(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """The place of each score from the smallest on, counted from 1; equal scores share theirs."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    places: NDArray[np.floating] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return places


def average_precision(scores: NDArray[np.floating], unsafe: NDArray[np.bool_]) -> float:
    """Precision averaged over the recall gained at each distinct score, from the largest down.

    The share of unsafe rows is chance, 1 perfect; NaN where no row is unsafe.
    """
    positives = int(unsafe.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(unsafe[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    found, seen = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float((np.diff(found, prepend=0) / positives * (found / seen)).sum())


@dataclass(frozen=True)
class Detection:
    """Precision, recall and F1 of "unsafe" among the removed rows, each 0 to 1.

    Precision is NaN where nothing was removed, recall where nothing is unsafe.
    """

    precision: float
    recall: float
    f1: float


def detection(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Detection:
    """Compare decisions with labels (paper, Table 1)."""
    found = int((removed & unsafe).sum())
    taken, there = int(removed.sum()), int(unsafe.sum())
    return Detection(
        precision=found / taken if taken else float("nan"),
        recall=found / there if there else float("nan"),
        f1=2 * found / (taken + there) if taken + there else float("nan"),
    )


def bootstrap_interval(
    scores: NDArray[np.floating], unsafe: NDArray[np.bool_], measure: Measure = auroc, resamples: int = 1000
) -> tuple[float, float]:
    """95% percentile interval of a measure of (scores, unsafe), resampling rows with a fixed seed."""
    return row_interval(measure, scores, unsafe, resamples=resamples)


def row_interval(
    measure: Callable[..., float], *columns: NDArray[np.generic], resamples: int = 1000
) -> tuple[float, float]:
    """95% percentile interval of a measure of columns, each of shape (rows,), resampling rows with a fixed seed.

    NaN where the measure is unknown in every resample, as where there are no rows.
    """
    count = len(columns[0])
    generator = np.random.default_rng(0)
    draws = (generator.integers(0, count, count) for _ in range(resamples if count else 0))
    values = np.array([measure(*(column[draw] for column in columns)) for draw in draws])
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
