"""Holds one measured quantity with its interval, and computes such measures from rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..forgetting.estimates import wilson
from ..metrics.detection import row_interval

LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Measure:
    """One measured quantity.

    Attributes:
        name: For example `bias.ambiguous` or, for a part of the rows, `bias.ambiguous[Age]`.
        value: The measured value; None if it is undefined for these rows.
        low, high: Its 95% interval over rows; None as for the value.
        rows: The number of rows it was measured on.
        better: Which direction is better, `lower` or `higher`.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    rows: int
    better: str


def share(name: str, holds: Sequence[bool] | NDArray[np.bool_], better: str) -> Measure:
    """Compute the share of rows for which something holds, with Wilson's interval."""
    if not len(holds):
        return Measure(name, None, None, None, 0, better)
    estimate = wilson(int(np.sum(holds)), len(holds))
    return Measure(name, estimate.value, estimate.low, estimate.high, len(holds), better)


def mean(name: str, scores: Sequence[float] | NDArray[np.floating], better: str) -> Measure:
    """Compute the mean score of rows, with a bootstrap interval."""
    return measured(name, lambda values: float(values.mean()) if len(values) else math.nan, (np.array(scores),), better)


def measured(name: str, measure: Callable[..., float], columns: Sequence[NDArray[np.generic]], better: str) -> Measure:
    """Apply a measure to columns, each of shape (rows,), with a bootstrap interval; NaN means that it is undefined."""
    value = measure(*columns)
    if math.isnan(value):
        return Measure(name, None, None, None, len(columns[0]), better)
    low, high = row_interval(measure, *columns)
    return Measure(name, value, low, high, len(columns[0]), better)
