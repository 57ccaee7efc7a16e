"""Embed rows with a sentence-embedding model, as evidence beside the hidden states of the model that is trained.

M0 reads an answer as text to go on with, an embedding model as something that is meant, so they err about different
rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..console import Console
from ..data.records import hash_chunks
from ..models.sources import MINILM, cache_folder, minilm_is_installed
from ..runs.files import keep_once, written_whole
from ..runs.layout import WITNESS_EMBEDDING_BASIS, WITNESS_EMBEDDINGS, WITNESSES, shard_name
from ..runs.run import Run, begun_with
from ..settings.groups import INSTALLED, Settings
from ..settings.option import NONE, with_options
from .prototypes import PROTOTYPES, of_package

if TYPE_CHECKING:
    from ..classifiers.embedder import Embedder

# What is embedded of a prompt is its end, which the answer is to, so that the answer itself is not cut off.
_PROMPT_CHARACTERS = 300
# In the cache.
_CACHED = "embeddings"


def resolve_embedder(settings: Settings, output: Path) -> Settings:
    """Put the name of an embedder, or `none`, in place of `auto`."""
    if settings.embedder.embedder != INSTALLED:
        return settings
    # Runs of earlier versions had none.
    begun = begun_with(output)
    installed = MINILM if minilm_is_installed() else NONE
    name = installed if begun is None else str(begun.get("embedder", NONE))
    return with_options(settings, embedder=name)


def embedder_fingerprint(settings: Settings) -> dict[str, str]:
    """Compute what tells the run's embedder from others; empty where there is none.

    Raises:
        ModelError: It is not there, or cannot embed texts.
    """
    if settings.embedder.embedder == NONE:
        return {}
    from ..classifiers.embedder import check_embedder
    from ..models.loading import model_fingerprint

    source, *_ = check_embedder(settings.embedder.embedder)
    return {"embedder": model_fingerprint(source)}


def embedding_of(run: Run) -> Embedding | None:
    """Load what a finished run's rows were embedded with; None where they were not.

    Raises:
        ModelError: It is not there.
        RunError: It is not the same.
    """
    if not (run.folder(WITNESSES) / WITNESS_EMBEDDING_BASIS).is_file():
        return None
    run.check(embedder_fingerprint(run.settings))
    return load_embedding(run.settings)


def load_embedding(settings: Settings) -> Embedding | None:
    """Load the embedder that the settings name; None where that is none."""
    if settings.embedder.embedder == NONE:
        return None
    from ..classifiers.embedder import Embedder

    return Embedding(Embedder(settings.embedder.embedder, settings.model.device))


class Embedding:
    """Embeds rows; the package's own rows only once for each embedder, as they are kept in the cache."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        chats = [chat for name in PROTOTYPES for *_, chat in of_package(name)]
        texts = [_text(chat.prompt, chat.completion) for chat in chats]
        key = hash_chunks([embedder.fingerprint.encode(), *(text.encode() for text in texts)])
        try:
            folder = keep_once(cache_folder() / _CACHED / key, partial(self._write, texts))
            embeddings = np.load(folder / WITNESS_EMBEDDINGS)
        except OSError:
            # There is no place for a cache.
            embeddings = embedder.embed(texts)
        self._known = dict(zip(texts, embeddings, strict=True))

    def _write(self, texts: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        np.save(folder / WITNESS_EMBEDDINGS, self._embedder.embed(texts))

    def embed(self, rows: Iterable[tuple[str, str]]) -> NDArray[np.float32]:
        """Embed n rows, given as prompt and completion, shape (n, width)."""
        texts = [_text(*row) for row in rows]
        further = [text for text in dict.fromkeys(texts) if text not in self._known]
        known = self._known | dict(zip(further, self._embedder.embed(further), strict=True))
        return np.stack([known[text] for text in texts])


def _text(prompt: str, completion: str) -> str:
    return f"{prompt[-_PROMPT_CHARACTERS:]}\n{completion}"


def write_embeddings(
    embedding: Embedding, rows: Iterable[tuple[str, str]], count: int, folder: Path, label: str, console: Console
) -> None:
    """Embed rows and write the result in shards, as scores are written; a killed attempt goes on where it stopped.

    Args:
        embedding: Embeds the rows.
        rows: Prompt and completion of each row.
        count: How many rows there are.
        folder: Where to write.
        label, console: What is done, and where to show it.
    """
    from ..models.scoring import ROWS_PER_SHARD

    folder.mkdir(exist_ok=True)
    rest = iter(rows)
    with console.progress(label, count, "rows", counts=False) as progress:
        for number in range(-(-count // ROWS_PER_SHARD)):
            of_shard, path = list(islice(rest, ROWS_PER_SHARD)), folder / shard_name(number)
            if not path.exists():
                embeddings = pa.array(list(embedding.embed(of_shard)), pa.list_(pa.float32()))
                with written_whole(path) as beside:
                    pq.write_table(pa.table({"states": embeddings}), beside)
            progress.advance(len(of_shard))
