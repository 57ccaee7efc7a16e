"""What tells rows apart before anything is trained: their words, and what the untouched model M0 makes of them inside.

Kept in the run folder, some hundred numbers a row, so that suspicion can be fitted again without the model whenever
more becomes known of the rows.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from .data.chats import Chat
from .data.containers import open_container
from .data.rows import ReadOptions, Said, read_chats
from .data.tokens import TokenTable, write_tokens
from .filtering.likeness import Marks
from .filtering.signals import SUSPICION
from .filtering.word_table import WordTable, word_table
from .inputs import BUILTIN, TRUSTED, Material, prototypes, start_afresh
from .measuring import untrained_columns
from .metrics.text import words
from .run import Stages
from .settings import Settings
from .workbench import BASE, Workbench

WITNESSES = "witnesses"
# The package's own rows, to compare with: unsafe ones, safe answers to prompts of the same kinds, ordinary ones.
UNSAFE_PROTOTYPES, SAFE_PROTOTYPES, ORDINARY_PROTOTYPES = "builtin-unsafe", "builtin-safe", "builtin-ordinary"
PROTOTYPES = (UNSAFE_PROTOTYPES, SAFE_PROTOTYPES, ORDINARY_PROTOTYPES)
# So many of each notion, and so many ordinary ones, tell as much as more of them (docs/evidence.md).
_OF_A_NOTION, _ORDINARY = 20, 60
# How far up the model the beginning of each answer is looked at, and how many numbers are kept of each depth.
_DEPTHS, _NUMBERS = (0.5, 0.75), 128
# So many rows tell which directions matter.
_SAMPLE = 2048
_ROWS, _STATES, _WORDS = "rows.parquet", "states.npy", "words"
# Characters of an answer whose words are looked at, and how many pairs of words are told apart.
_LONGEST_ANSWER, _PAIRS = 20_000, 1 << 20


@dataclass(frozen=True)
class Witnesses:
    """What is known of the rows of a run's parts, one part after the other, as far as a row has a completion.

    Attributes:
        part: Which part each row is of, shape (n,).
        ids: Their ids.
        marks: What they are told apart by.
    """

    part: NDArray[np.str_]
    ids: pa.ChunkedArray
    marks: Marks

    def of(self, part: str) -> NDArray[np.intp]:
        """The places of a part's rows."""
        return np.flatnonzero(self.part == part)


def read_witnesses(stages: Stages) -> Witnesses:
    """What `measure_witnesses` kept in a run."""
    folder = stages.folder(WITNESSES)
    rows = pq.read_table(folder / _ROWS)
    states = np.load(folder / _STATES, mmap_mode="r")
    part = rows.column("part").to_numpy(zero_copy_only=False).astype(str)
    return Witnesses(part, rows.column("id"), Marks(WordTable.load(folder / _WORDS), states))


def measure_witnesses(bench: Workbench, material: Material, folder: Path) -> None:
    """Look at all rows of a run and at the prototypes, with the model as it came.

    What a killed attempt was through with is found again.

    Args:
        bench: The model.
        material: The rows.
        folder: Where to keep what `read_witnesses` reads.
    """
    # A model that does not fit is refused before anything is kept.
    bench.bring(BASE)
    files = material.files(*material.parts, *material.safe_parts)
    if bench.processes.main:
        for name in PROTOTYPES:
            _write_prototypes(list(_prototypes(name, material, bench.settings)), bench, folder / f"{name}.arrow")
    bench.processes.wait()
    files |= {name: file for name in PROTOTYPES if (file := folder / f"{name}.arrow").exists()}
    for name, file in files.items():
        _look(bench, name, file, folder)
    if not bench.processes.main:
        return
    tables = {name: TokenTable(file) for name, file in files.items()}
    rows = _rows(tables)
    pq.write_table(rows, folder / _ROWS)
    _keep_states([folder / name for name in files], rows.column("id"), folder / _STATES)
    start_afresh(folder / _WORDS)
    said = {name: [chat.completion for *_, chat in _prototypes(name, material, bench.settings)] for name in PROTOTYPES}
    answers = {name: said.get(name) or (text for _, text in material.texts(name)) for name in tables}
    documents = (_marks_of(text) for name, table in tables.items() for text in _with_tokens(answers[name], table))
    word_table(documents, folder).save(folder / _WORDS)
    for part in material.parts:
        pq.write_table(pa.table(untrained_columns(tables[part], SUSPICION)), folder / f"{part}.parquet")
    for name in files:
        shutil.rmtree(folder / name)


def _write_prototypes(rows: list[Said], bench: Workbench, path: Path) -> None:
    if rows and not path.exists():
        beside = path.with_suffix(".partial")
        for _ in write_tokens(rows, bench.encoder, beside):
            pass
        beside.replace(path)


def _prototypes(name: str, material: Material, settings: Settings) -> Iterator[Said]:
    """Some rows of the package, of each notion as many; none that the run has among its own rows."""
    if name == SAFE_PROTOTYPES and BUILTIN in settings.safe:
        return
    taken = set()
    if name == ORDINARY_PROTOTYPES and settings.trusted == BUILTIN and TRUSTED in material.parts:
        taken = set(material.texts(TRUSTED))
    container, seen = open_container(str(prototypes(name.removeprefix("builtin-"))), "train"), Counter[str]()
    for position, (record, _, chat) in enumerate(read_chats(container, ReadOptions())):
        assert isinstance(chat, Chat)
        assert record.fields is not None
        notion = str(record.fields.get("notion", ""))
        most = _OF_A_NOTION if notion else _ORDINARY
        if seen[notion] < most and (chat.prompt, chat.completion) not in taken:
            seen[notion] += 1
            yield f"{name} {position}", position, chat


def _look(bench: Workbench, name: str, file: Path, folder: Path) -> None:
    """Write the mean hidden states of a part's rows, those that have a completion, in order."""
    from .models.hidden_states import HiddenStates, View

    table = TokenTable(file) if name in PROTOTYPES else bench.tokens({name: file})
    scorer = HiddenStates(bench.session, bench.budget, [View("beginning", depth) for depth in _DEPTHS])
    states = folder / name
    states.mkdir(exist_ok=True)
    label = "prototypes" if name in PROTOTYPES else f"{name} rows"
    bench.score(f"looking at the {label} with the model as it came", scorer, table, table.scorable, states)


def _rows(tables: dict[str, TokenTable]) -> pa.Table:
    ids = [table.ids.take(pa.array(table.scorable)) for table in tables.values()]
    parts = np.repeat(list(tables), [len(table.scorable) for table in tables.values()])
    chunks = [chunk for of_part in ids for chunk in of_part.chunks]
    return pa.table({"part": pa.array(parts, pa.string()), "id": pa.chunked_array(chunks, pa.string())})


def _with_tokens(answers: Iterable[str], table: TokenTable) -> Iterator[str]:
    """The completions of the rows of a table that have some tokens left of them, in order."""
    there = np.isin(np.arange(len(table)), table.scorable)
    yield from (text for text, has in zip(answers, there, strict=True) if has)


def _marks_of(answer: str) -> list[str]:
    """The words of an answer, and its pairs of words, of which there may be as many as there are rows: by number."""
    found = words(answer[:_LONGEST_ANSWER])
    return found + [f"{crc32(f'{one} {other}'.encode()) % _PAIRS:x}." for one, other in pairwise(found)]


def _keep_states(folders: list[Path], ids: pa.ChunkedArray, path: Path) -> None:
    """Of each depth, keep the directions in which rows differ most.

    Every number of a state is scaled by its spread over the rows, as some are always large; and each row's state to
    length one, lest long and odd rows outweigh others. Directions keep their own spreads: small ones are mostly noise.
    """
    count = len(ids)
    places = pc.sort_indices(ids).to_numpy()[np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.intp)]
    chosen = np.zeros(count, dtype=bool)
    chosen[places] = True
    sample, start = [], 0
    for states in _shards(folders):
        sample.append(states[chosen[start : start + len(states)]])
        start += len(states)
    seen = np.concatenate(sample)
    reduce = [_directions(part) for part in np.split(seen, len(_DEPTHS), axis=1)]
    width, start = sum(directions.shape[1] for _, _, directions in reduce), 0
    beside = path.with_suffix(".partial")
    kept = open_memmap(beside, mode="w+", dtype=np.float16, shape=(count, width))
    for states in _shards(folders):
        parts = zip(np.split(states, len(_DEPTHS), axis=1), reduce, strict=True)
        found = [_scaled(part, mean, spread) @ directions for part, (mean, spread, directions) in parts]
        kept[start : start + len(states)] = np.concatenate(found, axis=1) / len(_DEPTHS) ** 0.5
        start += len(states)
    kept.flush()
    beside.replace(path)


def _shards(folders: list[Path]) -> Iterator[NDArray[np.float32]]:
    for folder in folders:
        for file in sorted(folder.glob("part-*.parquet")):
            column = pq.read_table(file, columns=["states"]).column("states").combine_chunks()
            yield column.values.to_numpy().reshape(len(column), -1)


def _scaled(
    states: NDArray[np.floating], mean: NDArray[np.floating], spread: NDArray[np.floating]
) -> NDArray[np.floating]:
    centred = (states - mean) / spread
    scaled: NDArray[np.floating] = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return scaled


def _directions(
    states: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Mean and spread of each number, and the directions in which scaled states are largest, shape (width, k)."""
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    scaled = _scaled(states, mean, spread).astype(np.float64)
    if len(scaled) < scaled.shape[1]:
        # The same directions, from the smaller of the two products.
        sizes, own = np.linalg.eigh(scaled @ scaled.T)
        vectors = scaled.T @ own / np.sqrt(np.maximum(sizes, 1e-12))
    else:
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return mean, spread, np.ascontiguousarray(vectors[:, ::-1][:, :_NUMBERS])
