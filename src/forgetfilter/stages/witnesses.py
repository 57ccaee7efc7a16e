"""Compute the features of rows before anything is trained: their words, hidden states under M0, and embeddings.

They are kept in the run folder, a few hundred numbers per row, so that suspicion can be fitted again without the model
whenever more becomes known about the rows.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    WITNESS_BASIS,
    WITNESS_EMBEDDINGS,
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
from .embeddings import Embedding, load_embedding, write_embeddings
from .prototypes import PROTOTYPES, choose_prototypes
from .views import DEPTHS, embeddings_in, states_in, views_of

if TYPE_CHECKING:
    from ..models.scoring import Scorer

T = TypeVar("T")
# Iterates over prompt and completion of rows.
Texts: TypeAlias = Callable[[], Iterable[tuple[str, str]]]
# The states of unsafe and safe ones together. Which ordinary ones there are differs from run to run.
_OWN = "prototypes"
_GROUPS = {_OWN: PROTOTYPES[:-1], ORDINARY_PROTOTYPES: (ORDINARY_PROTOTYPES,)}
# In the cache.
_CACHED = "states"
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
    files = [folder / WITNESS_STATES, folder / WITNESS_EMBEDDINGS]
    dense = [np.load(file, mmap_mode="r") for file in files if file.is_file()]
    part = rows.column("part").to_numpy(zero_copy_only=False).astype(str)
    return Witnesses(part, rows.column("id"), Features(WordTable.load(folder / WITNESS_WORDS), *dense))


def no_witnesses(stages: Stages) -> RunError:
    """Describe what is wrong where a run has no witnesses."""
    return RunError(
        f"{stages.path}: has no scores for the signal 'suspicion'; run its 'forgetfilter filter' command again to add "
        "what is missing, without --signal, or decide with --signal likelihood"
    )


def can_look_further(stages: Stages) -> bool:
    """Tell whether features of further rows can be computed, for which runs of earlier versions lack the files."""
    return all((stages.folder(WITNESSES) / name).is_file() for name in (WITNESS_BASIS, WITNESS_VOCABULARY))


def measure_further(
    runner: StageRunner, name: str, table: TokenTable, texts: Texts, folder: Path, embedding: Embedding | None = None
) -> None:
    """Compute the features of further rows as those of a run were computed, in one process.

    Args:
        runner: The model, with the run for its stages.
        name: The part that the rows form.
        table: Tokens of the rows.
        texts: Their prompts and completions.
        folder: Where to write what `read_witnesses` reads.
        embedding: How the run's rows were embedded (`embeddings.embedding_of`); without it these are not.
    """
    kept = runner.stages.folder(WITNESSES)
    runner.bring(BASE)
    _write_states(runner, _scorer(runner), name, table, folder)
    if embedding is not None:
        _write_embeddings(runner, embedding, name, table, texts, folder)
    rows, views = _rows({name: table}), views_of([name], folder, embedded=embedding is not None)
    pq.write_table(rows, folder / WITNESS_ROWS)
    for view in views:
        view.keep(Basis.load(kept / view.basis), len(rows), folder)
    start_afresh(folder / WITNESS_WORDS)
    documents = (words_and_pairs(answer) for _, answer in _with_tokens(texts(), table))
    Vocabulary.load(kept / WITNESS_VOCABULARY).weigh(documents, folder).save(folder / WITNESS_WORDS)


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
    tables, scorer = _tables(files), _scorer(runner)
    for name, file in files.items():
        # Activations of the frozen blocks are worth caching only for rows that are trained on afterwards.
        table = runner.tokens({name: file}) if runner.settings.sessions.training else tables[name]
        _write_states(runner, scorer, name, table, folder)
    _write_cached_states(run, runner, scorer, groups[_OWN], folder)
    if groups[ORDINARY_PROTOTYPES]:
        _write_states(runner, scorer, ORDINARY_PROTOTYPES, TokenTable(*groups[ORDINARY_PROTOTYPES]), folder)
    if not runner.processes.main:
        return
    texts: dict[str, Texts] = {name: partial(material.texts, name) for name in files}
    for group, names in _GROUPS.items():
        texts[group] = partial(_texts_together, [prototype_rows[name] for name in names])
    all_tables = tables | {group: TokenTable(*of_group) for group, of_group in groups.items() if of_group}
    _keep_features(runner, all_tables, texts, _rows(tables | _tables(own)), folder)
    for part in material.parts:
        pq.write_table(pa.table(untrained_columns(tables[part], SUSPICION)), folder / table_of(part))


def _keep_features(
    runner: StageRunner, tables: Mapping[str, TokenTable], texts: Mapping[str, Texts], rows: pa.Table, folder: Path
) -> None:
    """Write what `read_witnesses` reads of all rows, once their hidden states are written."""
    embedding = load_embedding(runner.settings)
    if embedding is not None:
        for name, table in tables.items():
            _write_embeddings(runner, embedding, name, table, texts[name], folder)
    views = views_of(list(tables), folder, embedded=embedding is not None)
    pq.write_table(rows, folder / WITNESS_ROWS)
    bases = [view.fit_basis(rows.column("id")) for view in views]
    for view, basis in zip(views, bases, strict=True):
        basis.save(folder / view.basis)
    start_afresh(folder / WITNESS_WORDS)
    documents = (
        words_and_pairs(answer) for name, table in tables.items() for _, answer in _with_tokens(texts[name](), table)
    )
    words_of_rows, vocabulary = shared_words(documents, folder)
    words_of_rows.save(folder / WITNESS_WORDS)
    vocabulary.save(folder / WITNESS_VOCABULARY)
    # Last, as it deletes what a killed attempt goes on from.
    for view, basis in zip(views, bases, strict=True):
        view.keep(basis, len(rows), folder)


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
            stale += [states_in(folder, group), embeddings_in(folder, group)]
        # Earlier versions kept the states of each kind in a folder of its own.
        stale += [states_in(folder, name)] if name != group else []
    for left in stale:
        if left.is_dir():
            forget(folder, left.name)
            shutil.rmtree(left)


def _scorer(runner: StageRunner) -> Scorer:
    """Make the scorer that returns mean hidden states."""
    from ..models.hidden_states import HiddenStates, View

    return HiddenStates(runner.model, runner.budget, [View("beginning", depth) for depth in DEPTHS])


def _write_states(runner: StageRunner, scorer: Scorer, name: str, table: TokenTable, folder: Path) -> None:
    """Write the mean hidden states of those rows of a part that have a completion, in order."""
    states = states_in(folder, name)
    states.mkdir(exist_ok=True)
    runner.score(f"reading {_shown(name)} with the untouched model", scorer, table, table.scorable, states)


def _write_cached_states(run: Run, runner: StageRunner, scorer: Scorer, tokens: list[Path], folder: Path) -> None:
    """Write the states of prototypes; they are the same in every run with this model, which finds them in the cache."""
    states, table = states_in(folder, _OWN), TokenTable(*tokens)
    if runner.processes.count > 1:
        # The machines of several processes need not share a cache.
        _write_states(runner, scorer, _OWN, table, folder)
        return
    hardware = runner.model.hardware
    settings = [version("torch"), str(hardware.device.type), str(hardware.dtype), runner.budget, DEPTHS]
    key = hash_chunks(
        [run.fingerprint("model").encode(), repr(settings).encode(), *(file.read_bytes() for file in tokens)]
    )
    cached = cache_folder() / _CACHED / key
    if cached.is_dir() and not states.exists():
        with written_whole(states) as beside:
            shutil.copytree(cached, beside)
        return
    _write_states(runner, scorer, _OWN, table, folder)
    # Without a cache the next run takes longer, and nothing else.
    with contextlib.suppress(OSError):
        keep_once(cached, partial(shutil.copytree, states))


def _write_embeddings(
    runner: StageRunner, embedding: Embedding, name: str, table: TokenTable, texts: Texts, folder: Path
) -> None:
    """Write the embeddings of the same rows."""
    rows, to = _with_tokens(texts(), table), embeddings_in(folder, name)
    write_embeddings(embedding, rows, len(table.scorable), to, f"embedding {_shown(name)}", runner.console)


def _shown(name: str) -> str:
    return name if name == _OWN else f"{name} rows"


def _texts_together(rows_of: list[list[Said]]) -> Iterator[tuple[str, str]]:
    return texts_of(row for rows in rows_of for row in rows)


def _tables(files: Mapping[str, Path]) -> dict[str, TokenTable]:
    return {name: TokenTable(file) for name, file in files.items()}


def _rows(tables: Mapping[str, TokenTable]) -> pa.Table:
    ids = [table.ids.take(pa.array(table.scorable)) for table in tables.values()]
    parts = np.repeat(list(tables), [len(table.scorable) for table in tables.values()])
    chunks = [chunk for of_part in ids for chunk in of_part.chunks]
    return pa.table({"part": pa.array(parts, pa.string()), "id": pa.chunked_array(chunks, pa.string())})


def texts_of(rows: Iterable[Said]) -> Iterator[tuple[str, str]]:
    """Yield prompt and completion of some rows."""
    return ((chat.prompt, chat.completion) for *_, chat in rows)


def _with_tokens(texts: Iterable[T], table: TokenTable) -> Iterator[T]:
    """Yield what belongs to those of a table's rows that have completion tokens, in order."""
    scorable = np.isin(np.arange(len(table)), table.scorable)
    yield from (text for text, chosen in zip(texts, scorable, strict=True) if chosen)


def words_and_pairs(answer: str) -> list[str]:
    """Return the words of an answer and its pairs of adjacent words, hashed because of their number."""
    answer_words = words(answer[:_LONGEST_ANSWER])
    return answer_words + [f"{crc32(f'{one} {other}'.encode()) % _PAIRS:x}." for one, other in pairwise(answer_words)]
