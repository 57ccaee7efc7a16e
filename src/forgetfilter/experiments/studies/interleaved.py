"""Alternates noisy and safe sessions, with and without the filter (paper, Section 4, Figures 5 and 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...forgetting.estimates import Estimate
from ...models.stage_runner import BASE
from ...plotting.charts import lines, side_by_side
from ...plotting.markdown import markdown_table
from ..evaluating import SAFETY, TASK, estimates, evaluate_state, format_measure
from ..experiment import TrainingPlan
from ..mixing import Mix
from ..strategies.requests import request_rewriter
from ..strategies.strategy import KEPT, NOISY, REQUESTED, SAFE
from .averaging import mean_over_draws
from .context import StudyContext
from .study import Finding, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# By strategy: the data of the noisy sessions, and whether the evaluation puts a request before its prompts.
_TRAINED_ON = {"none": (NOISY, False), "self-correction": (REQUESTED, True), "forgetfilter": (KEPT, False)}

# Measures by strategy and session.
_Results = dict[str, dict[str, dict[str, Estimate]]]


def _run(context: StudyContext) -> Finding:
    results = mean_over_draws(context.draws, lambda mix: _sessions(context, mix))
    measures = [*(SAFETY[notion] for notion in context.draws[0].notions), TASK]
    data: list[dict[str, Any]] = [
        {"strategy": strategy, "number": i, "session": session, "measure": name} | vars(measured[name])
        for strategy, sessions in results.items()
        for i, (session, measured) in enumerate(sessions.items())
        for name in measures
        if name in measured
    ]
    table = markdown_table(
        ("strategy", "after session", *measures),
        [
            (strategy, session, *(measured.get(measure) for measure in measures))
            for strategy, sessions in results.items()
            for session, measured in sessions.items()
        ],
    )

    names = list(results["none"])

    def draw(figure: Figure) -> None:
        for axes, name in zip(side_by_side(figure, len(measures)), measures, strict=True):
            known = {
                strategy: [
                    (float(i), measured[name]) for i, measured in enumerate(sessions.values()) if name in measured
                ]
                for strategy, sessions in results.items()
            }
            lines(axes, {strategy: points for strategy, points in known.items() if points}, ("after session", name))
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=6)

    summary = f"{context.title(context.draws)}. {context.describe_filter(context.draws)} {_summary(results, measures)}"
    return Finding(data, table, summary, draw, (3 * len(measures), 2.8))


def _sessions(context: StudyContext, mix: Mix) -> _Results:
    experiment = context.experiment(mix)
    experiment.add(KEPT, context.kept(mix))
    experiment.add(REQUESTED, mix.noisy, request_rewriter(mix))
    results: _Results = {}
    for strategy, (data, requested) in _TRAINED_ON.items():
        spec = context.evaluation_with_requests(mix) if requested else context.evaluation(mix)
        state = BASE
        results[strategy] = {"aligned": estimates(evaluate_state(experiment, state, spec))}
        for number in range(1, context.settings.rounds + 1):
            for session, plan in (
                (f"noisy {number}", TrainingPlan((data,), epochs=context.settings.final.finetune_epochs)),
                (f"safe {number}", TrainingPlan((SAFE,), steps=context.review_steps)),
            ):
                state = experiment.train(plan, state)
                results[strategy][session] = estimates(evaluate_state(experiment, state, spec))
    return results


def _summary(results: _Results, measures: list[str]) -> str:
    sentences = []
    for strategy, sessions in results.items():
        for measure in measures[:-1]:
            noisy, safe = (
                ", ".join(
                    format_measure(measured, measure)
                    for session, measured in sessions.items()
                    if session.startswith(kind)
                )
                for kind in ("noisy", "safe")
            )
            sentences.append(
                f"{strategy}: {measure} is {noisy} after the noisy sessions and {safe} after the safe ones."
            )
    sentences.append(
        "In the paper unsafe behaviour comes back with each noisy session and grows from round to round, "
        "self-correction loses its effect, and with ForgetFilter the model stays safe."
    )
    return " ".join(sentences)


STUDY = Study(
    "interleaved",
    "Noisy and safe sessions in turn (Section 4, Figures 5 and 12)",
    "Does unsafe behaviour come back with the next noisy session, and what helps against it?",
    _run,
)
