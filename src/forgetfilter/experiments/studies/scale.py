"""Measures the gap between unsafe and other rows by size of the model (paper, Figure 4)."""

from __future__ import annotations

from .context import StudyContext, short_name
from .study import Finding, Study
from .variations import Outcome, describe_extremes, mean_outcome, outcomes_finding


def _run(context: StudyContext) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = {}
    for draws in context.sets:
        for model in context.models:
            size = context.experiment(draws[0], model=model).runner.model.size
            outcomes[context.title(draws), short_name(model), f"{size / 1e6:,.0f}M"] = mean_outcome(
                context, draws, model=model
            )
    return outcomes_finding(outcomes, ("noisy set", "model", "parameters"), _summary(outcomes))


def _summary(outcomes: dict[tuple[str, ...], Outcome]) -> str:
    sentences = [describe_extremes(outcomes)]
    for name in dict.fromkeys(condition[0] for condition in outcomes):
        gaps = [(condition[2], o.gap) for condition, o in outcomes.items() if condition[0] == name]
        if len(gaps) < 2:
            continue
        (small, first), (large, last) = gaps[0], gaps[-1]
        change = (
            "is wider, as in the paper"
            if last.low > first.high
            else "is narrower, unlike in the paper"
            if last.high < first.low
            else "cannot be told apart"
        )
        listed = ", ".join(f"{size}: {gap.value:z.2f} ({gap.low:z.2f} to {gap.high:z.2f})" for size, gap in gaps)
        sentences.append(f"{name}: from {small} to {large} the gap {change} ({listed}).")
    return " ".join(sentences)


STUDY = Study(
    "scale",
    "The gap against model size (Figure 4)",
    "Do larger models forget unsafe rows more markedly than smaller ones?",
    _run,
)
