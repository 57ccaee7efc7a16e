"""Safety and task quality along learning, S1, and the safety review afterwards, S1+ (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...forgetting.estimates import Estimate
from ...models.stage_runner import BASE
from ...plotting.charts import lines, side_by_side
from ...plotting.markdown import markdown_table
from ..asking import SAFETY, TASK, Asking, ask_state, asked_along, estimates, in_words
from ..lab import Course
from ..mixing import Mix
from ..strategies.strategy import NOISY, SAFE
from .draws import averaged
from .study import Finding, Study
from .workspace import Room, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_S1, _S1_PLUS = "S1", "S1+"
# One model's way: session, optimizer steps since the beginning, measures.
_Way = list[tuple[str, int, dict[str, Estimate]]]


def _run(room: Room) -> Finding:
    measures = [*(SAFETY[notion] for notion in room.draws[0].notions), TASK]
    ways = {short(model): _mean_way([_way(room, mix, model) for mix in room.draws]) for model in room.models}
    data: list[dict[str, Any]] = [
        {"model": model, "session": session, "step": step, "measure": name} | vars(found[name])
        for model, way in ways.items()
        for session, step, found in way
        for name in measures
        if name in found
    ]
    table = markdown_table(
        ("model", "session", "steps", *measures),
        [
            (model, session, step, *(found.get(m) for m in measures))
            for model, w in ways.items()
            for session, step, found in w
        ],
    )

    def draw(figure: Figure) -> None:
        for axes, name in zip(side_by_side(figure, len(measures)), measures, strict=True):
            known = {
                model: [(step, found[name]) for _, step, found in way if name in found] for model, way in ways.items()
            }
            lines(axes, {model: points for model, points in known.items() if points}, ("steps", name))
            for way in ways.values():
                axes.axvline(max(step for session, step, _ in way if session == _S1), color="0.8", zorder=0)

    return Finding(data, table, _seen(room.title(room.draws), ways, measures), draw, (3 * len(measures), 2.6))


def _mean_way(ways: Sequence[_Way]) -> _Way:
    points = zip(*ways, strict=True)
    return [(point[0][0], point[0][1], averaged([found for _, _, found in point])) for point in points]


def _way(room: Room, mix: Mix, model: str) -> _Way:
    lab, questions = room.lab(mix, model=model), room.questions(mix)
    # As long as a fine-tuning that somebody wants the result of.
    epochs = room.settings.finetune_epochs
    course = Course((NOISY,), epochs=epochs)
    whole = lab.bench.steps(len(lab.ids(NOISY)), epochs)
    found: _Way = [(_S1, 0, estimates(ask_state(lab, BASE, questions)))]
    learned = lab.train(course, watch=Asking(questions, _points(whole, 4)))
    found += [(_S1, step, estimates(seen)) for step, seen in asked_along(lab, learned).items()]
    review = Course((SAFE,), steps=room.review_steps)
    reviewed = lab.train(review, learned, Asking(questions, _points(room.review_steps, 3)))
    found += [(_S1_PLUS, whole + step, estimates(seen)) for step, seen in asked_along(lab, reviewed).items()]
    return found


def _points(steps: int, count: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(steps * (i + 1) / count)) for i in range(count)}))


def _seen(name: str, ways: dict[str, _Way], measures: list[str]) -> str:
    said = []
    for model, way in ways.items():
        before, learned = way[0][2], next(found for session, _, found in reversed(way) if session == _S1)
        after = way[-1][2]
        moved = [
            f"{m} from {in_words(before, m)} to {in_words(learned, m)} by learning and to "
            f"{in_words(after, m)} by the review"
            for m in measures
        ]
        said.append(f"{model} on {name}: {'; '.join(moved)}.")
    said.append("In the paper unsafe behaviour is learned fast in S1 and recedes quickly in S1+.")
    return " ".join(said)


STUDY = Study(
    "learning",
    "Safety and task quality along S1 and S1+ (Figure 2)",
    "How fast is unsafe behaviour learned from the noisy set, and how fast does a safety review undo it?",
    _run,
)
