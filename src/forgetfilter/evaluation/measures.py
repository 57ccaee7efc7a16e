"""Holds one measured quantity with its interval, and computes such measures from rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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


def share(
    name: str, holds: Sequence[bool] | NDArray[np.bool_], better: str, prompts: Sequence[str] | None = None
) -> Measure:
    """Compute the share of rows for which something holds, with Wilson's interval.

    Args:
        name, better: The attributes of the measure.
        holds: Whether it holds, shape (rows,).
        prompts: The prompt of each row, where several may have the same, same shape.
    """
    if not len(holds):
        return Measure(name, None, None, None, 0, better)
    held = np.asarray(holds, dtype=bool)
    value, total = float(held.mean()), len(held) if prompts is None else _independent(held, _numbered(prompts))
    estimate = wilson(value * total, total)
    return Measure(name, value, estimate.low, estimate.high, len(held), better)


def mean(
    name: str, scores: Sequence[float] | NDArray[np.floating], better: str, prompts: Sequence[str] | None = None
) -> Measure:
    """Compute the mean score of rows, with a bootstrap interval; `prompts` as in `share`."""
    values = np.asarray(scores, dtype=float)
    if prompts is None:
        return measured(name, lambda values: float(values.mean()) if len(values) else math.nan, (values,), better)
    # Rows of the same prompt are drawn together.
    of = _numbered(prompts)
    columns = np.bincount(of, values), np.bincount(of).astype(float)
    return replace(measured(name, lambda sums, counts: float(sums.sum() / counts.sum()), columns, better), rows=len(of))


def _numbered(prompts: Sequence[str]) -> NDArray[np.intp]:
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    return np.array([numbers[prompt] for prompt in prompts], dtype=np.intp)


def _independent(held: NDArray[np.bool_], of: NDArray[np.intp]) -> float:
    """Estimate how many rows with a prompt each would tell as much: as few as there are prompts, as many as rows.

    From the variance of the share as it is between prompts (Korn and Graubard 1998).
    """
    share, count = float(held.mean()), int(of.max()) + 1
    variance = float((np.bincount(of, held - share) ** 2).sum()) / len(held) ** 2
    rows = share * (1 - share) / variance if variance else float(len(held) if 0 < share < 1 else count)
    return min(max(rows, count), len(held))


def measured(name: str, measure: Callable[..., float], columns: Sequence[NDArray[np.generic]], better: str) -> Measure:
    """Apply a measure to columns, each of shape (rows,), with a bootstrap interval; NaN means that it is undefined."""
    value = measure(*columns)
    if math.isnan(value):
        return Measure(name, None, None, None, len(columns[0]), better)
    low, high = row_interval(measure, *columns)
    return Measure(name, value, low, high, len(columns[0]), better)
