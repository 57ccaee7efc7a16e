"""Compute the features of rows before anything is trained: their words, and their hidden states under M0.

They are kept in the run folder, a few hundred numbers per row, so that suspicion can be fitted again without the model
whenever more becomes known about the rows.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from ..data.draw import evenly_by_id
from ..data.records import hash_chunks
from ..data.rows import Said
from ..data.tokens import TokenTable, write_tokens
from ..errors import RunError
from ..forgetting.measuring import untrained_columns
from ..forgetting.signals import SUSPICION
from ..metrics.text import words
from ..models.sources import cache_folder
from ..models.stage_runner import BASE, StageRunner
from ..runs.files import forget, keep_once, start_afresh, written_whole
from ..runs.inputs import Material
from ..runs.layout import (
    ORDINARY_PROTOTYPES,
    SHARDS,
    WITNESS_BASIS,
    WITNESS_ROWS,
    WITNESS_STATES,
    WITNESS_VOCABULARY,
    WITNESS_WORDS,
    WITNESSES,
    table_of,
    tokens_of,
)
from ..runs.run import Run, Stages
from ..suspicion.basis import Basis
from ..suspicion.rules import Features
from ..suspicion.word_table import Vocabulary, WordTable, shared_words
from .prototypes import PROTOTYPES, choose_prototypes

if TYPE_CHECKING:
    from ..models.scoring import Scorer

# The states of unsafe and safe ones together. Which ordinary ones there are differs from run to run.
_OWN = "prototypes"
_GROUPS = {_OWN: PROTOTYPES[:-1], ORDINARY_PROTOTYPES: PROTOTYPES[-1:]}
# In the cache.
_CACHED = "states"
# Depths in the model, as shares of its blocks, at which hidden states of each answer's beginning are taken.
_DEPTHS = (0.5, 0.75)
# Rows that the basis is fitted to.
_SAMPLE = 2048
# Characters of an answer whose words count, and the number of hash buckets for pairs of words.
_LONGEST_ANSWER, _PAIRS = 20_000, 1 << 20


@dataclass(frozen=True)
class Witnesses:
    """Features of the rows of a run's parts that have a completion, one part after the other.

    Attributes:
        part: The part of each row, shape (n,).
        ids: The id of each row.
        features: The features of the rows.
    """

    part: NDArray[np.str_]
    ids: pa.ChunkedArray
    features: Features

    def of(self, part: str) -> NDArray[np.intp]:
        """Return the places of a part's rows."""
        return np.flatnonzero(self.part == part)

    def followed_by(self, other: Witnesses, folder: Path) -> Witnesses:
        """Append other rows whose features were computed in the same way, in unnamed files in `folder`."""
        return Witnesses(
            np.concatenate([self.part, other.part]),
            pa.chunked_array([*self.ids.chunks, *other.ids.chunks], pa.string()),
            self.features.followed_by(other.features, folder),
        )


def read_witnesses(stages: Stages, stage: str = WITNESSES) -> Witnesses:
    """Read what `measure_witnesses` kept in a run, or `measure_further` in a stage of it."""
    return read_witnesses_of(stages.folder(stage))


def read_witnesses_of(folder: Path) -> Witnesses:
    """Read what `measure_further` wrote into a folder."""
    rows = pq.read_table(folder / WITNESS_ROWS)
    states = np.load(folder / WITNESS_STATES, mmap_mode="r")
    part = rows.column("part").to_numpy(zero_copy_only=False).astype(str)
    return Witnesses(part, rows.column("id"), Features(WordTable.load(folder / WITNESS_WORDS), states))


def no_witnesses(stages: Stages) -> RunError:
    """Describe what is wrong where a run has no witnesses."""
    return RunError(
        f"{stages.path}: has no scores for the signal 'suspicion'; run its 'forgetfilter filter' command again to add "
        "what is missing, without --signal, or decide with --signal likelihood"
    )


def can_look_further(stages: Stages) -> bool:
    """Tell whether features of further rows can be computed, for which runs of earlier versions lack the files."""
    return all((stages.folder(WITNESSES) / name).is_file() for name in (WITNESS_BASIS, WITNESS_VOCABULARY))


def measure_further(runner: StageRunner, name: str, table: TokenTable, answers: Iterable[str], folder: Path) -> None:
    """Compute the features of further rows as those of a run were computed, in one process.

    Args:
        runner: The model, with the run for its stages.
        name: The part that the rows form.
        table: Tokens of the rows.
        answers: The completion of each row.
        folder: Where to write what `read_witnesses` reads.
    """
    kept, states = runner.stages.folder(WITNESSES), folder / name
    runner.bring(BASE)
    _write_states(runner, _scorer(runner), name, table, states)
    rows = _rows({name: table})
    pq.write_table(rows, folder / WITNESS_ROWS)
    _keep_states([states], Basis.load(kept / WITNESS_BASIS), len(rows), folder / WITNESS_STATES)
    start_afresh(folder / WITNESS_WORDS)
    documents = (words_and_pairs(text) for text in _with_tokens(answers, table))
    Vocabulary.load(kept / WITNESS_VOCABULARY).weigh(documents, folder).save(folder / WITNESS_WORDS)
    shutil.rmtree(states)


def measure_witnesses(run: Run, runner: StageRunner, material: Material, folder: Path) -> None:
    """Compute the features of all rows of a run and of the prototypes, with the untouched model M0.

    A killed attempt goes on where it stopped.

    Args:
        run: The run.
        runner: Holds the model and runs its stages.
        material: The rows.
        folder: Where to write what `read_witnesses` reads.
    """
    # A model that does not fit is refused before anything is written.
    runner.bring(BASE)
    files = material.files(*material.parts, *material.safe_parts)
    prototype_rows = {name: list(choose_prototypes(name, material, runner.settings)) for name in PROTOTYPES}
    if runner.processes.main:
        for group, names in _GROUPS.items():
            _write_prototypes(group, {name: prototype_rows[name] for name in names}, runner, folder)
    runner.processes.wait()
    own = {name: file for name in PROTOTYPES if (file := folder / tokens_of(name)).exists()}
    groups = {group: [own[name] for name in names if name in own] for group, names in _GROUPS.items()}
    scorer = _scorer(runner)
    for name, file in files.items():
        # Activations of the frozen blocks are worth caching only for rows that are trained on afterwards.
        table = runner.tokens({name: file}) if runner.settings.sessions.training else TokenTable(file)
        _write_states(runner, scorer, name, table, folder / name)
    _write_cached_states(run, runner, scorer, groups[_OWN], folder / _OWN)
    if groups[ORDINARY_PROTOTYPES]:
        table = TokenTable(*groups[ORDINARY_PROTOTYPES])
        _write_states(runner, scorer, ORDINARY_PROTOTYPES, table, folder / ORDINARY_PROTOTYPES)
    if not runner.processes.main:
        return
    tables = {name: TokenTable(file) for name, file in (files | own).items()}
    rows, states = _rows(tables), [folder / name for name in (*files, *(group for group in groups if groups[group]))]
    pq.write_table(rows, folder / WITNESS_ROWS)
    basis = _find_basis(states, rows.column("id"))
    basis.save(folder / WITNESS_BASIS)
    _keep_states(states, basis, len(rows), folder / WITNESS_STATES)
    start_afresh(folder / WITNESS_WORDS)
    answers: dict[str, Iterable[str]] = {
        name: [chat.completion for *_, chat in prototype_rows[name]] for name in PROTOTYPES
    }
    answers |= {name: (text for _, text in material.texts(name)) for name in tables if name not in PROTOTYPES}
    documents = (words_and_pairs(text) for name, table in tables.items() for text in _with_tokens(answers[name], table))
    words_of_rows, vocabulary = shared_words(documents, folder)
    words_of_rows.save(folder / WITNESS_WORDS)
    vocabulary.save(folder / WITNESS_VOCABULARY)
    for part in material.parts:
        pq.write_table(pa.table(untrained_columns(tables[part], SUSPICION)), folder / table_of(part))
    for of_part in states:
        shutil.rmtree(of_part)


def _write_prototypes(group: str, rows_of: Mapping[str, list[Said]], runner: StageRunner, folder: Path) -> None:
    """Write the tokens of some prototypes. What a killed attempt made of others, of an earlier version, is dropped."""
    stale = []
    for name, rows in rows_of.items():
        path = folder / tokens_of(name)
        before = path.read_bytes() if path.exists() else b""
        if rows:
            with written_whole(path) as beside:
                for _ in write_tokens(rows, runner.encoder, beside):
                    pass
        if before and before != path.read_bytes():
            stale.append(group)
        if name != group:
            # Earlier versions kept the states of each kind in a folder of its own.
            stale.append(name)
    for left in stale:
        if (folder / left).is_dir():
            forget(folder, left)
            shutil.rmtree(folder / left)


def _scorer(runner: StageRunner) -> Scorer:
    """Make the scorer that returns mean hidden states."""
    from ..models.hidden_states import HiddenStates, View

    return HiddenStates(runner.model, runner.budget, [View("beginning", depth) for depth in _DEPTHS])


def _write_states(runner: StageRunner, scorer: Scorer, name: str, table: TokenTable, states: Path) -> None:
    """Write the mean hidden states of those rows of a part that have a completion, in order."""
    states.mkdir(exist_ok=True)
    label = name if name == _OWN else f"{name} rows"
    runner.score(f"reading {label} with the untouched model", scorer, table, table.scorable, states)


def _write_cached_states(run: Run, runner: StageRunner, scorer: Scorer, tokens: list[Path], states: Path) -> None:
    """Write the states of unsafe and safe prototypes, which are the same in every run with this model: from the cache.

    There is no cache for several processes, whose machines need not share one.
    """
    from ..models.hidden_states import BEGINNING

    hardware = runner.model.hardware
    how = [version("torch"), hardware.device.type, str(hardware.dtype), runner.budget, _DEPTHS, BEGINNING]
    key = [run.fingerprint("model").encode(), repr(how).encode(), *(file.read_bytes() for file in tokens)]
    cached = cache_folder() / _CACHED / hash_chunks(key)
    alone = runner.processes.count == 1
    if alone and cached.is_dir() and not states.exists():
        # What cannot be read is computed.
        with contextlib.suppress(OSError), written_whole(states) as beside:
            shutil.copytree(cached, beside)
    # What is there is not computed again.
    _write_states(runner, scorer, _OWN, TokenTable(*tokens), states)
    if alone:
        # Without a cache the next run takes longer, and nothing else.
        with contextlib.suppress(OSError):
            keep_once(cached, partial(shutil.copytree, states))


def _rows(tables: dict[str, TokenTable]) -> pa.Table:
    ids = [table.ids.take(pa.array(table.scorable)) for table in tables.values()]
    parts = np.repeat(list(tables), [len(table.scorable) for table in tables.values()])
    chunks = [chunk for of_part in ids for chunk in of_part.chunks]
    return pa.table({"part": pa.array(parts, pa.string()), "id": pa.chunked_array(chunks, pa.string())})


def _with_tokens(answers: Iterable[str], table: TokenTable) -> Iterator[str]:
    """Yield the completions of a table's rows that have completion tokens, in order."""
    scorable = np.isin(np.arange(len(table)), table.scorable)
    yield from (text for text, chosen in zip(answers, scorable, strict=True) if chosen)


def words_and_pairs(answer: str) -> list[str]:
    """Return the words of an answer and its pairs of adjacent words, hashed because of their number."""
    answer_words = words(answer[:_LONGEST_ANSWER])
    return answer_words + [f"{crc32(f'{one} {other}'.encode()) % _PAIRS:x}." for one, other in pairwise(answer_words)]


def _find_basis(folders: list[Path], ids: pa.ChunkedArray) -> Basis:
    """Fit the basis to rows spread evenly over the order of the ids."""
    count = len(ids)
    chosen = np.zeros(count, dtype=bool)
    chosen[evenly_by_id(ids, _SAMPLE)] = True
    sample, start = [], 0
    for states in _shards(folders):
        sample.append(states[chosen[start : start + len(states)]])
        start += len(states)
    return Basis.fit(np.concatenate(sample), len(_DEPTHS))


def _keep_states(folders: list[Path], basis: Basis, count: int, path: Path) -> None:
    """Project the states of all rows on the basis and write the result."""
    number = np.dtype(np.float16)
    header = {"descr": dtype_to_descr(number), "fortran_order": False, "shape": (count, basis.size)}
    # Written and not mapped, as a full disk ends a process that writes to a mapped file.
    with written_whole(path) as beside, beside.open("wb") as file:
        write_array_header_1_0(file, header)
        for states in _shards(folders):
            file.write(basis.project(states).astype(number).tobytes())


def _shards(folders: list[Path]) -> Iterator[NDArray[np.float32]]:
    for folder in folders:
        for file in sorted(folder.glob(SHARDS)):
            column = pq.read_table(file, columns=["states"]).column("states").combine_chunks()
            yield column.values.to_numpy().reshape(len(column), -1)
