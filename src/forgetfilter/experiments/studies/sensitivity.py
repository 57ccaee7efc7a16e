"""Varies the choices that a user has to make (paper, Figure 8, Appendix C; and what reviewers asked for)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...forgetting.thresholds import parse_threshold
from ..mixing import Mix
from .averaging import mean_over_draws
from .context import StudyContext, align, groups_by_id
from .curves import forgetting_curve, review_points
from .study import Finding, Study
from .variations import Outcome, describe_extremes, mean_outcome, outcomes_finding, review_outcome

# Changed from the defaults, one at a time.
_RATES, _BATCH_FACTORS, _RANKS, _SEEDS, _SAFE_SHARES = (0.3, 3.0), (0.5, 2), (2, 32), (1, 2), (0.25, 0.5)
# In nats per token; the paper's are differences of ROUGE.
_THRESHOLDS = ("0", "0.1", "0.2", "0.4", "top:25%", "top:50%")


def _run(context: StudyContext) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = mean_over_draws(context.draws, partial(_along_the_review, context))
    for what, value, changes in _changes(context):
        outcomes[what, value] = mean_outcome(context, context.draws, **changes)
    for share in _SAFE_SHARES:
        outcomes["safe rows", f"{share:.0%}"] = mean_over_draws(context.draws, partial(_with_few_safe, context, share))
    for draws in context.sets[1:]:
        outcomes["noisy set", context.title(draws)] = mean_outcome(context, draws)
    summary = (
        f"{describe_extremes(outcomes)} F1 is that of the threshold auto where the table names none; of the thresholds "
        f"it is largest with {_best_threshold(outcomes)}."
    )
    return outcomes_finding(outcomes, ("changed", "to"), summary)


def _along_the_review(context: StudyContext, mix: Mix) -> dict[tuple[str, ...], Outcome]:
    curve = forgetting_curve(context.experiment(mix), review_points(context.review_steps), epochs=context.epochs)
    group = align(groups_by_id(mix), curve.ids)
    outcomes: dict[tuple[str, ...], Outcome] = {
        ("review steps t", f"{step}"): Outcome.of(curve, group, i) for i, step in enumerate(curve.steps[1:], 1)
    }
    for threshold in _THRESHOLDS:
        outcomes["threshold φ", threshold] = Outcome.of(curve, group, threshold=parse_threshold(threshold))
    return outcomes


def _with_few_safe(context: StudyContext, share: float, mix: Mix) -> Outcome:
    experiment = context.experiment(mix)
    return review_outcome(context, mix, experiment, context.part_of_safe(experiment, mix, share))


def _best_threshold(outcomes: dict[tuple[str, ...], Outcome]) -> str:
    f1 = {value: o.f1 for (what, value), o in outcomes.items() if what == "threshold φ"}
    best = max(f1, key=lambda value: f1[value].value)
    return f"{best} ({f1[best].value:.2f}, {f1[best].low:.2f} to {f1[best].high:.2f})"


def _changes(context: StudyContext) -> list[tuple[str, str, dict[str, Any]]]:
    training = context.settings.training
    rate = context.experiment(context.draws[0]).runner.model.peak_learning_rate(training.learning_rate)
    changes: list[tuple[str, str, dict[str, Any]]] = []
    changes += [("learning rate", f"{rate * f:.1e}", {"learning_rate": float(f"{rate * f:.1e}")}) for f in _RATES]
    sizes = [max(1, round(training.batch_size * factor)) for factor in _BATCH_FACTORS]
    changes += [("batch size", f"{size}", {"batch_size": size}) for size in sizes]
    changes += [("LoRA rank", f"{rank}", {"lora_rank": rank, "lora_alpha": 2.0 * rank}) for rank in _RANKS]
    changes += [("seed", f"{training.seed + s}", {"seed": training.seed + s}) for s in _SEEDS]
    return changes


STUDY = Study(
    "sensitivity",
    "Sensitivity to what one has to choose (Figure 8, Appendix C)",
    "How much do review steps, threshold, safe set, rate, batch, rank, seed and the share of unsafe rows matter?",
    _run,
)
