"""Measure, from scores under both models, how much of each row was forgotten, and write it to one table.

The table is computed once, so that deciding again reads a few numbers per row, whatever the length of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.rows import Said
from ..data.tables import write_parquet
from ..data.tokens import TokenTable
from ..errors import RunError
from ..metrics.text import words
from ..runs.layout import SHARDS, table_of
from ..suspicion.ridge import folds
from ..suspicion.word_table import word_table
from .sharing import smoothed
from .signals import (
    LIKELIHOOD,
    LIKELIHOOD_MEAN,
    ROUGE,
    SIGNALS,
    Scores,
    Signal,
    beginnings,
    likelihood_scores,
)

# Below these scores under M1 a completion was never learned, so it cannot be forgotten: its tokens have a probability
# of less than one in eight, on (geometric) average, or the answer shares less than a quarter of its words.
NEVER_LEARNED = {LIKELIHOOD_MEAN.name: float(np.log(0.125)), ROUGE.name: 0.25}
# Column of a rival's table with what it finds in each row, in words.
CATEGORIES = "categories"
# Characters of a row whose words are compared with those of other rows.
_LONGEST_TEXT = 50_000


def columns_of(signal: Signal) -> tuple[str, str, str]:
    """Name the columns of a signal in a forgetting table: learned score, reviewed score, most forgotten words."""
    name = LIKELIHOOD.name if signal.fused else signal.name
    return f"{name}.learned", f"{name}.reviewed", f"{name}.words"


def untrained_columns(table: TokenTable, signal: Signal) -> dict[str, Any]:
    """Build the columns of such a table for rows that no session has seen: no words, and never learned is false."""
    return {
        "id": table.ids,
        "row": table.rows,
        "tokens": table.counts,
        "truncated": table.truncated,
        "never_learned": np.zeros(len(table), dtype=bool),
        columns_of(signal)[2]: pa.array([[]] * len(table), pa.list_(pa.string())),
    }


def suspicion_column(rival: Signal) -> str:
    """Name the column of such a table that holds the rival's suspicion."""
    return f"{rival.name}.suspicion"


@dataclass(frozen=True)
class ScoredRows:
    """One data set, scored under both models.

    After several reviews of the same M1, s(M2) is the mean over them, token by token. So r is the mean forgetting, is
    still linear in s and in its unit, and every review counts. With the minimum in its place, any one review that does
    little would hide the others (docs/studies.md, Appendix E). Suspicion decides how far to trust each review.

    Attributes:
        said: Iterates over the rows' chats.
        table: Tokens of the rows.
        learned: Folder with the scores under M1, as `models.scoring.score` writes them.
        reviewed: Folders with the scores under each M2.
    """

    said: Callable[[], Iterator[Said]]
    table: TokenTable
    learned: Path
    reviewed: Sequence[Path]

    def words(self) -> Iterator[list[str]]:
        """Yield the words of each row of the table, prompt and completion."""
        wanted = np.zeros(int(self.table.rows.max(initial=0)) + 1, dtype=bool)
        wanted[self.table.rows] = True
        for _, row, chat in self.said():
            if row < len(wanted) and wanted[row]:
                yield words("\n".join(message.text for message in chat.messages)[:_LONGEST_TEXT])


def measure_forgetting(parts: Mapping[str, ScoredRows], scoring: str, folder: Path, *, whole: bool = False) -> None:
    """Write a forgetting table for each data set, in the order of its rows.

    All data sets are measured together, so that rows of known kind are treated exactly as the data is.

    Args:
        parts: The data sets by name.
        scoring: The kind of the scores, `likelihood` or `rouge`.
        folder: Where to write `NAME.parquet`: `id`, `row`, `tokens` (of the completion), `truncated`,
            `never_learned`, and the columns of every signal of this kind; null where a row was not scored.
        whole: Whether signals that read an answer's beginning read all of it instead.

    Raises:
        RunError: Two score tables do not hold the same rows, or do not hold the rows of the data set.
    """
    measured = {name: _measure(rows, scoring, whole) for name, rows in parts.items()}
    for signal in SIGNALS.values():
        if signal.shared and signal.scoring == scoring:
            _share(signal, parts, measured, folder)
    for name, rows in parts.items():
        batches = _batches(rows.table, measured[name])
        first = next(batches)
        write_parquet(chain([first], batches), first.schema, folder / table_of(name))


@dataclass(frozen=True)
class _Measured:
    """Measurements of the n rows of a data set, a few numbers for each.

    Attributes:
        scores: s(M1) and s(M2) by each signal, shape (n, 2); NaN where a row was not scored.
        scored: Which rows were scored, shape (n,).
        never_learned: Which rows the learned model does not know, shape (n,).
        forgotten: Positions of the completion tokens forgotten most, shape (n, k), -1 where there are fewer.
    """

    scores: dict[str, NDArray[np.float64]]
    scored: NDArray[np.bool_]
    never_learned: NDArray[np.bool_]
    forgotten: NDArray[np.int32]


def _measure(rows: ScoredRows, scoring: str, whole: bool) -> _Measured:
    """Measure each row of a data set by itself."""
    table, n = rows.table, len(rows.table)
    signals = [signal for signal in SIGNALS.values() if signal.scoring == scoring and not signal.fused]
    if whole:
        signals = [replace(signal, beginning=None) for signal in signals]
    measured = _Measured(
        {signal.name: np.full((n, 2), np.nan) for signal in signals},
        np.zeros(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.full((n, max(signal.tokens or 0 for signal in signals)), -1, dtype=np.int32),
    )
    ids = table.ids
    for before, after in _joined(rows.learned, rows.reviewed):
        positions = np.minimum(np.searchsorted(table.rows, before.column("row").to_numpy()), n - 1)
        if not ids.take(pa.array(positions)).equals(before.column("id")):
            raise RunError(f"{rows.learned}: these scores are not of the rows that were tokenised; pass --overwrite")
        measured.scored[positions] = True
        for signal in signals:
            scores, forgotten = _score_signal(signal, before, after, table, positions)
            measured.scores[signal.name][positions] = np.stack([scores.learned, scores.reviewed], axis=1)
            if forgotten.shape[1]:
                measured.forgotten[positions, : forgotten.shape[1]] = forgotten
            if signal.name in NEVER_LEARNED:
                measured.never_learned[positions] = scores.learned < NEVER_LEARNED[signal.name]
    return measured


def _score_signal(
    signal: Signal, before: pa.Table, after: pa.Table, table: TokenTable, rows: NDArray[np.intp]
) -> tuple[Scores, NDArray[np.intp]]:
    """Return the scores of some rows by a signal, and their most forgotten tokens if the signal ranks tokens."""
    if signal.name == ROUGE.name:
        return Scores(*(table.column("rouge").to_numpy() for table in (before, after))), np.empty((0, 0), np.intp)
    lengths = pc.list_value_length(before.column("logprobs")).to_numpy()
    learned, reviewed = (pc.list_flatten(t.column("logprobs")).to_numpy().astype(np.float64) for t in (before, after))
    if signal.beginning is not None:
        first = beginnings(table.answers(rows), signal.beginning)
        lengths = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[first], minlength=len(lengths))
        learned, reviewed = learned[first], reviewed[first]
    return likelihood_scores(learned, reviewed, lengths, signal.tokens, signal.pseudo_tokens)


def _share(signal: Signal, parts: Mapping[str, ScoredRows], measured: Mapping[str, _Measured], folder: Path) -> None:
    """Average the scores of a signal with those of rows of similar words, over all data sets."""
    names = [name for name, of_part in measured.items() if of_part.scored.any()]
    if not names:
        return
    scored = np.concatenate([measured[name].scored for name in names])
    documents = (document for name in names for document in parts[name].words())
    chosen = (document for document, has_score in zip(documents, scored, strict=True) if has_score)
    ids = pa.chunked_array([chunk for name in names for chunk in parts[name].table.ids.chunks], pa.string())
    scores = np.concatenate([measured[name].scores[signal.name][measured[name].scored] for name in names])
    shared = smoothed(scores, word_table(chosen, folder), folds(ids.filter(pa.array(scored))))
    ends = np.cumsum([int(measured[name].scored.sum()) for name in names])[:-1]
    for name, part in zip(names, np.split(shared, ends), strict=True):
        measured[name].scores[signal.name][measured[name].scored] = part


def _batches(table: TokenTable, measured: _Measured) -> Iterator[pa.RecordBatch]:
    """Yield the forgetting table, some rows at a time."""
    ids, start = table.ids, 0
    for forgotten in table.words(measured.forgotten):
        rows = slice(start, start + len(forgotten))
        start += len(forgotten)
        columns = {
            "id": ids[rows].combine_chunks(),
            "row": table.rows[rows],
            "tokens": table.counts[rows],
            "truncated": table.truncated[rows],
        }
        if measured.scored.any():
            unknown = ~measured.scored[rows]
            columns["never_learned"] = pa.array(measured.never_learned[rows], mask=unknown)
            words = pc.if_else(pa.array(unknown), pa.scalar(None, forgotten.type), forgotten)
            for name, scores in measured.scores.items():
                values = (pa.array(column, mask=unknown) for column in scores[rows].T)
                columns |= dict(zip(columns_of(SIGNALS[name]), (*values, words), strict=True))
        yield pa.record_batch(columns)


def _joined(learned: Path, reviewed: Sequence[Path]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield shards of the scores before and after the review, aligned by id; the latter averaged over the reviews."""
    before = sorted(learned.glob(SHARDS))
    for folder in reviewed:
        if [file.name for file in before] != sorted(file.name for file in folder.glob(SHARDS)):
            raise RunError(f"{learned} and {folder} do not hold the same shards; pass --overwrite to start again")
    for file in before:
        scored = pq.read_table(file)
        yield scored, _mean([_aligned(scored, file, folder / file.name) for folder in reviewed])


def _aligned(scored: pa.Table, file: Path, other: Path) -> pa.Table:
    """Read another file's scores of the same rows, in the same order."""
    unordered = pq.read_table(other)
    order = pc.index_in(scored.column("id"), value_set=unordered.column("id").combine_chunks())
    if len(scored) != len(unordered) or order.null_count:
        raise RunError(f"{file} and {other} are not scores of the same rows; pass --overwrite to start again")
    return unordered.take(order)


def _mean(tables: Sequence[pa.Table]) -> pa.Table:
    """Average several tables of scores of the same rows."""
    first, *others = tables
    if not others:
        return first
    name = "logprobs" if "logprobs" in first.column_names else "rouge"
    columns = [table.column(name).combine_chunks() for table in tables]
    lists = name == "logprobs"
    values = np.mean([(pc.list_flatten(c) if lists else c).to_numpy().astype(np.float64) for c in columns], axis=0)
    lengths = pc.list_value_length(columns[0]).to_numpy() if lists else np.empty(0, np.int64)
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    mean = pa.ListArray.from_arrays(ends, pa.array(values)) if lists else pa.array(values)
    return first.set_column(first.column_names.index(name), name, mean)
