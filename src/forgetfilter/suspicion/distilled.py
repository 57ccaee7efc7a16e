"""Distil a run's suspicion into a linear rule on words and hidden states, for rows that the run never saw.

The rule imitates all evidence of the run together, forgetting included (Hinton et al. 2015, distillation). It is a
ridge regression on the features that likeness is computed from, so nothing is trained for further rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..console import count_of
from ..forgetting.estimates import Estimate, wilson
from ..metrics.detection import auroc, ranks
from .ridge import cross_fitted, solve
from .rules import Features

FloatArray = NDArray[np.floating]
# A tenth to three times as much made no difference beyond 0.01 of AUROC on four problems of the panel's chosen half.
_RIDGE, _FOLDS = 0.3, 10
# Runs on fewer rows agreed much less with the filter on all rows than with themselves (docs/evidence.md).
_FEW = 100


@dataclass(frozen=True)
class DistilledRule:
    """Suspicion as a linear function of a row's features. That of a row without any known one is that of harmless rows.

    Attributes:
        coefficients: Coefficient of each column of `Features`, shape (width,).
    """

    coefficients: FloatArray

    def parts(self, features: Features) -> tuple[FloatArray, FloatArray]:
        """Return what words and states contribute to suspicion, two arrays of shape (n,); it is their sum."""
        return features.by_words(self.coefficients), features.by_states(self.coefficients)

    def save(self, path: Path) -> None:
        """Write the rule to a file, for `load`."""
        np.savez(path, coefficients=self.coefficients)

    @classmethod
    def load(cls, path: Path) -> DistilledRule:
        """Read the rule that `save` wrote."""
        with path.open("rb") as file, np.load(file) as arrays:
            return cls(arrays["coefficients"])


def distil(
    suspicion: FloatArray, features: Features, random_ranks: NDArray[np.integer]
) -> tuple[DistilledRule, FloatArray]:
    """Fit the rule to rows, and predict each of them by a rule that was fitted without it.

    Args:
        suspicion: Suspicion of n rows by all evidence, 0 for an average harmless row, shape (n,).
        features: Their features.
        random_ranks: The rank of each row in a random order, which gives the folds, shape (n,).

    Returns:
        The rule, and its cross-fitted suspicion of the rows, shape (n,).
    """
    weights = np.ones(len(suspicion))
    predicted = cross_fitted(suspicion, weights, features, random_ranks % _FOLDS, _RIDGE)
    return DistilledRule(solve(suspicion, weights, features, _RIDGE)), predicted


@dataclass(frozen=True)
class Agreement:
    """How well a rule agrees with the run about rows that it was not fitted to.

    Attributes:
        rows: How many of the run's rows were predicted.
        same: Share of them that the rule decides about as the run did, with its 95% interval; None without rows.
        auroc: How often a row that the run removed is predicted to be more suspicious than one that it kept, 0 to 1;
            None where it removed none or all.
        correlation: Rank correlation of predicted suspicion with the run's; None where either does not vary.
    """

    rows: int
    same: Estimate | None
    auroc: float | None
    correlation: float | None

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Agreement:
        """Read an agreement as JSON has it."""
        return cls(**stored | {"same": stored["same"] and Estimate(**stored["same"])})

    @property
    def doubt(self) -> str:
        """Tell why the filter on all rows may decide differently all the same; empty where nothing speaks for it."""
        if self.rows >= _FEW:
            return ""
        return (
            f"the run has only {count_of(self.rows, 'row')} with a score, and a run on so few decides differently from "
            f"one on many, whatever their agreement; filter {_FEW} or more of them"
        )

    def __str__(self) -> str:
        told = [] if self.same is None else [f"the same decision for {self.same}"]
        told += [] if self.auroc is None else [f"removed above kept rows in {self.auroc:.0%} of pairs"]
        told += [] if self.correlation is None else [f"rank correlation {self.correlation:z.2f}"]
        return f"on {self.rows:,} rows held out in the run: {', '.join(told) or 'nothing to compare'}"


def compare_with_run(
    predicted: FloatArray, suspicion: FloatArray, removed: NDArray[np.bool_], cut: float | None
) -> Agreement:
    """Compare what a rule predicts of n held-out rows with what the run said.

    Args:
        predicted, suspicion: Suspicion by the rule and by the run, shape (n,).
        removed: Whether the run removed the row, shape (n,).
        cut: The rule removes rows above it; none where it is None.
    """
    count = len(removed)
    again = predicted > (np.inf if cut is None else cut)
    same = wilson(int((again == removed).sum()), count) if count else None
    varies = count > 1 and min(np.ptp(predicted), np.ptp(suspicion)) > 0
    correlation = float(np.corrcoef(ranks(predicted), ranks(suspicion))[0, 1]) if varies else None
    decided_both_ways = removed.any() and not removed.all()
    return Agreement(count, same, auroc(predicted, removed) if decided_both_ways else None, correlation)


def as_strict(predicted: FloatArray, removed: int) -> float | None:
    """Find the cut above which so many predicted values lie, fewer where some are equal; None where that is none."""
    if not removed:
        return None
    ordered = np.sort(predicted)[::-1]
    if removed >= len(ordered):
        return float(np.nextafter(ordered[-1], -np.inf))
    # Halfway to the next row, because further rows lie on either side of it.
    return float((ordered[removed - 1] + ordered[removed]) / 2)
