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
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ..data.chats import Chat
from ..data.containers import open_container
from ..data.draw import evenly_by_id
from ..data.rows import ReadOptions, Said, read_chats
from ..data.tokens import TokenTable, write_tokens
from ..errors import RunError
from ..forgetting.measuring import untrained_columns
from ..forgetting.signals import SUSPICION
from ..metrics.text import words
from ..models.stage_runner import BASE, Workbench
from ..runs.inputs import BUILTIN, TRUSTED, Material, prototypes, start_afresh
from ..runs.run import Stages
from ..settings.groups import Settings
from ..suspicion.basis import Basis
from ..suspicion.likeness import Marks
from ..suspicion.word_table import Vocabulary, WordTable, shared_words

if TYPE_CHECKING:
    from ..models.scoring import Scorer

WITNESSES = "witnesses"
# The package's own rows, to compare with: unsafe ones, safe answers to prompts of the same kinds, ordinary ones.
UNSAFE_PROTOTYPES, SAFE_PROTOTYPES, ORDINARY_PROTOTYPES = "builtin-unsafe", "builtin-safe", "builtin-ordinary"
PROTOTYPES = (UNSAFE_PROTOTYPES, SAFE_PROTOTYPES, ORDINARY_PROTOTYPES)
# So many of each notion, and so many ordinary ones, tell as much as more of them (docs/evidence.md).
_OF_A_NOTION, _ORDINARY = 20, 60
# How far up the model the beginning of each answer is looked at.
_DEPTHS = (0.5, 0.75)
# So many rows tell which directions matter.
_SAMPLE = 2048
_ROWS, _STATES, _WORDS = "rows.parquet", "states.npy", "words"
# What further rows are looked at with.
_BASIS, _VOCABULARY = "basis.npz", "vocabulary.parquet"
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

    def followed_by(self, other: Witnesses, folder: Path) -> Witnesses:
        """These rows and then others that were looked at likewise; in files without a name in a folder."""
        return Witnesses(
            np.concatenate([self.part, other.part]),
            pa.chunked_array([*self.ids.chunks, *other.ids.chunks], pa.string()),
            self.marks.followed_by(other.marks, folder),
        )


def read_witnesses(stages: Stages, stage: str = WITNESSES) -> Witnesses:
    """What `measure_witnesses` kept in a run, or `look_further` in a stage of it."""
    folder = stages.folder(stage)
    rows = pq.read_table(folder / _ROWS)
    states = np.load(folder / _STATES, mmap_mode="r")
    part = rows.column("part").to_numpy(zero_copy_only=False).astype(str)
    return Witnesses(part, rows.column("id"), Marks(WordTable.load(folder / _WORDS), states))


def no_witnesses(stages: Stages) -> RunError:
    """What is wrong where a run has none."""
    return RunError(
        f"{stages.path}: has no scores for the signal 'suspicion'; run its 'forgetfilter filter' command again to add "
        "what is missing, without --signal, or decide with --signal likelihood"
    )


def can_look_further(stages: Stages) -> bool:
    """Whether a run keeps what further rows are looked at with, which earlier versions did not."""
    return all((stages.folder(WITNESSES) / name).is_file() for name in (_BASIS, _VOCABULARY))


def look_further(bench: Workbench, name: str, table: TokenTable, answers: Iterable[str], folder: Path) -> None:
    """Look at further rows as those of a run were looked at; in one process.

    Args:
        bench: The model, with the run for its stages.
        name: What part the rows are.
        table: Their tokens.
        answers: The completion of each.
        folder: Where to keep what `read_witnesses` reads.
    """
    kept, states = bench.stages.folder(WITNESSES), folder / name
    bench.bring(BASE)
    _look(bench, _scorer(bench), name, table, states)
    rows = _rows({name: table})
    pq.write_table(rows, folder / _ROWS)
    _keep_states([states], Basis.load(kept / _BASIS), len(rows), folder / _STATES)
    start_afresh(folder / _WORDS)
    documents = (_marks_of(text) for text in _with_tokens(answers, table))
    Vocabulary.load(kept / _VOCABULARY).weigh(documents, folder).save(folder / _WORDS)
    shutil.rmtree(states)


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
    shown = {name: list(_prototypes(name, material, bench.settings)) for name in PROTOTYPES}
    if bench.processes.main:
        for name, prototypes_shown in shown.items():
            _write_prototypes(prototypes_shown, bench, folder / f"{name}.arrow")
    bench.processes.wait()
    files |= {name: file for name in PROTOTYPES if (file := folder / f"{name}.arrow").exists()}
    scorer = _scorer(bench)
    for name, file in files.items():
        table = TokenTable(file) if name in PROTOTYPES else bench.tokens({name: file})
        _look(bench, scorer, name, table, folder / name)
    if not bench.processes.main:
        return
    tables = {name: TokenTable(file) for name, file in files.items()}
    rows = _rows(tables)
    pq.write_table(rows, folder / _ROWS)
    states = [folder / name for name in files]
    basis = _find_basis(states, rows.column("id"))
    basis.save(folder / _BASIS)
    _keep_states(states, basis, len(rows), folder / _STATES)
    start_afresh(folder / _WORDS)
    answers: dict[str, Iterable[str]] = {name: [chat.completion for *_, chat in shown[name]] for name in PROTOTYPES}
    answers |= {name: (text for _, text in material.texts(name)) for name in tables if name not in PROTOTYPES}
    documents = (_marks_of(text) for name, table in tables.items() for text in _with_tokens(answers[name], table))
    in_rows, vocabulary = shared_words(documents, folder)
    in_rows.save(folder / _WORDS)
    vocabulary.save(folder / _VOCABULARY)
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


def _scorer(bench: Workbench) -> Scorer:
    """The mean hidden states that are looked at."""
    from ..models.hidden_states import HiddenStates, View

    return HiddenStates(bench.session, bench.budget, [View("beginning", depth) for depth in _DEPTHS])


def _look(bench: Workbench, scorer: Scorer, name: str, table: TokenTable, states: Path) -> None:
    """Write the mean hidden states of a part's rows, those that have a completion, in order."""
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


def _find_basis(folders: list[Path], ids: pa.ChunkedArray) -> Basis:
    """The directions in which rows differ most, told by some that are drawn by their ids."""
    count = len(ids)
    chosen = np.zeros(count, dtype=bool)
    chosen[evenly_by_id(ids, _SAMPLE)] = True
    sample, start = [], 0
    for states in _shards(folders):
        sample.append(states[chosen[start : start + len(states)]])
        start += len(states)
    return Basis.of(np.concatenate(sample), len(_DEPTHS))


def _keep_states(folders: list[Path], basis: Basis, count: int, path: Path) -> None:
    """Project the states of so many rows, and keep what is left of them."""
    beside, start = path.with_suffix(".partial"), 0
    kept = open_memmap(beside, mode="w+", dtype=np.float16, shape=(count, basis.size))
    for states in _shards(folders):
        kept[start : start + len(states)] = basis.project(states)
        start += len(states)
    kept.flush()
    beside.replace(path)


def _shards(folders: list[Path]) -> Iterator[NDArray[np.float32]]:
    for folder in folders:
        for file in sorted(folder.glob("part-*.parquet")):
            column = pq.read_table(file, columns=["states"]).column("states").combine_chunks()
            yield column.values.to_numpy().reshape(len(column), -1)
