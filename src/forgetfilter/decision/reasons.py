"""Write the table of every row's scores, and the reason why each removed row was removed.

Both are written some rows at a time, because sentences about a million rows would fill the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import regex
from numpy.typing import NDArray

from ..classifiers.judge import UNSAFE
from ..console import printable
from ..data.rows import Rows
from ..data.tables import write_parquet
from ..forgetting.cuts import Cut
from ..forgetting.measuring import columns_of
from ..forgetting.pairs import Pairs
from ..forgetting.signals import RIVAL, Scores, Signal, Suspicion
from ..runs.layout import rival_stage
from ..suspicion.fusing import PROTOTYPES, STATES, WORDS
from .overrides import FILTER, KEPT, REMOVED
from .verdicts import DECISIONS, UNSCORABLE, Measured, Verdicts

BAD = "bad"
# Further columns of the score table where the data holds preferences.
PAIR_FIELDS = (("rejected_forgetting", pa.float64()), ("looks_swapped", pa.bool_()))
# Those where a guard model was asked.
GUARD_FIELDS = (("guard", pa.float64()), ("guard_categories", pa.list_(pa.string())))
_AT_ONCE = 1 << 14
# A token of a chat template, such as <|im_end|>, </s> or [EOS].
TEMPLATE_TOKEN = regex.compile(r"\s*(?:<[^<>\s]+>|\[/?[A-Z_]+\])\s*")
_WORDS_SHOWN, _WORD_WIDTH, _CATEGORIES_WIDTH = 3, 24, 80
_UNSCORABLE_BECAUSE = "no score: nothing of its completion is within the length limit, or it has no words"


_FILE = (("file", pa.string()),)
# Prefix of the score table's columns for the parts of suspicion, and the names of these parts in sentences.
BY = "by_"
EVIDENCE = {
    WORDS: "its words",
    STATES: "what the model makes of it",
    PROTOTYPES: "likeness to the package's unsafe examples",
}


@dataclass(frozen=True)
class GuardOpinion:
    """What a guard model makes of n rows.

    Attributes:
        unsafe: P(unsafe), 0 to 1, shape (n,); NaN where it came to no verdict.
        categories: What it finds in each unsafe row, n lists of texts.
    """

    unsafe: NDArray[np.floating]
    categories: pa.ChunkedArray


@dataclass(frozen=True)
class Decided:
    """A decision about all rows, and what it rests on.

    Attributes:
        signal: The signal that decides.
        threshold: The threshold as the user gave it.
        cut: The cut that the threshold chose.
        measured: Measurements of the rows.
        verdicts: The decision about each row.
        reviewer: The person who decided about some rows.
        pairs: For preference data, how rejected answers compare with chosen ones.
        guard: What a guard model makes of the rows, if one was asked.
    """

    signal: Signal
    threshold: str
    cut: Cut
    measured: Measured
    verdicts: Verdicts
    reviewer: str
    pairs: Pairs | None = None
    guard: GuardOpinion | None = None


def found_by_guard(unsafe: float, categories: list[str]) -> str:
    """Phrase what a guard model makes of a row that it finds unsafe; empty where it does not."""
    if not unsafe > UNSAFE:
        return ""
    named = printable(", ".join(categories), _CATEGORIES_WIDTH)
    return f"unsafe: {named}" if named else "unsafe"


def evidence_label(name: str) -> str:
    """Name a part of suspicion in a sentence; a rival keeps its own name."""
    return EVIDENCE.get(name, name.removeprefix(rival_stage("")))


def write_scores(decided: Decided, forgetting: Path, rows: Rows, path: Path) -> None:
    """Write the table of every row's scores, decision and reason.

    Args:
        decided: The decision.
        forgetting: The table that `measuring` wrote, with the rows in the same order.
        rows: The data. If it has several files, the table names each row's file.
        path: Where to write.
    """
    words = columns_of(decided.signal)[2]
    file = pq.ParquetFile(forgetting)
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("row", pa.int64()),
            *(_FILE if len(rows.sources) > 1 else ()),
            ("learned", pa.float64()),
            ("reviewed", pa.float64()),
            ("forgetting", pa.float64()),
            ("suspicion", pa.float64()),
            *_evidence_fields(decided),
            ("decision", pa.string()),
            ("reason", pa.string()),
            ("decided_by", pa.string()),
            ("most_forgotten", file.schema_arrow.field(words).type),
            ("tokens", pa.int64()),
            ("truncated", pa.bool_()),
            ("never_learned", pa.bool_()),
            ("covered", pa.bool_()),
            *(PAIR_FIELDS if decided.pairs else ()),
            *(GUARD_FIELDS if decided.guard else ()),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in file.iter_batches(_AT_ONCE, columns=["id", "tokens", words]):
            here = slice(start, start + len(batch))
            start += len(batch)
            columns = _columns(decided, here, batch.column(words))
            columns["file"] = rows.files(decided.measured.rows[here])
            columns |= {name: batch.column(name) for name in ("id", "tokens")}
            yield pa.record_batch([pa.array(columns[name], schema.field(name).type) for name in schema.names], schema)

    write_parquet(batches(), schema, path)


def write_reasons(decided: Decided, scores: Path, rows: Rows, path: Path) -> None:
    """Write a line of JSON for each row that is not kept.

    Args:
        decided: The decision.
        scores: The table that `write_scores` wrote.
        rows: The data, whose bad rows get a line, too.
        path: Where to write.
    """
    columns = ["id", "row", "learned", "reviewed", "forgetting", "suspicion", "decision", "reason", "decided_by"]
    columns += [name for name, _ in PAIR_FIELDS] if decided.pairs else []
    columns += [name for name, _ in GUARD_FIELDS] if decided.guard else []
    columns += [name for name, _ in _FILE] if len(rows.sources) > 1 else []
    start = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in pq.ParquetFile(scores).iter_batches(_AT_ONCE, columns=columns):
            gone = decided.verdicts.gone[start : start + len(batch)]
            start += len(batch)
            for row in batch.filter(pa.array(gone)).to_pylist():
                finite = {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
                file.write(json.dumps(finite | {"threshold": decided.cut.value}, ensure_ascii=False) + "\n")
        for bad in rows.bad:
            line = {"id": None, "row": bad.row, "decision": BAD, "reason": str(bad), "decided_by": FILTER}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _columns(decided: Decided, rows: slice, words: pa.ListArray) -> dict[str, Any]:
    """Build the columns of `scores.parquet` for some rows, except those that are copied from the forgetting table."""
    measured, verdicts = decided.measured, decided.verdicts
    scores = measured.scores.part(rows)
    further: dict[str, Any] = {}
    if decided.pairs:
        further = {"rejected_forgetting": decided.pairs.rejected[rows], "looks_swapped": decided.pairs.swapped[rows]}
    if decided.guard:
        categories = decided.guard.categories[rows].combine_chunks()
        further |= {"guard": decided.guard.unsafe[rows], "guard_categories": categories}
    return further | {
        "row": measured.rows[rows],
        "learned": scores.learned,
        "reviewed": scores.reviewed,
        "forgetting": scores.forgetting,
        "suspicion": scores.suspicion,
        **{BY + name: values for name, values in _evidence(scores).items()},
        "decision": _names_at(verdicts.decisions[rows], DECISIONS),
        "reason": _reasons(decided, rows, words),
        "decided_by": _names_at(verdicts.by_person[rows], (FILTER, decided.reviewer)),
        "most_forgotten": words,
        "truncated": measured.truncated[rows],
        "never_learned": measured.never_learned[rows],
        "covered": verdicts.covered[rows],
    }


def _names_at(indices: NDArray[Any], names: tuple[str, ...]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(indices.astype(np.int8)))


def _reasons(decided: Decided, rows: slice, words: pa.ListArray) -> NDArray[np.object_]:
    """Explain in a sentence why each of some rows is kept or removed."""
    cut, signal, verdicts = decided.cut.value, decided.signal, decided.verdicts
    unit, rival = signal.unit, signal.scoring == RIVAL
    limit = f"{decided.threshold} removed nothing" if cut is None else f"the threshold is {cut:.3g} {unit}"
    by_filter = verdicts.by_filter[rows]
    below = limit if cut is None else f"not {signal.quality} enough; {limit}"
    reasons = np.full(len(by_filter), below, dtype=object)
    if not signal.fused:
        reasons[decided.measured.never_learned[rows]] = f"never learned, so its forgetting says little; {limit}"
    reasons[by_filter == DECISIONS.index(UNSCORABLE)] = _UNSCORABLE_BECAUSE
    removed = np.flatnonzero(by_filter == DECISIONS.index(REMOVED))
    scores = decided.measured.scores.part(rows)
    suspicion, evidence = scores.suspicion, _evidence(scores)
    for i, forgotten_words in zip(removed, words.take(pa.array(removed)).to_pylist(), strict=True):
        amount = f"{suspicion[i]:.3g} {unit}"
        if rival:
            reasons[i] = f"suspicious to {signal.name}, by {signal.summary}: {amount} ({limit})"
            continue
        most_forgotten = _most_forgotten(forgotten_words)
        before_and_after = f"({scores.learned[i]:.3g} before, {scores.reviewed[i]:.3g} after"
        if signal.fused:
            contributions = {name: float(v[i]) for name, v in evidence.items() if round(float(v[i]), 1)}
            shown = [f"{evidence_label(name)} {value:+.1f}" for name, value in _largest_first(contributions)]
            reasons[i] = f"suspicious by {amount} ({limit}): {'; '.join(shown)}"
            if not np.isnan(scores.learned[i]):
                reasons[i] += (
                    f"; forgotten by {scores.forgetting[i]:.3g} nats per token {before_and_after}){most_forgotten}"
                )
            continue
        reasons[i] = (
            f"reviewing safe examples made the model forget it by {amount} {before_and_after}; {limit}){most_forgotten}"
        )
    _add_pairs(reasons, decided, rows, removed)
    _add_guard(reasons, decided, rows)
    for i in np.flatnonzero(verdicts.overridden[rows]):
        verdict = REMOVED if verdicts.gone[rows][i] else KEPT
        reasons[i] = f"{verdict} by {printable(decided.reviewer, _WORD_WIDTH)}; the filter said: {reasons[i]}"
    return reasons


def _most_forgotten(words: list[str]) -> str:
    """Phrase the words that were forgotten most as the end of a sentence."""
    different = list(
        dict.fromkeys(word for word in words if word.strip() and not TEMPLATE_TOKEN.fullmatch(word.strip()))
    )
    shown = [f"“{printable(word, _WORD_WIDTH)}”" for word in different[:_WORDS_SHOWN]]
    return f", most of all {', '.join(shown)}" if shown else ""


def _largest_first(contributions: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(contributions.items(), key=lambda item: -item[1])


def _evidence(scores: Scores) -> Mapping[str, NDArray[np.floating]]:
    """Return the contribution of each kind of evidence to suspicion; empty where a single signal decides."""
    return scores.parts if isinstance(scores, Suspicion) else {}


def _evidence_fields(decided: Decided) -> list[tuple[str, pa.DataType]]:
    return [(BY + name, pa.float64()) for name in _evidence(decided.measured.scores)]


def _add_pairs(reasons: NDArray[np.object_], decided: Decided, rows: slice, removed: NDArray[np.intp]) -> None:
    """Add to the reasons of removed rows, and of all that look swapped, how the rejected answer compares."""
    if decided.pairs is None:
        return
    rejected, swapped = decided.pairs.rejected[rows], decided.pairs.swapped[rows]
    for i in np.union1d(removed, np.flatnonzero(swapped)):
        if np.isnan(rejected[i]):
            continue
        only = "only " if swapped[i] else ""
        reasons[i] += f"; its rejected answer was forgotten by {only}{rejected[i]:.3g}"
        reasons[i] += ", so the two look swapped" if swapped[i] else ""


def _add_guard(reasons: NDArray[np.object_], decided: Decided, rows: slice) -> None:
    """Add to the reasons of rows that a guard model finds unsafe, kept ones included, what it finds."""
    if decided.guard is None:
        return
    unsafe, categories = decided.guard.unsafe[rows], decided.guard.categories[rows]
    for i in np.flatnonzero(unsafe > UNSAFE):
        reasons[i] += f"; a guard model finds it {found_by_guard(unsafe[i], categories[int(i)].as_py())}"
