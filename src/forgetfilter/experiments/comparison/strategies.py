"""Evaluates the model that each strategy yields, on held-out rows (paper, Table 2)."""

from __future__ import annotations

from pathlib import Path

from ...classifiers.judge import load_judge
from ...console import Console
from ...evaluation.evaluate import unchanged
from ...evaluation.held_out import HARMFULNESS
from ...models.sources import ModelSource
from ...settings.experiments import CompareSettings
from ...settings.groups import REVIEW_STEPS
from ...settings.option import split_names
from ..evaluating import EvaluationSpec, estimates, evaluate_state
from ..experiment import Experiment
from ..mixing import Mix
from ..strategies.requests import prepend_request, request_rewriter
from ..strategies.strategy import KEPT, KEPT_REQUESTED, NOISY, REQUESTED, SAFE, THOUGHT_THROUGH, strategies
from .records import STRATEGIES, Record, recipe_of


def strategy_records(
    mix: Mix, kept: Path, settings: CompareSettings, source: ModelSource, folder: Path, console: Console
) -> list[Record]:
    """Train every strategy on the mix and evaluate it on the mix's held-out rows.

    Args:
        mix: The noisy, safe and held-out rows.
        kept: The file of the rows that the filter kept.
        settings: How to train, and what to measure.
        source: The aligned model.
        folder: The folder of this mix.
        console: Where to report progress.

    Raises:
        ForgetFilterError: Anything that the user can fix.
    """
    experiment = Experiment(folder / "lab", source, settings, console)
    _add_data(experiment, mix, kept, settings)
    review_steps = settings.sessions.review_steps or REVIEW_STEPS
    available = strategies(settings.final.finetune_epochs, review_steps, thought_through=bool(settings.thought_through))
    asks_judge = settings.classifiers.judge and HARMFULNESS in mix.notions
    judge = load_judge(settings.classifiers.judge, settings.model) if asks_judge else None
    key = STRATEGIES, "+".join(mix.notions), mix.unsafe_share, recipe_of(mix), mix.seed
    records = []
    for name in split_names(settings.strategies):
        strategy = available[name]
        rewrite = prepend_request if strategy.self_correction else unchanged
        label = "requested" if strategy.self_correction else "asked"
        console.say(f"strategy {name}: {strategy.summary}")
        spec = EvaluationSpec(label, mix.held_out, settings, console, rewrite, judge)
        evaluation = evaluate_state(experiment, strategy.train(experiment), spec)
        records.append(Record(*key, name, estimates(evaluation)))
    return records


def _add_data(experiment: Experiment, mix: Mix, kept: Path, settings: CompareSettings) -> None:
    requested = request_rewriter(mix)
    experiment.add(NOISY, mix.noisy)
    experiment.add(SAFE, mix.safe)
    experiment.add(KEPT, kept)
    experiment.add(REQUESTED, mix.noisy, requested)
    experiment.add(KEPT_REQUESTED, kept, requested)
    if settings.thought_through:
        experiment.add(THOUGHT_THROUGH, Path(settings.thought_through))
