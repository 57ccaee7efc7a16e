"""Defines candidate signals: each gives one number per row from token log-probabilities; larger = forgotten more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgetfilter.forgetting.sharing import smoothed
from forgetfilter.forgetting.signals import LIKELIHOOD
from forgetfilter.suspicion.word_table import WordTable

Values = NDArray[np.floating]


@dataclass(frozen=True)
class Cell:
    """One measured cell of the bench.

    Attributes:
        labels: unsafe, safe or task, shape (rows,).
        words: Which words each row has.
        folds: A fold for each row, shape (rows,).
        tokens: By state (`base`, `learned`, `safe20`, …) each row's token log-probabilities in nats; by
            `greedy-STATE` whether each token was the model's first choice.
        rouge: ROUGE-1 of each row's greedy answer, shape (rows,), by state; missing where not measured.
    """

    labels: NDArray[np.str_]
    words: WordTable
    folds: NDArray[np.integer]
    tokens: dict[str, list[Values]]
    rouge: dict[str, Values]

    @property
    def unsafe(self) -> NDArray[np.bool_]:
        return np.asarray(self.labels == "unsafe")

    @property
    def lengths(self) -> NDArray[np.intp]:
        return np.array([len(row) for row in self.tokens["learned"]])

    def drops(self, after: str, before: str = "learned") -> list[Values]:
        return [a - b for a, b in zip(self.tokens[before], self.tokens[after], strict=True)]


def rows(measure: Callable[[Values], float], drops: list[Values]) -> Values:
    return np.array([measure(np.asarray(row, dtype=np.float64)) for row in drops])


def mean(drop: Values) -> float:
    return float(drop.mean())


def total(drop: Values) -> float:
    return float(drop.sum())


def total_by_root(drop: Values) -> float:
    return float(drop.sum() / np.sqrt(len(drop)))


def root_mean_square(drop: Values) -> float:
    return float(np.sqrt((np.maximum(drop, 0) ** 2).mean()))


def top(count: int) -> Callable[[Values], float]:
    return lambda drop: float(np.sort(drop)[::-1][:count].mean())


def early(half_life: float) -> Callable[[Values], float]:
    """Average with weights that halve every `half_life` tokens."""

    def weighted(drop: Values) -> float:
        weights = 0.5 ** (np.arange(len(drop)) / half_life)
        return float((drop * weights).sum() / weights.sum())

    return weighted


def shrunken(besides: int) -> Callable[[Values], float]:
    """Average over `besides` further tokens that count as not forgotten."""
    return lambda drop: float(drop.sum() / (len(drop) + besides))


def shared(cell: Cell, values: Values) -> Values:
    """Average each row's value with the forgetting of rows with similar words."""
    return smoothed(np.stack([values, np.zeros(len(values))], axis=1), cell.words, cell.folds)[:, 0]


def default(state: str) -> Callable[[Cell], Values]:
    """Compute the default signal of the filter."""

    def scores(cell: Cell) -> Values:
        first = [drop[: LIKELIHOOD.beginning] for drop in cell.drops(state)]
        return shared(cell, rows(shrunken(LIKELIHOOD.pseudo_tokens), first))

    return scores


def greedy_prefix(cell: Cell, state: str) -> Values:
    """Compute the share of the completion that the model would still write, up to its first deviation."""
    return np.array([(np.cumprod(row)).mean() for row in cell.tokens[f"greedy-{state}"]])


def second_split(cell: Cell) -> Values:
    """Measure how early the review reached half of the final mean drop, earlier = larger, ties by the drop."""
    points = (5, 10, 20, 30)
    curve = np.array([rows(mean, cell.drops(f"safe{p}")) for p in points])
    reached = np.argmax(curve >= 0.5, axis=0)
    never = ~(curve >= 0.5).any(axis=0)
    step = np.where(never, 100, np.array(points)[reached])
    return np.asarray(-step + 1e-3 * curve[-1])


def ranks(values: NDArray[Any]) -> Values:
    return np.asarray(np.argsort(np.argsort(values)) / len(values))


def at(state: str, measure: Callable[[Values], float]) -> Callable[[Cell], Values]:
    """Apply a measure to each row's drop from the learned model to a later state."""
    return lambda cell: rows(measure, cell.drops(state))


SOURCES = ("self", "builtin", "mismatched", "with-ordinary")
CANDIDATES: dict[str, Callable[[Cell], Values]] = {
    f"{name}, {steps} steps": at(f"safe{steps}", measure)
    for steps in (5, 10, 20, 30, 60)
    for name, measure in (("mean", mean), ("top 5", top(5)))
}
CANDIDATES |= {f"default, {steps} steps": default(f"safe{steps}") for steps in (5, 10, 20, 30, 60)}
CANDIDATES |= {f"default, {source}, {n} steps": default(f"{source}{n}") for source in SOURCES for n in (10, 20)}
CANDIDATES |= {f"counting {besides} more tokens": at("safe20", shrunken(besides)) for besides in (4, 8, 16, 32, 64)}
CANDIDATES |= {
    "shared: mean": lambda c: shared(c, rows(mean, c.drops("safe20"))),
    "shared: top 5": lambda c: shared(c, rows(top(5), c.drops("safe20"))),
    "shared: root mean square": lambda c: shared(c, rows(root_mean_square, c.drops("safe20"))),
    "top 1": lambda c: rows(top(1), c.drops("safe20")),
    "top 3": lambda c: rows(top(3), c.drops("safe20")),
    "top 10": lambda c: rows(top(10), c.drops("safe20")),
    "early (half-life 4)": lambda c: rows(early(4), c.drops("safe20")),
    "early (half-life 16)": lambda c: rows(early(16), c.drops("safe20")),
    "root mean square": lambda c: rows(root_mean_square, c.drops("safe20")),
    "sum": lambda c: rows(total, c.drops("safe20")),
    "sum / sqrt(length)": lambda c: rows(total_by_root, c.drops("safe20")),
    "ROUGE-1 of answers (paper)": lambda c: np.nan_to_num(c.rouge["learned"] - c.rouge["safe20"]),
    "greedy prefix": lambda c: greedy_prefix(c, "learned") - greedy_prefix(c, "safe20"),
    "share of what was learned": lambda c: (
        rows(mean, c.drops("safe20")) / np.maximum(rows(mean, c.drops("base", "learned")), 0.1)
    ),
    "below the base model, mean": lambda c: rows(mean, c.drops("safe20", "base")),
    "below the base model, top 5": lambda c: rows(top(5), c.drops("safe20", "base")),
    "area under the review curve, mean": lambda c: np.mean(
        [rows(mean, c.drops(f"safe{p}")) for p in (5, 10, 20, 30)], axis=0
    ),
    "second split": second_split,
    "control taken off, mean": lambda c: rows(mean, c.drops("safe20", "control20")),
    "control taken off, top 5": lambda c: rows(top(5), c.drops("safe20", "control20")),
    "control taken off (10 steps), mean": lambda c: rows(mean, c.drops("safe10", "control10")),
    "control taken off (10 steps), top 5": lambda c: rows(top(5), c.drops("safe10", "control10")),
    "control taken off, sum / sqrt(length)": lambda c: rows(total_by_root, c.drops("safe20", "control20")),
    "control alone, mean": lambda c: rows(mean, c.drops("control20")),
    "contrast, mean": lambda c: rows(mean, c.drops("safe10", "contrast10")),
    "contrast, top 5": lambda c: rows(top(5), c.drops("safe10", "contrast10")),
    "ranks: top 5 + control taken off, mean": lambda c: (
        ranks(CANDIDATES["top 5, 20 steps"](c)) + ranks(CANDIDATES["control taken off, mean"](c))
    ),
}
