"""Defines what a study is, and writes its finding."""

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

    from .context import StudyContext


@dataclass(frozen=True)
class Finding:
    """The result of a study.

    Attributes:
        data: All numbers, as rows of plain values.
        table: The numbers that people want to see, in Markdown.
        summary: The result in words, as one paragraph.
        draw: Draws the figure.
        size: Its width and height, in inches.
    """

    data: Sequence[dict[str, Any]]
    table: str
    summary: str
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (WIDTH, HEIGHT)

    def write(self, study: Study, folder: Path) -> None:
        """Write `data.parquet`, `data.json`, the figure as SVG and PDF, and `finding.md`, which shows it all."""
        finite = [{name: None if value != value else value for name, value in row.items()} for row in self.data]
        pq.write_table(pa.Table.from_pylist(finite), folder / FINDING_TABLE)
        write_json(finite, folder / FINDING_JSON)
        save_figure(self.draw, folder, FIGURE, self.size)
        figure = f"![{study.title}]({FIGURE}.svg)"
        text = f"## {study.title}\n\n{study.question}\n\n{figure}\n\n{self.table}\n{self.summary}\n"
        (folder / FINDING).write_text(text, encoding="utf-8")


def as_columns(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Convert estimates to columns of a study's data: NAME, NAME_low and NAME_high."""
    return {
        f"{name}{end}": getattr(estimate, bound)
        for name, estimate in estimates.items()
        for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


@dataclass(frozen=True)
class Study:
    """One study of the command line.

    Attributes:
        name: Its name on the command line.
        title: What it shows, and the figure of the paper.
        question: The question that it answers.
        run: Runs the study in a context.
        needs_mix: Whether it needs a noisy set from the user.
    """

    name: str
    title: str
    question: str
    run: Callable[[StudyContext], Finding]
    needs_mix: bool = True
