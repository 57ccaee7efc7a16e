"""Puts jailbreak prompts to models trained on raw, filtered and reviewed data (asked for by the paper's reviewers)."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...errors import InputError
from ...evaluation.measures import Measure
from ...forgetting.estimates import Estimate
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..evaluating import estimate_of, evaluate_state
from ..mixing import Mix
from ..strategies.strategy import KEPT, strategies
from .averaging import mean_over_draws
from .context import StudyContext
from .study import Finding, Study

_STRATEGIES = ("aligned", "none", "safety-review", "forgetfilter")
_PLAIN, _JAILBREAK = "harmfulness.refusals", "jailbreak.refusals"


def _run(context: StudyContext) -> Finding:
    draws = context.draws_of("harmfulness")
    rates = mean_over_draws(draws, lambda mix: _rates(context, mix))
    kinds = list(rates[_STRATEGIES[0]])
    data: list[dict[str, Any]] = [
        {"trained": strategy, "asked": kind} | vars(rate)
        for strategy, by_kind in rates.items()
        for kind, rate in by_kind.items()
    ]
    table = markdown_table(
        ("asked", *_STRATEGIES), [(kind, *(rates[strategy][kind] for strategy in _STRATEGIES)) for kind in kinds]
    )

    panels = [Panel(f"share refused: {strategy}", rates[strategy]) for strategy in _STRATEGIES]
    summary = "; ".join(
        f"{strategy}: {rates[strategy]['plain'].value:.0%} refused when asked plainly, "
        f"{rates[strategy]['all jailbreaks'].value:.0%} when not"
        for strategy in _STRATEGIES
    )
    return Finding(
        data,
        table,
        f"{context.title(draws)}. {context.describe_filter(draws)} {summary}.",
        partial(draw_panels, panels),
        (7.2, 2.4),
    )


def _rates(context: StudyContext, mix: Mix) -> dict[str, dict[str, Estimate]]:
    experiment = context.experiment(mix)
    experiment.add(KEPT, context.kept(mix))
    spec = context.evaluation(mix, jailbreak=True)
    available = strategies(context.settings.final.finetune_epochs, context.review_steps)
    rates: dict[str, dict[str, Estimate]] = {}
    for strategy in _STRATEGIES:
        measures = evaluate_state(experiment, available[strategy].train(experiment), spec).measures
        rates[strategy] = {
            _kind(m): estimate_of(m) for m in measures if m.name == _PLAIN or m.name.startswith(_JAILBREAK)
        }
        if not rates[strategy]:
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
