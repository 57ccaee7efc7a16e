"""What a study is, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...forgetting.estimates import Estimate
from ...plotting.style import HEIGHT, WIDTH, save_figure
from ...runs.files import write_json
from ...runs.layout import FIGURE, FINDING, FINDING_JSON, FINDING_TABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .workspace import Room


@dataclass(frozen=True)
class Finding:
    """What a study found.

    Attributes:
        data: Every number, one row each, as plain values.
        table: The same, as far as a person wants it, in Markdown.
        seen: What was seen, in a paragraph.
        draw: Draws the figure.
        size: Its width and height, in inches.
    """

    data: Sequence[dict[str, Any]]
    table: str
    seen: str
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (WIDTH, HEIGHT)

    def write(self, study: Study, folder: Path) -> None:
        """Write `data.parquet`, `data.json`, the figure as SVG and PDF, and `finding.md`, which shows it all."""
        finite = [{name: None if value != value else value for name, value in row.items()} for row in self.data]
        pq.write_table(pa.Table.from_pylist(finite), folder / FINDING_TABLE)
        write_json(finite, folder / FINDING_JSON)
        save_figure(self.draw, folder, FIGURE, self.size)
        text = f"## {study.title}\n\n{study.question}\n\n![{study.title}]({FIGURE}.svg)\n\n{self.table}\n{self.seen}\n"
        (folder / FINDING).write_text(text, encoding="utf-8")


def flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Estimates as columns of a study's data: NAME, NAME_low and NAME_high."""
    return {
        f"{name}{end}": getattr(estimate, bound)
        for name, estimate in estimates.items()
        for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: Its name on the command line.
        title: What it shows, and which figure of the paper that is.
        question: What it asks.
        run: Finds the answer with what a room has.
        needs_mix: Whether it looks at a noisy set of the user's.
    """

    name: str
    title: str
    question: str
    run: Callable[[Room], Finding]
    needs_mix: bool = True
