"""Holds the results of a comparison, one record per filter or strategy and noisy set, and averages them over draws."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...data.records import hash_chunks
from ...data.text_files import read_jsonl
from ...forgetting.estimates import UNKNOWN, Estimate
from ...metrics.intervals import student_t
from ..mixing import Mix

FILTERS, STRATEGIES = "filters", "strategies"


@dataclass(frozen=True)
class Record:
    """One filter or strategy on one noisy set.

    Attributes:
        table: `filters` or `strategies`.
        notion: The kind of unsafe rows in the set.
        unsafe_share: Share of its rows that is unsafe, 0 to 1.
        recipe: A hash that sets share if they differ by seed alone.
        seed: The seed of this draw of the set.
        name: The filter or strategy.
        measures: The measures, each with a 95% interval; NaN where undefined.
    """

    table: str
    notion: str
    unsafe_share: float
    recipe: str
    seed: int
    name: str
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Cell:
    """One filter or strategy on several draws of one noisy set, averaged.

    Attributes:
        table, notion, unsafe_share, recipe, name: As in its records.
        draws: The number of draws.
        measures: The means over draws, each with a 95% interval.
    """

    table: str
    notion: str
    unsafe_share: float
    recipe: str
    name: str
    draws: int
    measures: Mapping[str, Estimate]

    @property
    def group(self) -> tuple[str, str, float, str]:
        """The table that the cell belongs to."""
        return self.table, self.notion, self.unsafe_share, self.recipe


def recipe_of(mix: Mix) -> str:
    """Hash what a mix is drawn from and how, without the seed."""
    settings = {name: value for name, value in mix.info["settings"].items() if name != "seed"}
    sources = [source["fingerprint"] for source in mix.info["sources"]]
    return hash_chunks([json.dumps([settings, sources], sort_keys=True).encode()])[:8]


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write one JSON object per line, with null for numbers that are unknown."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            measures = {
                name: {key: value if np.isfinite(value) else None for key, value in asdict(estimate).items()}
                for name, estimate in record.measures.items()
            }
            file.write(json.dumps(asdict(record) | {"measures": measures}, ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote."""
    records = []
    for values in read_jsonl(path):
        measures = {
            name: Estimate(**{key: float("nan") if value is None else value for key, value in estimate.items()})
            for name, estimate in values.pop("measures").items()
        }
        records.append(Record(**values, measures=measures))
    return records


def over_seeds(records: Iterable[Record]) -> list[Cell]:
    """Average the records of draws that differ by seed alone."""
    by_cell: dict[tuple[str, str, float, str, str], list[Record]] = defaultdict(list)
    for record in records:
        by_cell[record.table, record.notion, record.unsafe_share, record.recipe, record.name].append(record)
    cells = []
    for key, draws in by_cell.items():
        names = dict.fromkeys(measure for record in draws for measure in record.measures)
        measures = {
            measure: mean_estimate([record.measures[measure] for record in draws if measure in record.measures])
            for measure in names
        }
        cells.append(Cell(*key, len(draws), measures))
    return cells


def mean_estimate(estimates: list[Estimate]) -> Estimate:
    """Average one measure over several draws, with a 95% interval.

    The interval comes from the variance within the draws or, by Student's t, from that between them, whichever is
    wider: few draws may agree by chance.
    """
    known = [estimate for estimate in estimates if np.isfinite(estimate.value)]
    if len(known) <= 1:
        return known[0] if known else UNKNOWN
    values = np.array([estimate.value for estimate in known])
    halves = np.array([(estimate.high - estimate.low) / 2 for estimate in known])
    within = float(np.sqrt(np.nanmean(halves**2))) if np.isfinite(halves).any() else 0.0
    between = student_t(len(known) - 1) * float(values.std(ddof=1))
    mean, half = float(values.mean()), max(within, between) / float(np.sqrt(len(known)))
    return Estimate(mean, mean - half, mean + half)
