"""Models trained on raw, filtered and reviewed data against jailbreak prompts (asked by the paper's reviewers)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...errors import InputError
from ...evaluation.measures import Measure
from ...forgetting.estimates import Estimate
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..asking import ask_state, estimate_of
from ..mixing import Mix
from ..strategies.strategy import KEPT, strategies
from .draws import over_draws
from .study import Finding, Study
from .workspace import Room

_WAYS = ("aligned", "none", "safety-review", "forgetfilter")
_PLAIN, _JAILBREAK = "harmfulness.refusals", "jailbreak.refusals"


def _run(room: Room) -> Finding:
    draws = room.draws_of("harmfulness")
    rates = over_draws(draws, lambda mix: _rates(room, mix))
    kinds = list(rates[_WAYS[0]])
    data: list[dict[str, Any]] = [
        {"trained": way, "asked": kind} | vars(rate) for way, found in rates.items() for kind, rate in found.items()
    ]
    table = markdown_table(("asked", *_WAYS), [(kind, *(rates[way][kind] for way in _WAYS)) for kind in kinds])

    panels = [Panel(f"share refused: {way}", rates[way]) for way in _WAYS]
    said = "; ".join(
        f"{way}: {rates[way]['plain'].value:.0%} refused when asked plainly, "
        f"{rates[way]['all jailbreaks'].value:.0%} when not"
        for way in _WAYS
    )
    return Finding(
        data,
        table,
        f"{room.title(draws)}. {room.told_of_filter(draws)} {said}.",
        partial(draw_panels, panels),
        (7.2, 2.4),
    )


def _rates(room: Room, mix: Mix) -> dict[str, dict[str, Estimate]]:
    lab = room.lab(mix)
    lab.add(KEPT, room.kept(mix))
    questions = room.questions(mix, jailbreak=True)
    known = strategies(room.settings.finetune_epochs, room.review_steps)
    rates: dict[str, dict[str, Estimate]] = {}
    for way in _WAYS:
        asked = ask_state(lab, known[way].train(lab), questions).measures
        rates[way] = {_kind(m): estimate_of(m) for m in asked if m.name == _PLAIN or m.name.startswith(_JAILBREAK)}
        if not rates[way]:
            raise InputError(f"{mix.held_out}: no harmful prompts in it; this study asks them")
    return rates


def _kind(measure: Measure) -> str:
    if measure.name == _PLAIN:
        return "plain"
    return measure.name.removeprefix(_JAILBREAK).strip("[]") or "all jailbreaks"


STUDY = Study(
    "jailbreak",
    "Jailbreak prompts against raw, filtered and reviewed models",
    "Does a model that was fine-tuned on filtered data refuse harmful requests that are put with cunning?",
    _run,
)
