"""What an evaluation found, as files and as a table."""

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
    """What was measured of a model.

    Attributes:
        measures: Every measure; names with [brackets] are of a part of the rows.
        rows: How many rows of each kind were asked.
        not_asked: Ids of rows whose prompt is longer than the length limit; they are in no measure.
        toxicity_classifier: What told toxic text.
        judge: The model that judged, or nothing.
    """

    measures: tuple[Measure, ...]
    rows: Mapping[str, int]
    not_asked: tuple[str, ...] = ()
    toxicity_classifier: str = ""
    judge: str = ""

    def __getitem__(self, name: str) -> Measure:
        """The measure of this name. Raises KeyError where it was not measured."""
        return {measure.name: measure for measure in self.measures}[name]

    def write(self, folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
        """Write the answers, and then the results, each whole or not at all."""
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        write_text("".join(lines), folder / ANSWERS)
        write_json(asdict(self), folder / EVALUATION)

    def table(self) -> str:
        """The measures of all rows, for a terminal."""
        lines = [
            [printable(m.name, 60), _number(m.value), _interval(m), f"{m.rows:,}", m.better]
            for m in self.measures
            if "[" not in m.name
        ]
        shown = table(["measure", "value", "95% interval", "rows", "better"], lines)
        if self.not_asked:
            shown += f"\n{len(self.not_asked):,} rows were not asked: their prompts are longer than --max-length"
        return shown


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote."""
    value = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    value["measures"] = tuple(Measure(**measure) for measure in value["measures"])
    value["not_asked"] = tuple(value["not_asked"])
    return Evaluation(**value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(measure: Measure) -> str:
    return "–" if measure.low is None else f"{_number(measure.low)} to {_number(measure.high)}"
