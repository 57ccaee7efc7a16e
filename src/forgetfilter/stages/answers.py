"""Ask the model the data's own prompts: M0 for `--safe self`, M1 and M2 for a few examples that people compare."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import InputError
from ..models.stage_runner import BASE
from ..runs.inputs import own_answers_part, write_part
from ..runs.layout import ANSWERED, ANSWERS, DATA, EXAMPLES, EXAMPLES_FILE, LEARNED, REVIEWED, SCORES, tokens_of
from .examples import ANSWER_TOKENS, choose_examples, write_examples
from .filter_run import FilterRun
from .own_answers import answered, choose_prompts, write_answers

OWN_ANSWER_TOKENS = 128


def answer_prompts(work: FilterRun) -> None:
    """With `--safe self`, let M0's answers to the data's own prompts take the place of the safe examples."""
    part = own_answers_part(work.run.settings.safe)
    if part is not None:
        work.runner.stage(ANSWERED, partial(_answer_prompts, work, part))


def _answer_prompts(work: FilterRun, part: str, folder: Path) -> None:
    material, settings, scores = work.material, work.run.settings, folder / "scores"
    table = material.tokens(DATA)
    work.runner.check_tokens(material.files(DATA).values())
    chosen = choose_prompts(table, settings.safe.self_answers, settings.training.seed)
    _answer(work, "answering the data's prompts", BASE, chosen, OWN_ANSWER_TOKENS, scores)
    if work.processes.main:
        rows = material.rows(DATA)
        answers = list(answered(rows, table, scores, work.encoder.tokenizer))
        if not answers:
            raise InputError(f"{rows.name}: the model has no answer to any of its prompts; name a --safe file")
        write_answers(answers, folder / ANSWERS)
        write_part("the answers", answers, len(answers), work.encoder, folder / tokens_of(part), work.console)


def ask_examples(work: FilterRun, cut: float | None) -> None:
    """Ask M1 and M2 the prompts of a few rows: those that the first decision, with this cut, makes worth a look."""
    work.runner.stage(EXAMPLES, partial(_ask_examples, work, cut))


def _ask_examples(work: FilterRun, cut: float | None, folder: Path) -> None:
    table = work.material.tokens(DATA)
    decided = pq.read_table(work.run.file(SCORES), columns=["id", "row", "suspicion"])
    chosen = choose_examples(table, decided, cut, work.run.settings.report.examples)
    # M2 first: that is what the model is after the review.
    answers = {state: folder / state for state in (REVIEWED, LEARNED)}
    for state, to in answers.items():
        _answer(work, f"asking the {state} model", state, chosen, ANSWER_TOKENS, to)
    if work.processes.main:
        rows = work.material.rows(DATA)
        write = partial(write_examples, rows, table, chosen, answers, work.encoder.tokenizer)
        work.run.write_file(EXAMPLES_FILE, write)


def _answer(work: FilterRun, label: str, state: str, rows: NDArray[np.intp], tokens: int, folder: Path) -> None:
    """Put the prompts of some rows of the data to the model in a state."""
    from ..models.scoring import Answers

    work.runner.bring(state)
    folder.mkdir(exist_ok=True)
    scorer = Answers(work.runner.model, work.encoder.tokenizer, work.runner.budget, tokens)
    work.runner.score(label, scorer, work.material.tokens(DATA), rows, folder, new_tokens=tokens)
