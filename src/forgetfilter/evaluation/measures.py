"""One measured quantity with its interval, and the ways to get one from rows."""

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
        name: Such as `bias.ambiguous` or, of a part of the rows, `bias.ambiguous[Age]`.
        value: What was measured; None where the rows do not tell.
        low, high: Its 95% interval over rows; None likewise.
        rows: How many rows it is of.
        better: Which way is better, `lower` or `higher`.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    rows: int
    better: str


def share(name: str, holds: Sequence[bool] | NDArray[np.bool_], better: str) -> Measure:
    """The share of rows for which something holds, with Wilson's interval."""
    if not len(holds):
        return Measure(name, None, None, None, 0, better)
    found = wilson(int(np.sum(holds)), len(holds))
    return Measure(name, found.value, found.low, found.high, len(holds), better)


def mean(name: str, scores: Sequence[float] | NDArray[np.floating], better: str) -> Measure:
    """The mean score of rows, with a bootstrap interval."""
    return measured(name, lambda values: float(values.mean()) if len(values) else math.nan, (np.array(scores),), better)


def measured(name: str, measure: Callable[..., float], columns: Sequence[NDArray[np.generic]], better: str) -> Measure:
    """A measure of columns, each of shape (rows,), with a bootstrap interval; NaN stands for what they do not tell."""
    value = measure(*columns)
    if math.isnan(value):
        return Measure(name, None, None, None, len(columns[0]), better)
    low, high = row_interval(measure, *columns)
    return Measure(name, value, low, high, len(columns[0]), better)
