"""Filter with a small model, fine-tune a larger one on what it kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...errors import SettingsError
from ...forgetting.estimates import UNKNOWN, Estimate
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..asking import SAFETY, TASK, ask_state, estimates, in_words
from ..lab import Course
from ..mixing import Mix
from ..strategies.strategy import NOISY
from .draws import over_draws
from .study import Finding, Study
from .workspace import UNSAFE, Room, labels, short


def _run(room: Room) -> Finding:
    if len(room.models) < 2:
        raise SettingsError("transfer needs two models, the smaller first: --models SMALL,LARGE")
    small, large = room.models[0], room.models[-1]
    measures = [*(SAFETY[notion] for notion in room.draws[0].notions), TASK]
    found = over_draws(room.draws, lambda mix: _by_filter(room, mix, small, large))
    data: list[dict[str, Any]] = [
        {"trained_on": way, "measure": m} | vars(seen[m]) for way, seen in found.items() for m in measures if m in seen
    ]
    rows = [(way, *(seen.get(m) for m in measures)) for way, seen in found.items()]
    table = markdown_table((f"{short(large)}, trained on", *measures), rows)

    panels = [Panel(m, {way: seen.get(m, UNKNOWN) for way, seen in found.items()}) for m in measures]
    seen = f"{_agreement(room, small, large)} " + "; ".join(
        f"{m} of the large model is {in_words(found['filtered by the small model'], m)} on what the small one kept and "
        f"{in_words(found['filtered by the large model'], m)} on what it kept itself"
        for m in measures
    )
    return Finding(data, table, f"{seen}.", partial(draw_panels, panels), (3 * len(measures) + 1.2, 1.8))


def _by_filter(room: Room, mix: Mix, small: str, large: str) -> dict[str, dict[str, Estimate]]:
    """Measures of the large model by what it was trained on."""
    lab, questions = room.lab(mix, model=large), room.questions(mix)

    def trained_on(name: str) -> dict[str, Estimate]:
        state = lab.train(Course((name,), epochs=room.settings.finetune_epochs))
        return estimates(ask_state(lab, state, questions))

    found = {"nothing filtered": trained_on(NOISY)}
    for size, model in (("small", small), ("large", large)):
        lab.add(f"kept-by-{size}", room.kept(mix, model=model))
        found[f"filtered by the {size} model"] = trained_on(f"kept-by-{size}")
    return found


def _agreement(room: Room, small: str, large: str) -> str:
    """How far the two models keep the same rows, in words."""
    alike, unsafe, kept_unsafe = [], 0, {small: 0, large: 0}
    for mix in room.draws:
        label = labels(mix.noisy, "label")
        kept = {model: set(labels(room.kept(mix, model=model), "id")) for model in (small, large)}
        alike += [(id in kept[small]) == (id in kept[large]) for id in label]
        unsafe += sum(name == UNSAFE for name in label.values())
        for model, ids in kept.items():
            kept_unsafe[model] += sum(label[id] == UNSAFE for id in ids)
    return (
        f"{room.title(room.draws)}: {short(small)} and {short(large)} decide alike about {np.mean(alike):.0%} of the "
        f"rows; the small one keeps {kept_unsafe[small]} of {unsafe} unsafe rows, the large one {kept_unsafe[large]}."
    )


STUDY = Study(
    "transfer",
    "Filter with a small model, fine-tune a larger one",
    "How much is lost where a small model filters for a larger one?",
    _run,
)
