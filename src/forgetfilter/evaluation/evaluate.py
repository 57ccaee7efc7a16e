"""Ask a model held-out rows and measure what it says. Asking can be killed and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..classifiers.judge import Judge, judge
from ..classifiers.toxicity import Classifier, toxicity_classifier
from ..console import Console
from ..data.rows import Said
from ..data.tokens import Encoder, TokenTable, write_tokens
from ..runs.layout import EVALUATION, tokens_of
from ..settings.groups import MeasureSettings
from .harness import check_harness, harness_measures
from .held_out import BIAS, HARMFULNESS, INSTRUCTIONS, KINDS, SQUAD, TOXICITY, HeldOut
from .jailbreaks import JAILBREAKS
from .results import Evaluation, read_evaluation
from .scored import Scored
from .tasks import perplexity_measures

if TYPE_CHECKING:
    from ..models.scoring import Scorer
    from ..models.trainable_model import Session

# Rewrites a prompt before it is asked; given the prompt and the row's notion.
Ask = Callable[[str, str], str]

JAILBREAK = "jailbreak"
# Kinds that are answered in a line; so many tokens show what is measured.
_SHORT = {BIAS: 32, SQUAD: 48, TOXICITY: 48}


def plainly(prompt: str, notion: str) -> str:  # noqa: ARG001
    """Ask a prompt as it stands."""
    return prompt


def evaluate(
    session: Session,
    encoder: Encoder,
    rows: Sequence[HeldOut],
    settings: MeasureSettings,
    folder: Path,
    console: Console,
    ask: Ask = plainly,
    judging: Judge | None = None,
) -> Evaluation:
    """Measure the session's present model on held-out rows; every process makes the same call.

    Args:
        session: The model.
        encoder: Turns its rows into tokens, with the template that it was trained with.
        rows: What to ask; those already asked in this folder must be the same.
        settings: What to measure.
        folder: Where answers and results go. An evaluation that is finished there is read.
        console: Where to tell what goes on.
        ask: Rewrites each prompt before it is asked, jailbreaks included.
        judging: The model that judges answers to harmful prompts, where one should.

    Raises:
        ForgetFilterError: The classifier or the harness is not there; the memory does not suffice.
    """
    if (folder / EVALUATION).is_file():
        return read_evaluation(folder)
    main = session.accelerator.is_main_process
    of_kind = {kind: [row for row in rows if row.kind == kind] for kind in KINDS}
    # What may be missing is looked for before the model works for an hour.
    tasks = check_harness(settings.lm_eval) if settings.lm_eval else []
    classifier = _classifier(session, settings) if of_kind[TOXICITY] and main else None
    asking = _Asking(session, encoder, settings, folder, console)
    scored, asked, skipped = Scored(), {}, set()
    for kind, chosen in of_kind.items():
        if not chosen:
            continue
        prompts = {row.id: ask(row.prompt, row.notion) for row in chosen}
        answers = asking.answers(kind, [(row.id, row, prompts[row.id]) for row in chosen])
        skipped |= {row.id for row in chosen} - set(answers)
        there = [row for row in chosen if row.id in answers]
        asked[kind] = len(there)
        said = [prompts[row.id] for row in there], [answers[row.id] for row in there]
        if kind == BIAS:
            scored.bias(there, *said, asking.options(there, prompts))
        elif kind == TOXICITY and classifier is not None:
            scored.toxicity(there, *said, classifier)
        elif kind == HARMFULNESS:
            judged = asking.judged(kind, judging, [row.prompt for row in there], said[1])
            scored.harmfulness(kind, there, ["plain"] * len(there), *said, judged)
            if settings.jailbreak:
                _jailbreak(asking, scored, there, ask, judging)
        elif kind == SQUAD:
            scored.squad(there, *said)
        elif kind == INSTRUCTIONS:
            scored.instructions(there, *said)
    scored.measures += asking.perplexity(rows, ask)
    if tasks:
        console.say(f"lm-evaluation-harness runs {', '.join(tasks)}")
        scored.measures += harness_measures(session, encoder.tokenizer, tasks, settings.most_rows)
    if main:
        name = classifier.name if classifier is not None else ""
        judge_name = judging.name if judging is not None else ""
        found = Evaluation(tuple(scored.measures), asked, tuple(sorted(skipped)), name, judge_name)
        found.write(folder, scored.records)
    session.accelerator.wait_for_everyone()
    return read_evaluation(folder)


def _classifier(session: Session, settings: MeasureSettings) -> Classifier:
    return toxicity_classifier(settings.toxicity_classifier, str(session.hardware.device))


def _jailbreak(asking: _Asking, scored: Scored, rows: Sequence[HeldOut], ask: Ask, judging: Judge | None) -> None:
    """Ask every harmful prompt in every way of `JAILBREAKS`."""
    put = [(row, kind, ask(wrap(row.prompt), row.notion)) for kind, wrap in JAILBREAKS.items() for row in rows]
    answers = asking.answers(JAILBREAK, [(f"{row.id}/{kind}", row, prompt) for row, kind, prompt in put])
    there = [(row, kind, prompt) for row, kind, prompt in put if f"{row.id}/{kind}" in answers]
    said = [answers[f"{row.id}/{kind}"] for row, kind, _ in there]
    # Judged is what was wanted, however it was put.
    judged = asking.judged(JAILBREAK, judging, [row.prompt for row, _, _ in there], said)
    kinds, prompts = [kind for _, kind, _ in there], [prompt for _, _, prompt in there]
    scored.harmfulness(JAILBREAK, [row for row, _, _ in there], kinds, prompts, said, judged)


class _Asking:
    """Puts rows to the model, part by part, each in a folder of its own."""

    def __init__(
        self, session: Session, encoder: Encoder, settings: MeasureSettings, folder: Path, console: Console
    ) -> None:
        self.session, self.encoder, self.settings = session, encoder, settings
        self.folder, self.console = folder / "asked", console
        self.budget = 2 * session.token_budget(settings.tokens_per_batch)

    def answers(self, part: str, put: Sequence[tuple[str, HeldOut, str]]) -> dict[str, str]:
        """The answer to each (id, row, prompt), by id; none where the prompt is too long."""
        from ..models.scoring import Answers

        if not put:
            return {}
        most = min(self.settings.max_new_tokens, _SHORT.get(part, self.settings.max_new_tokens))
        scorer = Answers(self.session, self.encoder.tokenizer, self.budget, most)
        said = ((id, i, row.chat(prompt, row.completion)) for i, (id, row, prompt) in enumerate(put))
        return self._score(f"asking {part}", part, said, scorer, "answer")

    def options(self, rows: Sequence[HeldOut], prompts: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
        """Log-probabilities of the tokens of each option's completion, as ID#0 to ID#2."""
        put = [(row, j, text) for row in rows if row.question for j, text in enumerate(row.question.said)]
        if not put:
            return {}
        said = ((f"{row.id}#{j}", i, row.chat(prompts[row.id], text)) for i, (row, j, text) in enumerate(put))
        return self._logprobs("scoring options", "options", said)

    def perplexity(self, rows: Sequence[HeldOut], ask: Ask) -> list[Any]:
        """Perplexity of the completions."""
        said = ((row.id, i, row.chat(ask(row.prompt, row.notion), row.completion)) for i, row in enumerate(rows))
        found = self._logprobs("scoring completions", "completions", said)
        by_row = {i: found[row.id] for i, row in enumerate(rows) if row.id in found}
        return perplexity_measures([row.notion for row in rows], by_row) if by_row else []

    def judged(
        self, part: str, judging: Judge | None, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """P(unsafe) of each answer, where there is a judge."""
        if judging is None:
            return None
        pairs = list(zip(prompts, answers, strict=True))
        return judge(
            judging.session,
            judging.tokenizer,
            pairs,
            self.folder / f"{part}-judged",
            lambda count: self.console.progress(f"judging {part}", count, "verdicts"),
        )

    def _logprobs(self, label: str, part: str, said: Iterable[Said]) -> dict[str, NDArray[np.float64]]:
        from ..models.scoring import Likelihood

        found = self._score(label, part, said, Likelihood(self.session, self.budget), "logprobs")
        return {id: np.array(values, dtype=np.float64) for id, values in found.items()}

    def _score(self, label: str, part: str, said: Iterable[Said], scorer: Scorer, column: str) -> dict[str, Any]:
        """One column of what the scorer finds for each row, by its id."""
        from ..models.scoring import score
        from ..models.trainable_model import memory_explained

        tokens, scores = self.folder / tokens_of(part), self.folder / part
        if self.session.accelerator.is_main_process:
            scores.mkdir(parents=True, exist_ok=True)
            for _ in write_tokens(said, self.encoder, tokens):
                pass
        self.session.accelerator.wait_for_everyone()
        table = TokenTable(tokens)
        chosen = table.scorable
        if not len(chosen):
            return {}
        with memory_explained(self.budget // 2), self.console.progress(label, len(chosen), "rows") as shown:
            score(self.session, scorer, table, chosen, scores, shown.advance, shown.skip)
        found = pq.read_table(scores, columns=["id", column]).to_pydict()
        return dict(zip(found["id"], found[column], strict=True))
