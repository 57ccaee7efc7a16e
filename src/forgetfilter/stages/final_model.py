"""What the final model is made from: the rows that are kept, and what tells one making of it from another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.rows import Rows
from ..data.tokens import Encoder, write_tokens
from ..decision.decide import Summary
from ..decision.overrides import KEPT
from ..decision.verdicts import UNSCORABLE
from ..runs.inputs import start_afresh
from ..runs.run import SCORES

WHOLE_TOKENS = "tokens.arrow"
_DECISION = "decision.json"


def kept_rows(output: Path, summary: Summary) -> NDArray[np.int64]:
    """Return the positions in the input of the rows that a run kept."""
    decided = pq.read_table(output / SCORES, columns=["row", "decision"])
    kept = [KEPT] if summary.drop_unscorable else [KEPT, UNSCORABLE]
    rows: NDArray[np.int64] = decided.column("row").to_numpy()
    return rows[np.isin(decided.column("decision").to_numpy().astype(str), kept)]


def prepare(folder: Path, rows: Rows, encoder: Encoder, summary: Summary, epochs: float) -> None:
    """Make a folder ready for training: empty unless it is of this decision, with the tokens of all rows in it."""
    if not made_from(folder, summary, epochs):
        start_afresh(folder)
        (folder / _DECISION).write_text(_made_of(summary, epochs), encoding="utf-8")
    tokens = folder / WHOLE_TOKENS
    if not tokens.exists():
        beside = tokens.with_suffix(".partial")
        for _ in write_tokens(rows.usable(), encoder, beside):
            pass
        beside.replace(tokens)


def made_from(folder: Path, summary: Summary, epochs: float) -> bool:
    """Tell whether the model in a folder was made from this decision in this number of epochs."""
    made = folder / _DECISION
    return made.is_file() and made.read_text(encoding="utf-8") == _made_of(summary, epochs)


def _made_of(summary: Summary, epochs: float) -> str:
    return json.dumps([summary.key, epochs])
