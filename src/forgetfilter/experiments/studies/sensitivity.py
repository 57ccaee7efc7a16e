"""How much the result depends on what one has to choose (paper, Figure 8, Appendix C; and what reviewers asked)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...forgetting.thresholds import parse_threshold
from ..mixing import Mix
from .curves import forgetting_curve, review_points
from .draws import over_draws
from .study import Finding, Study
from .variations import Outcome, finding, outcome, outcome_of, widest
from .workspace import Room, group_of, in_order

# Around the defaults, one at a time.
_RATES, _BATCH_FACTORS, _RANKS, _SEEDS, _SAFE_SHARES = (0.3, 3.0), (0.5, 2), (2, 32), (1, 2), (0.25, 0.5)
# Nats a token; the paper's are differences of ROUGE.
_THRESHOLDS = ("0", "0.1", "0.2", "0.4", "top:25%", "top:50%")


def _run(room: Room) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = over_draws(room.draws, partial(_along_the_review, room))
    for what, value, changes in _changes(room):
        outcomes[what, value] = outcome(room, room.draws, **changes)
    for share in _SAFE_SHARES:
        outcomes["safe rows", f"{share:.0%}"] = over_draws(room.draws, partial(_with_few_safe, room, share))
    for draws in room.sets[1:]:
        outcomes["noisy set", room.title(draws)] = outcome(room, draws)
    seen = (
        f"{widest(outcomes)} F1 is that of the threshold auto where the table names none; of the thresholds it is "
        f"largest with {_best_threshold(outcomes)}."
    )
    return finding(outcomes, ("changed", "to"), seen)


def _along_the_review(room: Room, mix: Mix) -> dict[tuple[str, ...], Outcome]:
    curve = forgetting_curve(room.lab(mix), review_points(room.review_steps), epochs=room.epochs)
    group = in_order(group_of(mix), curve.ids)
    found: dict[tuple[str, ...], Outcome] = {
        ("review steps t", f"{step}"): Outcome.of(curve, group, i) for i, step in enumerate(curve.steps[1:], 1)
    }
    for threshold in _THRESHOLDS:
        found["threshold φ", threshold] = Outcome.of(curve, group, threshold=parse_threshold(threshold))
    return found


def _with_few_safe(room: Room, share: float, mix: Mix) -> Outcome:
    lab = room.lab(mix)
    return outcome_of(room, mix, lab, room.part_of_safe(lab, mix, share))


def _best_threshold(outcomes: dict[tuple[str, ...], Outcome]) -> str:
    f1 = {value: o.f1 for (what, value), o in outcomes.items() if what == "threshold φ"}
    best = max(f1, key=lambda value: f1[value].value)
    return f"{best} ({f1[best].value:.2f}, {f1[best].low:.2f} to {f1[best].high:.2f})"


def _changes(room: Room) -> list[tuple[str, str, dict[str, Any]]]:
    rate = room.lab(room.draws[0]).bench.session.peak_learning_rate(room.settings.learning_rate)
    found: list[tuple[str, str, dict[str, Any]]] = []
    found += [("learning rate", f"{rate * f:.1e}", {"learning_rate": float(f"{rate * f:.1e}")}) for f in _RATES]
    sizes = [max(1, round(room.settings.batch_size * factor)) for factor in _BATCH_FACTORS]
    found += [("batch size", f"{size}", {"batch_size": size}) for size in sizes]
    found += [("LoRA rank", f"{rank}", {"lora_rank": rank, "lora_alpha": 2.0 * rank}) for rank in _RANKS]
    found += [("seed", f"{room.settings.seed + s}", {"seed": room.settings.seed + s}) for s in _SEEDS]
    return found


STUDY = Study(
    "sensitivity",
    "Sensitivity to what one has to choose (Figure 8, Appendix C)",
    "How much do review steps, threshold, safe set, rate, batch, rank, seed and the share of unsafe rows matter?",
    _run,
)
