"""Holds the results of an evaluation, and writes them as files and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..console import printable, table
from ..runs.files import write_json, write_text
from ..runs.layout import ANSWERS, EVALUATION
from .measures import Measure


@dataclass(frozen=True)
class Evaluation:
    """The results of evaluating a model.

    Attributes:
        measures: Every measure; names with [brackets] cover a part of the rows.
        rows: The number of rows of each kind that were asked.
        not_asked: Ids of rows whose prompt exceeds the length limit, and ID/KIND of such jailbreaks; no measure counts
            them.
        toxicity_classifier: The classifier that scored toxicity, or empty.
        judge: The model that judged answers, or empty.
        not_compared: Ids of the questions of which an option exceeds the length limit; bias-likelihood does not count
            them.
    """

    measures: tuple[Measure, ...]
    rows: Mapping[str, int]
    not_asked: tuple[str, ...] = ()
    toxicity_classifier: str = ""
    judge: str = ""
    not_compared: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measure:
        """Return the measure of this name; raises KeyError if it was not measured."""
        return {measure.name: measure for measure in self.measures}[name]

    def write(self, folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the answers, then the results, each file completely or not at all."""
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        write_text("".join(lines), folder / ANSWERS)
        write_json(asdict(self), folder / EVALUATION)

    def table(self) -> str:
        """Format the measures over all rows for a terminal."""
        lines = [
            [printable(m.name, 60), _number(m.value), _interval(m), f"{m.rows:,}", m.better]
            for m in self.measures
            if "[" not in m.name
        ]
        text = table(["measure", "value", "95% interval", "rows", "better"], lines)
        if self.not_asked:
            text += f"\n{len(self.not_asked):,} prompts were not asked: they are longer than --max-length"
        if self.not_compared:
            text += (
                f"\n{len(self.not_compared):,} questions were left out of bias-likelihood: with one of their options "
                "they are longer than --max-length"
            )
        return text


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote."""
    value = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    value["measures"] = tuple(Measure(**measure) for measure in value["measures"])
    for name in ("not_asked", "not_compared"):
        # Evaluations of earlier versions lack the second.
        value[name] = tuple(value.get(name, ()))
    return Evaluation(**value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:z.3f}"


def _interval(measure: Measure) -> str:
    return "–" if measure.low is None else f"{_number(measure.low)} to {_number(measure.high)}"
