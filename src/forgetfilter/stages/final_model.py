"""Train M_ret, the final model, on the rows that were kept; and tell from which decision one was made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.rows import Said
from ..data.tokens import Encoder, TokenTable, write_tokens
from ..decision.decide import Summary
from ..decision.overrides import KEPT
from ..decision.verdicts import UNSCORABLE
from ..errors import InputError
from ..models.stage_runner import BASE
from ..publishing.cards import CARD, model_card
from ..runs.files import start_afresh, written_whole
from ..runs.layout import DATA, DECISION, MODEL, ONLY_TOKENS, SCORES
from ..runs.manifest import made_of, note_made_of
from ..runs.run import Run
from .filter_run import FilterRun


def finetune_kept(work: FilterRun, summary: Summary) -> None:
    """M_ret: train the untouched model on what was kept, and save it as RUN/model.

    Raises:
        InputError: No kept row has a completion.
    """
    if not made_from(work.run.folder(MODEL), summary, work.run.settings.final.finetune_epochs):
        work.train_all_blocks()
        work.runner.work(MODEL, partial(_finetune_kept, work, summary))


def _finetune_kept(work: FilterRun, summary: Summary, folder: Path) -> None:
    settings, runner = work.run.settings, work.runner
    if work.processes.main:
        # Whole completions, whatever part of them the filter itself looked at.
        encoder = Encoder(work.encoder.tokenizer, settings.tokens.template, settings.tokens.max_length)
        data = work.material.rows(DATA)
        # Of a sample, the other rows are not encoded.
        judged = np.zeros(data.count, dtype=bool)
        judged[work.material.tokens(DATA).rows] = True
        said = (row for row in data.usable() if judged[row[1]])
        _prepare(folder, said, encoder, summary, settings.final.finetune_epochs)
    work.processes.wait()
    runner.check_tokens([folder / ONLY_TOKENS])
    table = TokenTable(folder / ONLY_TOKENS)
    rows = np.intersect1d(table.scorable, np.flatnonzero(np.isin(table.rows, kept_rows(work.run, summary))))
    if not len(rows):
        raise InputError(f"{work.run.path}: no kept row has a completion to train on; raise the threshold")
    runner.bring(BASE)
    steps = runner.steps(len(rows), settings.final.finetune_epochs)
    runner.train("fine-tuning on the kept rows", table, rows, steps, folder, MODEL)
    if work.processes.main:
        (folder / ONLY_TOKENS).unlink()
        # peft leaves a form with blanks, and the base's place on this machine.
        adapter = not settings.adapter.full_finetuning
        (folder / CARD).write_text(model_card(work.run, summary, adapter=adapter), encoding="utf-8")


def kept_rows(run: Run, summary: Summary) -> NDArray[np.int64]:
    """Return the positions in the input of the rows that a run kept."""
    decided = pq.read_table(run.file(SCORES), columns=["row", "decision"])
    kept = [KEPT] if summary.drop_unscorable else [KEPT, UNSCORABLE]
    rows: NDArray[np.int64] = decided.column("row").to_numpy()
    return rows[np.isin(decided.column("decision").to_numpy().astype(str), kept)]


def _prepare(folder: Path, rows: Iterable[Said], encoder: Encoder, summary: Summary, epochs: float) -> None:
    """Make a folder ready for training: empty unless it is of this decision, with the tokens of the rows in it."""
    if not made_from(folder, summary, epochs):
        start_afresh(folder)
        note_made_of(folder / DECISION, _key(summary, epochs))
    tokens = folder / ONLY_TOKENS
    if not tokens.exists():
        with written_whole(tokens) as beside:
            for _ in write_tokens(rows, encoder, beside):
                pass


def made_from(folder: Path, summary: Summary, epochs: float) -> bool:
    """Tell whether the model in a folder was made from this decision in this number of epochs."""
    return made_of(folder / DECISION, _key(summary, epochs))


def _key(summary: Summary, epochs: float) -> str:
    return json.dumps([summary.key, epochs])
