"""Measure how well scores or decisions detect the unsafe rows, where labels are known.

Throughout, `unsafe` is a boolean array, True for the rows that should be detected, and a larger score
means more suspicious. The filter itself calls none of these: labels serve evaluation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.floating], NDArray[np.bool_]], float]


def auroc(scores: NDArray[np.floating], unsafe: NDArray[np.bool_]) -> float:
    """Return the probability that a random unsafe row scores above a random other row; ties count half.

    0.5 is chance, 1 is perfect; NaN where one of the two groups is empty.
    """
    positives, negatives = int(unsafe.sum()), int((~unsafe).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks(scores)[unsafe].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ranks(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rank scores in ascending order, counted from 1; equal scores share the mean of their ranks."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.floating] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return mean_ranks


def average_precision(scores: NDArray[np.floating], unsafe: NDArray[np.bool_]) -> float:
    """Average the precision at each distinct score, from the largest down, weighted by the recall gained there.

    The share of unsafe rows is chance, 1 is perfect; NaN where no row is unsafe.
    """
    positives = int(unsafe.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    cumulative_positives = np.cumsum(unsafe[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    true_positives, retrieved = cumulative_positives[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float((np.diff(true_positives, prepend=0) / positives * (true_positives / retrieved)).sum())


@dataclass(frozen=True)
class Detection:
    """Precision, recall and F1 of detecting unsafe rows by removing them, each 0 to 1.

    Precision is NaN where nothing was removed, recall where nothing is unsafe.
    """

    precision: float
    recall: float
    f1: float


def detection(removed: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Detection:
    """Compare decisions with labels, as in Table 1 of the paper."""
    true_positives = int((removed & unsafe).sum())
    removed_count, unsafe_count = int(removed.sum()), int(unsafe.sum())
    return Detection(
        precision=true_positives / removed_count if removed_count else float("nan"),
        recall=true_positives / unsafe_count if unsafe_count else float("nan"),
        f1=2 * true_positives / (removed_count + unsafe_count) if removed_count + unsafe_count else float("nan"),
    )


def bootstrap_interval(
    scores: NDArray[np.floating], unsafe: NDArray[np.bool_], measure: Measure = auroc, resamples: int = 1000
) -> tuple[float, float]:
    """Return the 95% percentile interval of a measure of (scores, unsafe), resampling rows with a fixed seed."""
    return row_interval(measure, scores, unsafe, resamples=resamples)


def row_interval(
    measure: Callable[..., float], *columns: NDArray[np.generic], resamples: int = 1000
) -> tuple[float, float]:
    """Return the 95% percentile interval of a measure of columns, each of shape (rows,).

    Rows are resampled with a fixed seed. NaN where the measure is unknown in every resample, as it is without rows.
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
