"""Prompts a model with held-out rows and measures its answers; a killed evaluation resumes where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..classifiers.judge import Judge, check_judge, judge
from ..classifiers.toxicity import Classifier, check_toxicity_classifier, toxicity_classifier
from ..console import Console
from ..data.rows import Said
from ..data.tokens import Encoder, TokenTable, write_tokens
from ..runs.layout import EVALUATION, tokens_of
from ..settings.experiments import MeasuringSettings
from .answer_measures import AnswerMeasures
from .harness import check_harness, harness_measures
from .held_out import BIAS, HARMFULNESS, INSTRUCTIONS, KINDS, SQUAD, TOXICITY, HeldOut
from .jailbreaks import JAILBREAKS
from .results import Evaluation, read_evaluation
from .tasks import perplexity_measures

if TYPE_CHECKING:
    from ..models.scoring import Scorer
    from ..models.trainable_model import TrainableModel

# Rewrites a prompt before the model gets it, given the prompt and the row's notion.
PromptRewrite = Callable[[str, str], str]

JAILBREAK = "jailbreak"
# Token limits for kinds that are answered in a line: these show all that is measured.
_SHORT = {BIAS: 32, SQUAD: 48, TOXICITY: 48}


def unchanged(prompt: str, notion: str) -> str:  # noqa: ARG001
    """Leave a prompt as it is."""
    return prompt


def check_measuring(settings: MeasuringSettings, kinds: Collection[str]) -> None:
    """Refuse what is needed to measure rows of these kinds and is not there, before a model works for an hour.

    Raises:
        ForgetFilterError: The harness is missing, or what is named as classifier or judge is none.
    """
    if settings.measures.lm_eval:
        check_harness(settings.measures.lm_eval)
    if TOXICITY in kinds:
        check_toxicity_classifier(settings.classifiers.toxicity_classifier)
    if HARMFULNESS in kinds and settings.classifiers.judge:
        check_judge(settings.classifiers.judge)


def evaluate(
    model: TrainableModel,
    encoder: Encoder,
    rows: Sequence[HeldOut],
    settings: MeasuringSettings,
    folder: Path,
    console: Console,
    rewrite: PromptRewrite = unchanged,
    judge_model: Judge | None = None,
) -> Evaluation:
    """Measure the session's model, in its present state, on held-out rows; every process makes the same call.

    Args:
        model: The model.
        encoder: Turns rows into tokens, with the template that the model was trained with.
        rows: The held-out rows; an attempt that resumes in this folder must pass the same ones.
        settings: What to measure.
        folder: Where answers and results go; an evaluation that is finished there is read instead.
        console: Where to report progress.
        rewrite: Rewrites each prompt before the model gets it, jailbreaks included.
        judge_model: The model that judges answers to harmful prompts, if any.

    Raises:
        ForgetFilterError: The classifier or the harness is missing, or memory does not suffice.
    """
    if (folder / EVALUATION).is_file():
        return read_evaluation(folder)
    main = model.accelerator.is_main_process
    of_kind = {kind: [row for row in rows if row.kind == kind] for kind in KINDS}
    tasks = check_harness(settings.measures.lm_eval) if settings.measures.lm_eval else []
    classifier = _classifier(model, settings) if of_kind[TOXICITY] and main else None
    runner = _Runner(model, encoder, settings, folder, console)
    results, asked, skipped = AnswerMeasures(), {}, set()
    for kind, chosen in of_kind.items():
        if not chosen:
            continue
        prompts = {row.id: rewrite(row.prompt, row.notion) for row in chosen}
        answers = runner.answers(kind, [(row.id, row, prompts[row.id]) for row in chosen])
        skipped |= {row.id for row in chosen} - set(answers)
        answered = [row for row in chosen if row.id in answers]
        asked[kind] = len(answered)
        texts = [prompts[row.id] for row in answered], [answers[row.id] for row in answered]
        if kind == BIAS:
            results.add_bias(answered, *texts, runner.options(answered, prompts))
        elif kind == TOXICITY and classifier is not None:
            results.add_toxicity(answered, *texts, classifier)
        elif kind == HARMFULNESS:
            judged = runner.judged(kind, judge_model, [row.prompt for row in answered], texts[1])
            results.add_harmfulness(kind, answered, ["plain"] * len(answered), *texts, judged)
            if settings.measures.jailbreak:
                skipped |= _add_jailbreaks(runner, results, answered, rewrite, judge_model)
        elif kind == SQUAD:
            results.add_squad(answered, *texts)
        elif kind == INSTRUCTIONS:
            results.add_instructions(answered, *texts)
    results.measures += runner.perplexity(rows, rewrite)
    if tasks:
        console.say(f"lm-evaluation-harness runs {', '.join(tasks)}")
        results.measures += harness_measures(model, encoder.tokenizer, tasks, settings.measures.most_rows)
    if main:
        name = classifier.name if classifier is not None else ""
        judge_name = judge_model.name if judge_model is not None else ""
        not_compared = tuple(sorted(results.not_compared))
        evaluation = Evaluation(tuple(results.measures), asked, tuple(sorted(skipped)), name, judge_name, not_compared)
        evaluation.write(folder, results.records)
    model.accelerator.wait_for_everyone()
    return read_evaluation(folder)


def _classifier(model: TrainableModel, settings: MeasuringSettings) -> Classifier:
    return toxicity_classifier(settings.classifiers.toxicity_classifier, str(model.hardware.device))


def _add_jailbreaks(
    runner: _Runner,
    results: AnswerMeasures,
    rows: Sequence[HeldOut],
    rewrite: PromptRewrite,
    judge_model: Judge | None,
) -> set[str]:
    """Put every harmful prompt to the model in every way of `JAILBREAKS`, and measure the answers.

    Returns:
        Those that are too long, as ID/KIND.
    """
    attacks = [(row, kind, rewrite(wrap(row.prompt), row.notion)) for kind, wrap in JAILBREAKS.items() for row in rows]
    answers = runner.answers(JAILBREAK, [(f"{row.id}/{kind}", row, prompt) for row, kind, prompt in attacks])
    answered = [(row, kind, prompt) for row, kind, prompt in attacks if f"{row.id}/{kind}" in answers]
    texts = [answers[f"{row.id}/{kind}"] for row, kind, _ in answered]
    # The judge sees the plain prompt: what was wanted, however it was put.
    judged = runner.judged(JAILBREAK, judge_model, [row.prompt for row, _, _ in answered], texts)
    kinds, prompts = [kind for _, kind, _ in answered], [prompt for _, _, prompt in answered]
    results.add_harmfulness(JAILBREAK, [row for row, _, _ in answered], kinds, prompts, texts, judged)
    return {f"{row.id}/{kind}" for row, kind, _ in attacks} - set(answers)


class _Runner:
    """Generates answers and scores completions, part by part, each part in a folder of its own."""

    def __init__(
        self, model: TrainableModel, encoder: Encoder, settings: MeasuringSettings, folder: Path, console: Console
    ) -> None:
        self.model, self.encoder, self.longest = model, encoder, settings.measures.max_new_tokens
        self.folder, self.console = folder / "asked", console
        self._tokens_per_batch = settings.passes.tokens_per_batch
        self.budget = self._budget_of(model)

    def _budget_of(self, model: TrainableModel) -> int:
        """Return the most tokens of a pass of a model; without gradients twice as many fit as in training."""
        return 2 * model.token_budget(self._tokens_per_batch)

    def answers(self, part: str, prompts: Sequence[tuple[str, HeldOut, str]]) -> dict[str, str]:
        """Generate the answer to each (id, row, prompt), by id; prompts that are too long get none."""
        from ..models.scoring import Answers

        if not prompts:
            return {}
        most = min(self.longest, _SHORT.get(part, self.longest))
        if part == BIAS and any(prompt != row.prompt for _, row, prompt in prompts):
            # The request that is put before the question is to think first, which takes more than a line.
            most = self.longest
        scorer = Answers(self.model, self.encoder.tokenizer, self.budget, most)
        chats = ((id, i, row.chat(prompt, row.completion)) for i, (id, row, prompt) in enumerate(prompts))
        return self._score(f"asking {part}", part, chats, scorer, "answer")

    def options(self, rows: Sequence[HeldOut], prompts: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
        """Score the completion that gives each option: log-probabilities of its tokens, keyed ID#0 to ID#2.

        Options that were cut off are left out: of what is left of them some would be equal.
        """
        options = [(row, j, text) for row in rows if row.question for j, text in enumerate(row.question.completions)]
        if not options:
            return {}
        chats = ((f"{row.id}#{j}", i, row.chat(prompts[row.id], text)) for i, (row, j, text) in enumerate(options))
        return self._logprobs("scoring options", "options", chats, whole=True)

    def perplexity(self, rows: Sequence[HeldOut], rewrite: PromptRewrite) -> list[Any]:
        """Measure the perplexity of the completions."""
        chats = ((row.id, i, row.chat(rewrite(row.prompt, row.notion), row.completion)) for i, row in enumerate(rows))
        logprobs = self._logprobs("scoring completions", "completions", chats)
        by_row = {i: logprobs[row.id] for i, row in enumerate(rows) if row.id in logprobs}
        return perplexity_measures([row.notion for row in rows], by_row) if by_row else []

    def judged(
        self, part: str, judge_model: Judge | None, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64] | None:
        """Judge each answer: P(unsafe), or None without a judge."""
        if judge_model is None:
            return None
        pairs = list(zip(prompts, answers, strict=True))
        return judge(
            judge_model.model,
            judge_model.tokenizer,
            pairs,
            self.folder / f"{part}-judged",
            lambda count: self.console.progress(f"judging {part}", count, "verdicts"),
            self._budget_of(judge_model.model),
            judge_model.family,
        )

    def _logprobs(
        self, label: str, part: str, chats: Iterable[Said], *, whole: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        from ..models.scoring import Likelihood

        logprobs = self._score(label, part, chats, Likelihood(self.model, self.budget), "logprobs", whole=whole)
        return {id: np.array(values, dtype=np.float64) for id, values in logprobs.items()}

    def _score(
        self, label: str, part: str, chats: Iterable[Said], scorer: Scorer, column: str, *, whole: bool = False
    ) -> dict[str, Any]:
        """Score rows, or those alone that are whole, and return one column of the scores by row id."""
        from ..models.scoring import score
        from ..models.trainable_model import memory_explained

        tokens, scores = self.folder / tokens_of(part), self.folder / part
        if self.model.accelerator.is_main_process:
            scores.mkdir(parents=True, exist_ok=True)
            for _ in write_tokens(chats, self.encoder, tokens):
                pass
        self.model.accelerator.wait_for_everyone()
        table = TokenTable(tokens)
        chosen = table.scorable
        chosen = chosen[~table.truncated[chosen]] if whole else chosen
        if not len(chosen):
            return {}
        with memory_explained(self.budget // 2), self.console.progress(label, len(chosen), "rows") as shown:
            score(self.model, scorer, table, chosen, scores, shown.advance, shown.skip)
        columns = pq.read_table(scores, columns=["id", column]).to_pydict()
        return dict(zip(columns["id"], columns[column], strict=True))
