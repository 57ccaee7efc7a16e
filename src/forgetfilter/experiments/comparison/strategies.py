"""What a model is after each strategy, on held-out rows (paper, Table 2)."""

from __future__ import annotations

from pathlib import Path

from ...classifiers.judge import load_judge
from ...console import Console
from ...evaluation.evaluate import plainly
from ...models.sources import ModelSource
from ...settings.groups import REVIEW_STEPS, CompareSettings
from ...settings.option import split_names
from ..asking import Questions, ask_state, estimates
from ..lab import Lab
from ..mixing import Mix
from ..strategies.requests import asked_with_request, with_request
from ..strategies.strategy import KEPT, KEPT_REQUESTED, NOISY, REQUESTED, SAFE, THOUGHT_THROUGH, strategies
from .records import STRATEGIES, Record, recipe_of


def strategy_records(
    mix: Mix, kept: Path, settings: CompareSettings, source: ModelSource, folder: Path, console: Console
) -> list[Record]:
    """Train every strategy on the mix and evaluate it on the mix's held-out rows.

    Args:
        mix: The noisy, safe and held-out rows.
        kept: The file of the rows that the filter kept.
        settings: What is trained and measured.
        source: The aligned model.
        folder: Of this mix.
        console: Where to tell what goes on.

    Raises:
        ForgetFilterError: Anything the user can mend.
    """
    lab = Lab(folder / "lab", source, settings, console)
    _add_data(lab, mix, kept, settings)
    review_steps = settings.review_steps or REVIEW_STEPS
    known = strategies(settings.finetune_epochs, review_steps, thought_through=bool(settings.thought_through))
    judging = load_judge(settings.judge, settings) if settings.judge else None
    told = STRATEGIES, "+".join(mix.notions), mix.unsafe_share, recipe_of(mix), mix.seed
    records = []
    for name in split_names(settings.strategies):
        strategy = known[name]
        ask = asked_with_request if strategy.self_correction else plainly
        way = "requested" if strategy.self_correction else "asked"
        console.say(f"strategy {name}: {strategy.summary}")
        found = ask_state(lab, strategy.train(lab), Questions(way, mix.held_out, settings, console, ask, judging))
        records.append(Record(*told, name, estimates(found)))
    return records


def _add_data(lab: Lab, mix: Mix, kept: Path, settings: CompareSettings) -> None:
    requested = with_request(mix)
    lab.add(NOISY, mix.noisy)
    lab.add(SAFE, mix.safe)
    lab.add(KEPT, kept)
    lab.add(REQUESTED, mix.noisy, requested)
    lab.add(KEPT_REQUESTED, kept, requested)
    if settings.thought_through:
        lab.add(THOUGHT_THROUGH, Path(settings.thought_through))
