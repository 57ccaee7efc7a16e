"""Filter with a small model, fine-tune a larger one on what it kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..asking import SAFETY, TASK, ask_state, estimates, in_words
from ..errors import SettingsError
from ..filtering.estimates import Estimate
from ..lab import Course
from ..markdown import markdown_table
from ..plots import Panel, draw_panels
from ..strategies.strategy import NOISY
from .room import UNSAFE, Room, labels, short
from .study import Finding, Study


def _run(room: Room) -> Finding:
    if len(room.models) < 2:
        raise SettingsError("transfer needs two models, the smaller first: --models SMALL,LARGE")
    small, large = room.models[0], room.models[-1]
    mix = room.mix
    lab, questions = room.lab(mix, model=large), room.questions(mix)
    measures = [*(SAFETY[notion] for notion in mix.notions), TASK]
    kept = {name: room.kept(mix, model=model) for name, model in (("small", small), ("large", large))}
    found: dict[str, dict[str, Estimate]] = {
        "nothing filtered": estimates(
            ask_state(lab, lab.train(Course((NOISY,), epochs=room.settings.finetune_epochs)), questions)
        )
    }
    for name, path in kept.items():
        lab.add(f"kept-by-{name}", path)
        state = lab.train(Course((f"kept-by-{name}",), epochs=room.settings.finetune_epochs))
        found[f"filtered by the {name} model"] = estimates(ask_state(lab, state, questions))
    ids = {name: set(labels(path, "id")) for name, path in kept.items()}
    everything = labels(mix.noisy, "label")
    alike = float(np.mean([(id in ids["small"]) == (id in ids["large"]) for id in everything]))
    data: list[dict[str, Any]] = [
        {"trained_on": way, "measure": m} | vars(seen[m]) for way, seen in found.items() for m in measures if m in seen
    ]
    rows = [(way, *(seen.get(m) for m in measures)) for way, seen in found.items()]
    table = markdown_table((f"{short(large)}, trained on", *measures), rows)

    unknown = Estimate(float("nan"), float("nan"), float("nan"))
    panels = [Panel(m, {way: seen.get(m, unknown) for way, seen in found.items()}) for m in measures]
    seen = (
        f"{room.title(mix)}: {short(small)} and {short(large)} decide alike about {alike:.0%} of the rows; the small "
        f"one keeps {_unsafe(ids['small'], everything)} of {list(everything.values()).count(UNSAFE)} unsafe rows, "
        f"the large one {_unsafe(ids['large'], everything)}. "
    ) + "; ".join(
        f"{m} of the large model is {in_words(found['filtered by the small model'], m)} on what the small one kept and "
        f"{in_words(found['filtered by the large model'], m)} on what it kept itself"
        for m in measures
    )
    return Finding(data, table, f"{seen}.", partial(draw_panels, panels), (3 * len(measures) + 1.2, 1.8))


def _unsafe(kept: set[str], label: dict[str, str]) -> int:
    return sum(label[id] == UNSAFE for id in kept)


STUDY = Study(
    "transfer",
    "Filter with a small model, fine-tune a larger one",
    "How much is lost where a small model filters for a larger one?",
    _run,
)
