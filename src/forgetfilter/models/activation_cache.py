"""Cache the activations of the frozen blocks, so that training and scoring start from them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
from torch import Tensor

from ..data.tokens import Tokens, TokenTable
from ..errors import RunError
from ..runs.checksums import hash_part
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

    def __init__(self, model: TrainableModel, tokens_per_pass: int) -> None:
        self._model, self.tokens_per_pass = model, tokens_per_pass

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        activations = self._model.scorer.eval().read(rows)
        for row, states in zip(rows, activations, strict=True):
            assert isinstance(row, KnownTokens)
            assert isinstance(row.states, States)
            row.states.write(row.place, states)
        return [{} for _ in rows]


def keep_states(
    model: TrainableModel,
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
    main, wait = model.accelerator.is_main_process, model.accelerator.wait_for_everyone
    table, states = TokenTable(path), folder / ACTIVATIONS
    if main and not states.exists():
        (folder / ROWS_DONE).unlink(missing_ok=True)
        _reserve(states, States.size(table.lengths, model.width, model.hardware.dtype))
    wait()
    if not states.exists():
        return False
    if main:
        check_states(folder)
    chunks, stored = _read_chunks(folder), _open(model, table, folder, writable=True)
    known = KnownTable([path], [stored])
    scorer, rows = Reading(model, tokens_per_pass), table.scorable
    done = chunks[-1].rows if chunks else 0
    on_resume(done)
    for first in range(done, len(rows), _ROWS_AT_ONCE):
        chosen = rows[first : first + _ROWS_AT_ONCE]
        score_in_memory(model, scorer, known, chosen, on_rows)
        stored.flush()
        wait()
        if main:
            start, end = chunks[-1].end if chunks else 0, stored.end(int(chosen[-1]))
            chunks.append(_Chunk(first + len(chosen), end, hash_part(states, start, end)))
            write_text("".join(map(str, chunks)), folder / ROWS_DONE)
    return True


class _Chunk(NamedTuple):
    """Records that the activations of some rows are cached.

    Attributes:
        rows: How many rows are cached up to its last.
        end: Where it ends in the file, in bytes; 0 where an earlier version wrote it.
        hash: Of its bytes, as `hash_part` computes it; empty where an earlier version wrote it.
    """

    rows: int
    end: int = 0
    hash: str = ""

    @classmethod
    def parse(cls, line: str) -> _Chunk:
        rows, *more = line.split()
        return cls(int(rows), int(more[0]), more[1]) if more else cls(int(rows))

    def __str__(self) -> str:
        return f"{self.rows} {self.end} {self.hash}\n"


def check_states(folder: Path) -> None:
    """Check that the activations which are cached in a folder are as they were written, chunk by chunk.

    Raises:
        RunError: They are not.
    """
    start = 0
    for chunk in _read_chunks(folder):
        if chunk.hash and hash_part(folder / ACTIVATIONS, start, chunk.end) != chunk.hash:
            raise RunError(
                f"{folder / ACTIVATIONS}: changed since it was written: its checksum differs; delete {folder} and run "
                "the same command again"
            )
        start = chunk.end


def _read_chunks(folder: Path) -> list[_Chunk]:
    path = folder / ROWS_DONE
    try:
        return [_Chunk.parse(line) for line in path.read_text().splitlines()] if path.exists() else []
    except (ValueError, IndexError) as error:
        raise RunError(
            f"{path}: changed since it was written; delete {folder} and run the same command again"
        ) from error


def _reserve(path: Path, size: int) -> None:
    """Create a file of this size, unless the disk has too little room."""
    if size > _MOST * shutil.disk_usage(path.parent).free:
        return
    # Writing to a mapped file on a full disk would kill the process.
    with suppress(OSError), written_whole(path, changes=True) as beside, beside.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


class ComputedStates:
    """Computes the activations of rows each time they are read, where they are not cached.

    Args:
        model: The model.
        table: The rows.
    """

    def __init__(self, model: TrainableModel, table: TokenTable) -> None:
        self._model, self._table = model, table

    def __len__(self) -> int:
        return len(self._table)

    def read(self, i: int) -> Tensor:
        """Compute the activations of a row, shape (length, width)."""
        (states,) = self._model.scorer.read([self._table[i]])
        # A copy made outside inference mode is an ordinary tensor, which autograd accepts.
        return states.clone()


def known_table(model: TrainableModel, paths: Sequence[Path], folders: Sequence[Path]) -> KnownTable:
    """Open files of tokens with their activations: those that `keep_states` cached in a folder, or else computed."""
    opened: list[Readable] = []
    for path, folder in zip(paths, folders, strict=True):
        table = TokenTable(path)
        cached = (folder / ACTIVATIONS).exists()
        opened.append(_open(model, table, folder) if cached else ComputedStates(model, table))
    return KnownTable(paths, opened)


def _open(model: TrainableModel, table: TokenTable, folder: Path, *, writable: bool = False) -> States:
    return States(folder / ACTIVATIONS, table.lengths, model.width, model.hardware.dtype, writable=writable)
