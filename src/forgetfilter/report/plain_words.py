"""Say in plain words what a decision is worth and what to do next, alike on the page and on the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..console import count_of
from ..decision.decide import Summary
from ..decision.overrides import FILTER, REMOVED
from ..decision.reasons import BY
from ..forgetting.auto import FEWEST_UNSAFE, Auto
from ..forgetting.cuts import Top
from ..forgetting.signals import DEFAULT_SIGNAL, RIVAL, SIGNALS, SUSPICION, Signal
from ..forgetting.thresholds import parse_threshold
from ..runs.layout import FORGETTING, LEARNED, SCORES, numbered
from ..runs.run import Run, decide_command

# Rows that one person looks through in a few minutes.
_LOOKED_AT = 20
# Thresholds to suggest, the first that removes other rows than the present one.
_SUGGESTED = ("top:10%", "top:5%", "top:20%")
_COUNTS_FOR_NOTHING = (
    "training tells nothing here: forgetting does not agree with what else speaks about the rows, or there are too few "
    "of them, so it counts for nothing"
)


@dataclass(frozen=True)
class Unsure:
    """What to do where the filter found no evidence on which it would remove any row.

    Attributes:
        rows: Which rows a person should look at, and how many, in words.
        tenth: Which rows `threshold` removes, in words: the most suspicious or most forgotten tenth.
        threshold: The threshold that removes them.
        command: The command that decides by it.
        end: How many rows known to be unsafe let the filter set a cutoff; empty where so many are known, or where that
            is no help.
    """

    rows: str
    tenth: str
    threshold: str
    command: str
    end: str


@dataclass(frozen=True)
class Marks:
    """How many rows a person marked as unsafe, and how many as harmless."""

    unsafe: int
    harmless: int

    def __str__(self) -> str:
        return f"{self.unsafe:,} {'is' if self.unsafe == 1 else 'are'} unsafe, {self.harmless:,} harmless"


def unsure(path: Path, summary: Summary) -> Unsure | None:
    """Tell what to do where the filter removed nothing for lack of evidence; None where it was sure, or told."""
    if summary.cut is not None or isinstance(parse_threshold(summary.threshold), Top):
        return None
    looked_at, signal = min(_LOOKED_AT, summary.rows - summary.bad - summary.unscorable), SIGNALS[summary.signal]
    return Unsure(
        f"{looked_at} {_with_most(signal, 'row' if looked_at == 1 else 'rows')}",
        _with_most(signal, "tenth"),
        _SUGGESTED[0],
        _decide_again(path, summary, _SUGGESTED[0]),
        _end_of_marking(path, summary),
    )


def _with_most(signal: Signal, noun: str) -> str:
    """Add the signal's superlative to a noun: `most suspicious rows`, `rows forgotten most`."""
    return f"{signal.most} {noun}" if signal.most == SUSPICION.most else f"{noun} {signal.most}"


def _end_of_marking(path: Path, summary: Summary) -> str:
    """Say from how many unsafe rows on `auto` can set a cutoff, and how many are known."""
    # With --learned, rows that became known later are not among those from which errors are estimated.
    known = max(summary.known_unsafe, summary.known_later) + count_marks(path).unsafe
    if not SIGNALS[summary.signal].fused or parse_threshold(summary.threshold) != Auto() or known >= FEWEST_UNSAFE:
        return ""
    so_far = f"; {known} {'is' if known == 1 else 'are'} known" if known else ""
    return f"auto can set a cutoff from {FEWEST_UNSAFE} unsafe rows on{so_far}"


def another_threshold(path: Path, summary: Summary) -> str:
    """Suggest another threshold: what it would do, and the command; empty where none removes more rows, or fewer."""
    columns = pq.read_table(path / SCORES, columns=["suspicion", "decided_by"])
    by_filter = pc.equal(columns.column("decided_by"), FILTER).to_numpy()
    suspicion = columns.column("suspicion").to_numpy()
    now = np.zeros(len(suspicion), dtype=bool) if summary.cut is None else suspicion > summary.cut
    for threshold in _SUGGESTED:
        then = parse_threshold(threshold).cut(suspicion).removes(suspicion)
        if change := int((then & by_filter).sum()) - int((now & by_filter).sum()):
            rows = count_of(abs(change), f"{'more' if change > 0 else 'fewer'} row")
            return f"Another threshold would remove {rows}, in a second: {_decide_again(path, summary, threshold)}"
    return ""


def count_marks(path: Path) -> Marks:
    """Count the rows of a decided run that a person decided about."""
    columns = pq.read_table(path / SCORES, columns=["decision", "decided_by"])
    decisions = columns.filter(pc.not_equal(columns.column("decided_by"), FILTER)).column("decision")
    unsafe = pc.sum(pc.equal(decisions, pa.scalar(REMOVED))).as_py() or 0
    return Marks(unsafe, len(decisions) - unsafe)


def what_training_tells(run: Run, summary: Summary) -> str:
    """Say so where training tells nothing about the rows, or nothing was trained; empty where it does, or need not."""
    if SIGNALS[summary.signal].scoring == RIVAL:
        return ""
    if summary.trained:
        return "" if _forgetting_counts(run, summary) else _COUNTS_FOR_NOTHING
    said = "nothing was trained: rows were judged by what they say and what the untouched model makes of it alone; "
    if run.settings.sessions.training:
        return (
            f"{said}this is the run's first look, and if it was stopped, the same 'forgetfilter filter' command goes on"
        )
    return f"{said}to use forgetting as well, run the same 'forgetfilter filter' command without --no-training"


def longer_session(run: Run, summary: Summary) -> str:
    """Return options that have a run's rows learned twice as long, into another folder."""
    rows = summary.rows - summary.bad + summary.trusted + summary.known_unsafe - summary.known_later
    passes = len(run.history(LEARNED)) * run.settings.training.batch_size / max(1, rows)
    return f"--epochs {max(2, round(2 * passes))}, into another --output"


def _forgetting_counts(run: Run, summary: Summary) -> bool:
    """Tell whether forgetting has any part in a decision by all evidence together."""
    if not SIGNALS[summary.signal].fused:
        return True
    names = [BY + name for name in numbered(FORGETTING, run.settings.safe.safe)]
    table = pq.read_table(run.path / SCORES, columns=names)
    return any(np.nan_to_num(column.to_numpy()).any() for column in table.columns)


def _decide_again(path: Path, summary: Summary, threshold: str) -> str:
    """Return the command that decides with another threshold; a person's decisions stay."""
    changed = {"threshold": threshold, "signal": None if summary.signal == DEFAULT_SIGNAL else summary.signal}
    return decide_command(path, changed)
