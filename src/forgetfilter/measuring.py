"""From scores under both models to one table: how much of each row was forgotten, by every signal at hand.

Computed once, so that deciding again reads a few numbers per row, whatever the length of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .data.tokens import TokenTable
from .errors import RunError
from .filtering.signals import LIKELIHOOD, LIKELIHOOD_MEAN, ROUGE, Scores, Signal, likelihood_scores

# Below these scores under M1 a completion was never learned, so nothing of it can be forgotten: its tokens
# have less than one chance in eight each, on (geometric) average; or the answer shares less than a quarter
# of the words.
NEVER_LEARNED_LOGPROB = float(np.log(0.125))
NEVER_LEARNED_ROUGE = 0.25


def columns_of(signal: Signal) -> tuple[str, str, str]:
    """Where a table of forgetting keeps this signal: learned score, reviewed score, most forgotten words."""
    return f"{signal.name}.learned", f"{signal.name}.reviewed", f"{signal.name}.words"


def measure_forgetting(table: TokenTable, learned: Path, reviewed: Path, scoring: str, path: Path) -> None:
    """Write the table of forgetting for all rows of a data set, in the order of the input.

    Args:
        table: Tokens of the data set.
        learned: Folder with the scores under M1, as `models.scoring.score` writes them.
        reviewed: The same under M2.
        scoring: Which kind of scores they are, `likelihood` or `rouge`.
        path: The Parquet file to write: `id`, `row`, `tokens` (of the completion), `truncated`,
            `never_learned`, and the columns of every signal of this kind; null where a row was not scored.

    Raises:
        RunError: The score tables are not of the same rows, or not of the rows of the data set.
    """
    ids = pa.array(table.ids(), pa.string())
    measure = _measure_likelihood if scoring == "likelihood" else _measure_rouge
    parts = []
    for before, after in _joined(learned, reviewed):
        positions = np.searchsorted(table.rows, before.column("row").to_numpy())
        if not ids.take(pa.array(positions)).equals(before.column("id").combine_chunks()):
            raise RunError(
                f"{learned}: these scores are not of the rows that were tokenised; pass --overwrite to start again"
            )
        columns = measure(before, after, [table.pieces(int(i)) for i in positions])
        parts.append(pa.table({"id": before.column("id"), **columns}))
    whole = {"id": ids, "row": table.rows, "tokens": table.counts, "truncated": table.truncated}
    if parts:
        measured = pa.concat_tables(parts)
        positions = pc.index_in(ids, value_set=measured.column("id").combine_chunks())
        whole |= {name: measured.column(name).take(positions) for name in measured.column_names if name != "id"}
    pq.write_table(pa.table(whole), path)


def _joined(learned: Path, reviewed: Path) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Shards of both score tables, the second aligned to the first by id."""
    before, after = sorted(learned.glob("part-*.parquet")), sorted(reviewed.glob("part-*.parquet"))
    if [file.name for file in before] != [file.name for file in after]:
        raise RunError(f"{learned} and {reviewed} do not hold the same shards; pass --overwrite to start again")
    for one, other in zip(before, after, strict=True):
        a, b = pq.read_table(one), pq.read_table(other)
        order = pc.index_in(a.column("id"), value_set=b.column("id").combine_chunks())
        if len(a) != len(b) or order.null_count:
            raise RunError(f"{one} and {other} are not scores of the same rows; pass --overwrite to start again")
        yield a, b.take(order)


def _measure_likelihood(before: pa.Table, after: pa.Table, pieces: list[list[str]]) -> dict[str, Any]:
    lengths = pc.list_value_length(before.column("logprobs")).to_numpy()
    learned, reviewed = (pc.list_flatten(t.column("logprobs")).to_numpy().astype(np.float64) for t in (before, after))
    columns: dict[str, Any] = {}
    for signal in (LIKELIHOOD_MEAN, LIKELIHOOD):
        scores, order = likelihood_scores(learned, reviewed, lengths, signal.tokens)
        words = [[text[i] for i in row if i >= 0] for text, row in zip(pieces, order.tolist(), strict=True)]
        columns |= _columns(signal, scores, words)
        if signal is LIKELIHOOD_MEAN:
            columns["never_learned"] = scores.learned < NEVER_LEARNED_LOGPROB
    return columns


def _measure_rouge(before: pa.Table, after: pa.Table, pieces: list[list[str]]) -> dict[str, Any]:
    scores = Scores(before.column("rouge").to_numpy(), after.column("rouge").to_numpy())
    never = scores.learned < NEVER_LEARNED_ROUGE
    return {"never_learned": never, **_columns(ROUGE, scores, [[] for _ in pieces])}


def _columns(signal: Signal, scores: Scores, words: list[list[str]]) -> dict[str, Any]:
    values = scores.learned, scores.reviewed, pa.array(words, pa.list_(pa.string()))
    return dict(zip(columns_of(signal), values, strict=True))
