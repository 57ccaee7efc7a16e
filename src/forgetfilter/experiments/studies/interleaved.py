"""Noisy and safe sessions in turn, with and without the filter (paper, Section 4, Figures 5 and 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...forgetting.estimates import Estimate
from ...models.stage_runner import BASE
from ...plotting.charts import lines, side_by_side
from ...plotting.markdown import markdown_table
from ..asking import SAFETY, TASK, ask_state, estimates, in_words
from ..lab import Course
from ..mixing import Mix
from ..strategies.requests import with_request
from ..strategies.strategy import KEPT, NOISY, REQUESTED, SAFE
from .draws import over_draws
from .study import Finding, Study
from .workspace import Room

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is trained on in the noisy sessions, and whether a request stands before the prompts that are asked.
_WAYS = {"none": (NOISY, False), "self-correction": (REQUESTED, True), "forgetfilter": (KEPT, False)}

# Measures by strategy and session.
_Found = dict[str, dict[str, dict[str, Estimate]]]


def _run(room: Room) -> Finding:
    found = over_draws(room.draws, lambda mix: _sessions(room, mix))
    measures = [*(SAFETY[notion] for notion in room.draws[0].notions), TASK]
    data_rows: list[dict[str, Any]] = [
        {"strategy": way, "number": i, "session": session, "measure": name} | vars(seen[name])
        for way, sessions in found.items()
        for i, (session, seen) in enumerate(sessions.items())
        for name in measures
        if name in seen
    ]
    table = markdown_table(
        ("strategy", "after session", *measures),
        [
            (way, session, *(seen.get(m) for m in measures))
            for way, all_ in found.items()
            for session, seen in all_.items()
        ],
    )

    names = list(found["none"])

    def draw(figure: Figure) -> None:
        for axes, name in zip(side_by_side(figure, len(measures)), measures, strict=True):
            known = {
                way: [(float(i), seen[name]) for i, seen in enumerate(sessions.values()) if name in seen]
                for way, sessions in found.items()
            }
            lines(axes, {way: points for way, points in known.items() if points}, ("after session", name))
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=6)

    seen = f"{room.title(room.draws)}. {room.told_of_filter(room.draws)} {_seen(found, measures)}"
    return Finding(data_rows, table, seen, draw, (3 * len(measures), 2.8))


def _sessions(room: Room, mix: Mix) -> _Found:
    lab = room.lab(mix)
    lab.add(KEPT, room.kept(mix))
    lab.add(REQUESTED, mix.noisy, with_request(mix))
    found: _Found = {}
    for way, (data, requested) in _WAYS.items():
        questions = room.requested(mix) if requested else room.questions(mix)
        state = BASE
        found[way] = {"aligned": estimates(ask_state(lab, state, questions))}
        for number in range(1, room.settings.rounds + 1):
            for session, course in (
                (f"noisy {number}", Course((data,), epochs=room.settings.finetune_epochs)),
                (f"safe {number}", Course((SAFE,), steps=room.review_steps)),
            ):
                state = lab.train(course, state)
                found[way][session] = estimates(ask_state(lab, state, questions))
    return found


def _seen(found: _Found, measures: list[str]) -> str:
    said = []
    for way, sessions in found.items():
        for m in measures[:-1]:
            noisy, safe = (
                ", ".join(in_words(seen, m) for session, seen in sessions.items() if session.startswith(kind))
                for kind in ("noisy", "safe")
            )
            said.append(f"{way}: {m} is {noisy} after the noisy sessions and {safe} after the safe ones.")
    said.append(
        "In the paper unsafe behaviour comes back with each noisy session and grows from round to round, "
        "self-correction loses its effect, and with ForgetFilter the model stays safe."
    )
    return " ".join(said)


STUDY = Study(
    "interleaved",
    "Noisy and safe sessions in turn (Section 4, Figures 5 and 12)",
    "Does unsafe behaviour come back with the next noisy session, and what helps against it?",
    _run,
)
