"""Cache the activations of the frozen blocks, so that training and scoring start from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from torch import Tensor

from ..data.tokens import Tokens, TokenTable
from ..runs.files import write_text, written_whole
from ..runs.layout import ACTIVATIONS, ROWS_DONE
from .activations import KnownTable, KnownTokens, Readable, States
from .micro_batches import Work
from .scoring import score_in_memory
from .trainable_model import TrainableModel

_ROWS_AT_ONCE = 4096
# Largest share of the free disk space that the cache may take.
_MOST = 0.5


class Reading:
    """Writes the hidden states of rows into the cache, in the manner of a scorer; it returns no results."""

    schema: ClassVar[dict[str, pa.DataType]] = {}
    work: ClassVar[Work] = "score"

    def __init__(self, session: TrainableModel, tokens_per_pass: int) -> None:
        self._session, self.tokens_per_pass = session, tokens_per_pass

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        activations = self._session.scorer.eval().read(rows)
        for row, states in zip(rows, activations, strict=True):
            assert isinstance(row, KnownTokens)
            assert isinstance(row.states, States)
            row.states.write(row.place, states)
        return [{} for _ in rows]


def keep_states(
    session: TrainableModel,
    path: Path,
    folder: Path,
    tokens_per_pass: int,
    on_rows: Callable[[int], None] = lambda _: None,
    on_resume: Callable[[int], None] = lambda _: None,
) -> bool:
    """Cache in `folder` the activations of the frozen blocks for the rows in a file of tokens.

    Rows are worked on in chunks of some thousand; a killed process goes on after the last finished chunk.

    Returns:
        Whether they are cached; they are not if the disk has too little room.
    """
    main, wait = session.accelerator.is_main_process, session.accelerator.wait_for_everyone
    table, states, progress = TokenTable(path), folder / ACTIVATIONS, folder / ROWS_DONE
    if main and not states.exists():
        _reserve(states, States.size(table.lengths, session.width, session.hardware.dtype))
    wait()
    if not states.exists():
        return False
    stored = _open(session, table, folder, writable=True)
    known = KnownTable([path], [stored])
    scorer, rows = Reading(session, tokens_per_pass), table.scorable
    done = int(progress.read_text()) if progress.exists() else 0
    on_resume(done)
    for first in range(done, len(rows), _ROWS_AT_ONCE):
        chosen = rows[first : first + _ROWS_AT_ONCE]
        score_in_memory(session, scorer, known, chosen, on_rows)
        stored.flush()
        wait()
        if main:
            write_text(str(first + len(chosen)), progress)
    return True


def _reserve(path: Path, size: int) -> None:
    """Create a file of this size, unless the disk has too little room."""
    if size > _MOST * shutil.disk_usage(path.parent).free:
        return
    # Writing to a mapped file on a full disk would kill the process.
    with suppress(OSError), written_whole(path) as beside, beside.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


class ComputedStates:
    """Computes the activations of rows each time they are read, where they are not cached.

    Args:
        session: The model.
        table: The rows.
    """

    def __init__(self, session: TrainableModel, table: TokenTable) -> None:
        self._session, self._table = session, table

    def __len__(self) -> int:
        return len(self._table)

    def read(self, i: int) -> Tensor:
        """Compute the activations of a row, shape (length, width)."""
        (states,) = self._session.scorer.read([self._table[i]])
        # A copy made outside inference mode is an ordinary tensor, which autograd accepts.
        return states.clone()


def known_table(session: TrainableModel, paths: Sequence[Path], folders: Sequence[Path]) -> KnownTable:
    """Open files of tokens with their activations: those that `keep_states` cached in a folder, or else computed."""
    opened: list[Readable] = []
    for path, folder in zip(paths, folders, strict=True):
        table = TokenTable(path)
        cached = (folder / ACTIVATIONS).exists()
        opened.append(_open(session, table, folder) if cached else ComputedStates(session, table))
    return KnownTable(paths, opened)


def _open(session: TrainableModel, table: TokenTable, folder: Path, *, writable: bool = False) -> States:
    return States(folder / ACTIVATIONS, table.lengths, session.width, session.hardware.dtype, writable=writable)
