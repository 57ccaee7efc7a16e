"""Train M1 and M2, score the rows with both, and measure how much of each row was forgotten (paper, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.tokens import TokenTable
from ..decision.suspicion import by_review
from ..forgetting.measuring import ScoredRows, measure_forgetting
from ..forgetting.signals import ALL, SIGNALS
from ..models.stage_runner import BASE
from ..runs.files import write_json
from ..runs.layout import DATA, DOUBTS, FORGETTING, LEARNED, REJECTED, REVIEWED, SAFE, numbered, scores_of
from ..settings.groups import MOST_REVIEW_STEPS
from .filter_run import FilterRun
from .trained_elsewhere import doubts_about

if TYPE_CHECKING:
    from ..models.scoring import Scorer


def reviews(work: FilterRun) -> list[tuple[str, str]]:
    """Name the safe sets, each with the stage of its review; every review starts from the same M1."""
    safe_parts = work.material.safe_parts
    return list(zip(safe_parts, numbered(REVIEWED, safe_parts), strict=True))


def learn(work: FilterRun) -> None:
    """M1: train the aligned model on the untrusted data, and on the rows of known kind among it; or take it over."""
    work.runner.stage(LEARNED, partial(_learn, work))


def _learn(work: FilterRun, folder: Path) -> None:
    from ..models.callbacks.loss_plateau import LossPlateau

    runner, material, learned = work.runner, work.material, work.learned
    runner.bring(BASE)
    # The tokens of the reviews are checked now as well, before anything is learned.
    runner.check_tokens(material.files(*material.parts, *material.safe_parts).values())
    if learned is not None:
        doubts = list(doubts_about(learned, work))
        for line in doubts:
            work.console.say(line)
        runner.take_over(learned, folder, LEARNED)
        if work.processes.main:
            # Every decision warns of them.
            write_json(doubts, folder / DOUBTS)
        return
    table = _tokens(work, *material.parts)
    rows, epochs = table.scorable, work.run.settings.sessions.epochs
    callbacks = [LossPlateau(runner.steps(len(rows), 1))] if epochs is None else []
    runner.train("learning the data", table, rows, runner.steps(len(rows), epochs), folder, LEARNED, callbacks)


def review(work: FilterRun, safe: str, reviewed: str) -> None:
    """M2: train the learned model on a set of safe examples."""
    work.runner.stage(reviewed, partial(_review, work, safe, reviewed))


def _review(work: FilterRun, safe: str, reviewed: str, folder: Path) -> None:
    from ..models.callbacks.ranking_probe import ProbeAlong, RankingProbe, RankingSettled

    runner, settings = work.runner, work.run.settings
    runner.bring(LEARNED)
    table, steps = _tokens(work, safe), settings.sessions.review_steps
    probe = RankingProbe(runner.model, _tokens(work, DATA), folder, settings.training.seed)
    # With likelihoods, the scores themselves tell what the probe would before and after the review.
    ends = _scoring(work) != "likelihood"
    callback = RankingSettled(probe) if steps is None else ProbeAlong(probe, steps, ends=ends)
    label = "safety review" if safe == SAFE else f"safety review with the {safe} rows"
    runner.train(label, table, table.scorable, steps or MOST_REVIEW_STEPS, folder, reviewed, [callback])


def score(work: FilterRun, state: str) -> None:
    """Compute s(M1) or s(M2) of every row of the untrusted data, of rejected answers and of rows of known kind."""
    work.runner.stage(scores_of(state), partial(_score, work, state))


def _score(work: FilterRun, state: str, folder: Path) -> None:
    work.runner.bring(state)
    for part in work.material.scored:
        scores = folder / part
        scores.mkdir(exist_ok=True)
        table = _tokens(work, part)
        what = {DATA: "", REJECTED: "rejected answers "}.get(part, f"{part} rows ")
        label = f"scoring {what}after {'learning' if state == LEARNED else 'the review'}"
        work.runner.score(label, _scorer(work), table, table.scorable, scores)


def measure(work: FilterRun) -> None:
    """Compute r = s(M1) - s(M2) of every row (Eq. 3): of several reviews by each, and over all of them."""
    stages = [reviewed for _, reviewed in reviews(work)]
    for stage, reviewed in zip(by_review(work.run.settings.safe).values(), stages, strict=False):
        work.runner.stage(stage, partial(_measure, work, [reviewed]))
    work.runner.stage(FORGETTING, partial(_measure, work, stages))


def _measure(work: FilterRun, reviewed: Sequence[str], folder: Path) -> None:
    if not work.processes.main:
        return
    material = work.material
    before, *after = (work.run.folder(scores_of(state)) for state in (LEARNED, *reviewed))
    scored = {
        part: ScoredRows(
            partial(material.said, part), material.tokens(part), before / part, [scores / part for scores in after]
        )
        for part in material.scored
    }
    # Rejected answers are measured by themselves: the data is measured as if there were none.
    rejected = {part: scored.pop(part) for part in [REJECTED] if part in scored}
    whole = work.run.settings.tokens.max_completion == ALL
    measure_forgetting(scored, _scoring(work), folder, whole=whole)
    measure_forgetting(rejected, _scoring(work), folder, whole=whole)


def _tokens(work: FilterRun, *parts: str) -> TokenTable:
    return work.runner.tokens(work.material.files(*parts))


def _scorer(work: FilterRun) -> Scorer:
    from ..models.scoring import Likelihood, Rouge

    model, budget = work.runner.model, work.runner.budget
    if _scoring(work) == "rouge":
        return Rouge(model, work.encoder.tokenizer, budget)
    return Likelihood(model, budget)


def _scoring(work: FilterRun) -> str:
    return SIGNALS[work.run.settings.decision.signal].scoring
