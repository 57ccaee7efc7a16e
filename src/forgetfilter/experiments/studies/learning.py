"""Measures safety and task quality along learning, S1, and the safety review afterwards, S1+ (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...forgetting.estimates import Estimate
from ...models.stage_runner import BASE
from ...plotting.charts import lines, side_by_side
from ...plotting.markdown import markdown_table
from ..evaluating import SAFETY, TASK, EvaluateAlong, estimates, evaluate_state, evaluations_along, format_measure
from ..experiment import TrainingPlan
from ..mixing import Mix
from ..strategies.strategy import NOISY, SAFE
from .averaging import average
from .context import StudyContext, short_name
from .study import Finding, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_S1, _S1_PLUS = "S1", "S1+"
# The evaluations of one model: session, optimizer steps since the beginning, measures.
_Trajectory = list[tuple[str, int, dict[str, Estimate]]]


def _run(context: StudyContext) -> Finding:
    measures = [*(SAFETY[notion] for notion in context.draws[0].notions), TASK]
    trajectories = {
        short_name(model): _mean_trajectory([_trajectory(context, mix, model) for mix in context.draws])
        for model in context.models
    }
    data: list[dict[str, Any]] = [
        {"model": model, "session": session, "step": step, "measure": name} | vars(measured[name])
        for model, trajectory in trajectories.items()
        for session, step, measured in trajectory
        for name in measures
        if name in measured
    ]
    table = markdown_table(
        ("model", "session", "steps", *measures),
        [
            (model, session, step, *(measured.get(m) for m in measures))
            for model, trajectory in trajectories.items()
            for session, step, measured in trajectory
        ],
    )

    def draw(figure: Figure) -> None:
        for axes, name in zip(side_by_side(figure, len(measures)), measures, strict=True):
            known = {
                model: [(step, measured[name]) for _, step, measured in trajectory if name in measured]
                for model, trajectory in trajectories.items()
            }
            lines(axes, {model: points for model, points in known.items() if points}, ("steps", name))
            for trajectory in trajectories.values():
                axes.axvline(max(step for session, step, _ in trajectory if session == _S1), color="0.8", zorder=0)

    return Finding(
        data, table, _summary(context.title(context.draws), trajectories, measures), draw, (3 * len(measures), 2.6)
    )


def _mean_trajectory(trajectories: Sequence[_Trajectory]) -> _Trajectory:
    aligned = zip(*trajectories, strict=True)
    return [(draws[0][0], draws[0][1], average([measured for _, _, measured in draws])) for draws in aligned]


def _trajectory(context: StudyContext, mix: Mix, model: str) -> _Trajectory:
    experiment, spec = context.experiment(mix, model=model), context.evaluation(mix)
    # As long as a fine-tuning whose result is to be used.
    epochs = context.settings.final.finetune_epochs
    plan = TrainingPlan((NOISY,), epochs=epochs)
    whole = experiment.runner.steps(len(experiment.ids(NOISY)), epochs)
    points: _Trajectory = [(_S1, 0, estimates(evaluate_state(experiment, BASE, spec)))]
    learned = experiment.train(plan, watch=EvaluateAlong(spec, _points(whole, 4)))
    points += [
        (_S1, step, estimates(evaluation)) for step, evaluation in evaluations_along(experiment, learned).items()
    ]
    review = TrainingPlan((SAFE,), steps=context.review_steps)
    reviewed = experiment.train(review, learned, EvaluateAlong(spec, _points(context.review_steps, 3)))
    points += [
        (_S1_PLUS, whole + step, estimates(evaluation))
        for step, evaluation in evaluations_along(experiment, reviewed).items()
    ]
    return points


def _points(steps: int, count: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(steps * (i + 1) / count)) for i in range(count)}))


def _summary(name: str, trajectories: dict[str, _Trajectory], measures: list[str]) -> str:
    sentences = []
    for model, trajectory in trajectories.items():
        before, learned = (
            trajectory[0][2],
            next(measured for session, _, measured in reversed(trajectory) if session == _S1),
        )
        after = trajectory[-1][2]
        moved = [
            f"{m} from {format_measure(before, m)} to {format_measure(learned, m)} by learning and to "
            f"{format_measure(after, m)} by the review"
            for m in measures
        ]
        sentences.append(f"{model} on {name}: {'; '.join(moved)}.")
    sentences.append("In the paper unsafe behaviour is learned fast in S1 and recedes quickly in S1+.")
    return " ".join(sentences)


STUDY = Study(
    "learning",
    "Safety and task quality along S1 and S1+ (Figure 2)",
    "How fast is unsafe behaviour learned from the noisy set, and how fast does a safety review undo it?",
    _run,
)
