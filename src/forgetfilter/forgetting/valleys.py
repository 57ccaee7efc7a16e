"""Find the valley between groups of rows: one that was forgotten little, or is little suspicious, and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cuts import Cut

FloatArray = NDArray[np.floating]
_FEWEST_ROWS = 20
_MOST_POINTS = 4096
TOO_MANY = (
    "too many to remove without a person's word; use a safe set that covers more of the data, or set a threshold, "
    "such as top:5%"
)
_LOOK_YOURSELF = ", so nothing is removed; look at the topmost ones and set a threshold, such as top:5%"
_NO_GROUPS = "the rows form no two groups"


@dataclass(frozen=True)
class Valleys:
    """Which valleys between groups of rows are looked for.

    Attributes:
        groups: How many groups there may be.
        shallow: The largest density in a valley, as a share of that at the lower of its two peaks.
        largest: The largest share of the rows that may lie above one.
    """

    groups: int
    shallow: float
    largest: float


def find_valley(
    forgetting: FloatArray, how: str, wanted: Valleys, objection: Callable[[float], str] = lambda _: ""
) -> tuple[Cut, str]:
    """Find the lowest cut between groups of rows that will do, or explain why there is none.

    Args:
        forgetting: Forgetting or suspicion of the rows, NaN where unscored.
        how: What a row with a large value is: "forgotten" or "suspicious".
        wanted: Which valleys will do.
        objection: Why the rows above a value must not be removed; empty where they may be.

    Returns:
        The cut, and in short why there is none; empty where there is one.
    """
    scored = np.sort(forgetting[~np.isnan(forgetting)])
    if len(scored) < _FEWEST_ROWS:
        why = f"too few rows have a score to tell two groups apart: {len(scored)}"
        return Cut(None, f"{why}; it takes {_FEWEST_ROWS}"), why
    # Where there are many rows, evenly spaced quantiles represent them, so that the fit takes no longer.
    sample = scored if len(scored) <= _MOST_POINTS else np.quantile(scored, np.linspace(0, 1, _MOST_POINTS))
    groups = _fit_groups(sample, wanted.groups)
    valleys = groups.valleys(wanted.shallow) if groups else []
    if not valleys:
        return Cut(None, f"{_NO_GROUPS}{_LOOK_YOURSELF}"), _NO_GROUPS
    shares = [float((scored > valley.value).mean()) for valley in valleys]
    if min(shares) > wanted.largest:
        why = f"the more {how} group has {min(shares):.0%} of the rows"
        return Cut(None, f"{why}, {TOO_MANY}"), why
    why = ""
    for valley, share in zip(valleys, shares, strict=True):
        if share > wanted.largest:
            continue
        why = objection(valley.value)
        if not why:
            between = f"rows {how} by about {valley.low:.3g} and rows {how} by about {valley.high:.3g}"
            return Cut(valley.value, f"the valley between {between}"), ""
    return Cut(None, f"{why}{_LOOK_YOURSELF}"), why


class _Valley(NamedTuple):
    """Where the density of the rows is lowest between two groups, and where these groups have their peaks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Groups:
    """A mixture of k normal distributions, by rising means; arrays of shape (k,)."""

    shares: FloatArray
    means: FloatArray
    spreads: FloatArray

    def densities(self, values: FloatArray) -> FloatArray:
        """Return each group's share of the density, shape (len(values), k)."""
        z = (values[:, None] - self.means) / self.spreads
        densities: FloatArray = self.shares * np.exp(-0.5 * z**2) / (self.spreads * np.sqrt(2 * np.pi))
        return densities

    def valleys(self, shallow: float) -> list[_Valley]:
        """Find the minima of the density between the means that are deep enough (`Valleys`), in rising order."""
        between = np.linspace(self.means[0], self.means[-1], 513)
        density = self.densities(between).sum(axis=1)
        minima = np.flatnonzero((density[1:-1] <= density[:-2]) & (density[1:-1] < density[2:])) + 1
        peaks = [int(part[np.argmax(density[part])]) for part in np.split(np.arange(len(between)), minima)]
        return [
            _Valley(float(between[place]), float(between[low]), float(between[high]))
            for place, low, high in zip(minima, peaks, peaks[1:], strict=False)
            if density[place] <= shallow * min(density[low], density[high])
        ]


# Where a fit begins: the shares of the rows, sorted, at which the groups meet.
_STARTS: dict[int, tuple[tuple[float, ...], ...]] = {
    2: ((0.5,), (0.75,), (0.9,), (0.97,)),
    3: ((0.33, 0.66), (0.25, 0.5), (0.5, 0.75), (0.5, 0.9), (0.75, 0.95), (0.3, 0.9)),
}


def _fit_groups(values: FloatArray, most: int) -> _Groups | None:
    """Return the best fit of two or more groups, or None where one normal distribution does as well (BIC)."""
    least_spread = 0.01 * (values[-1] - values[0])
    if least_spread <= 0:
        return None
    a_parameter = np.log(len(values)) / 2
    best = -len(values) * (np.log(values.std() * np.sqrt(2 * np.pi)) + 0.5) - 2 * a_parameter
    found = None
    for count in range(2, most + 1):
        fits = [_expectation_maximisation(values, start, least_spread) for start in _STARTS[count]]
        likelihood, groups = max(fits, key=lambda fit: fit[0])
        # k groups have k means, k spreads and k - 1 free shares.
        likelihood -= (3 * count - 1) * a_parameter
        if likelihood > best:
            best, found = likelihood, groups
    return found


def _expectation_maximisation(
    values: FloatArray, start: tuple[float, ...], least_spread: float, rounds: int = 200
) -> tuple[float, _Groups]:
    """Fit groups to sorted values, which meet at these shares of the values at first."""
    group = np.searchsorted([int(share * len(values)) for share in start], np.arange(len(values)), side="right")
    weights = (group[:, None] == np.arange(len(start) + 1)).astype(float)
    likelihood = -np.inf
    for _ in range(rounds):
        total = weights.sum(axis=0) + 1e-9
        means = weights.T @ values / total
        spreads = np.sqrt((weights * (values[:, None] - means) ** 2).sum(axis=0) / total)
        groups = _Groups(total / len(values), means, np.maximum(spreads, least_spread))
        densities = groups.densities(values) + 1e-300
        before, likelihood = likelihood, float(np.log(densities.sum(axis=1)).sum())
        if likelihood - before < 1e-6 * len(values):
            break
        weights = densities / densities.sum(axis=1, keepdims=True)
    order = np.argsort(groups.means)
    return likelihood, _Groups(groups.shares[order], groups.means[order], groups.spreads[order])
