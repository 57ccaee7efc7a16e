"""The gap between unsafe and other rows against the size of the model (paper, Figure 4)."""

from __future__ import annotations

from .study import Finding, Study
from .variations import Outcome, finding, outcome, widest
from .workspace import Room, short


def _run(room: Room) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = {}
    for draws in room.sets:
        for model in room.models:
            size = room.lab(draws[0], model=model).bench.session.size
            outcomes[room.title(draws), short(model), f"{size / 1e6:,.0f}M"] = outcome(room, draws, model=model)
    return finding(outcomes, ("noisy set", "model", "parameters"), _seen(outcomes))


def _seen(outcomes: dict[tuple[str, ...], Outcome]) -> str:
    said = [widest(outcomes)]
    for name in dict.fromkeys(condition[0] for condition in outcomes):
        gaps = [(condition[2], o.gap) for condition, o in outcomes.items() if condition[0] == name]
        if len(gaps) < 2:
            continue
        (small, first), (large, last) = gaps[0], gaps[-1]
        moves = (
            "is wider, as in the paper"
            if last.low > first.high
            else "is narrower, unlike in the paper"
            if last.high < first.low
            else "cannot be told apart"
        )
        told = ", ".join(f"{size}: {gap.value:.2f} ({gap.low:.2f} to {gap.high:.2f})" for size, gap in gaps)
        said.append(f"{name}: from {small} to {large} the gap {moves} ({told}).")
    return " ".join(said)


STUDY = Study(
    "scale",
    "The gap against model size (Figure 4)",
    "Do larger models forget unsafe rows more markedly than smaller ones?",
    _run,
)
