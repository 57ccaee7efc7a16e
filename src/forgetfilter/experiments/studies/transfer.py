"""Filters with a small model, and fine-tunes a larger one on the kept rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...errors import SettingsError
from ...forgetting.estimates import UNKNOWN, Estimate
from ...plotting.charts import Panel, draw_panels
from ...plotting.markdown import markdown_table
from ..evaluating import SAFETY, TASK, estimates, evaluate_state, format_measure
from ..experiment import TrainingPlan
from ..mixing import Mix
from ..strategies.strategy import NOISY
from .averaging import mean_over_draws
from .context import UNSAFE, StudyContext, column_by_id, short_name
from .study import Finding, Study


def _run(context: StudyContext) -> Finding:
    if len(context.models) < 2:
        raise SettingsError("transfer needs two models, the smaller first: --models SMALL,LARGE")
    small, large = context.models[0], context.models[-1]
    measures = [*(SAFETY[notion] for notion in context.draws[0].notions), TASK]
    results = mean_over_draws(context.draws, lambda mix: _by_filter(context, mix, small, large))
    data: list[dict[str, Any]] = [
        {"trained_on": condition, "measure": m} | vars(measured[m])
        for condition, measured in results.items()
        for m in measures
        if m in measured
    ]
    rows = [(condition, *(measured.get(m) for m in measures)) for condition, measured in results.items()]
    table = markdown_table((f"{short_name(large)}, trained on", *measures), rows)

    panels = [
        Panel(m, {condition: measured.get(m, UNKNOWN) for condition, measured in results.items()}) for m in measures
    ]
    summary = f"{_agreement(context, small, large)} " + "; ".join(
        f"{m} of the large model is {format_measure(results['filtered by the small model'], m)} on what the small one "
        f"kept and {format_measure(results['filtered by the large model'], m)} on what it kept itself"
        for m in measures
    )
    return Finding(data, table, f"{summary}.", partial(draw_panels, panels), (3 * len(measures) + 1.2, 1.8))


def _by_filter(context: StudyContext, mix: Mix, small: str, large: str) -> dict[str, dict[str, Estimate]]:
    """Evaluate the large model, by what it was trained on."""
    experiment, spec = context.experiment(mix, model=large), context.evaluation(mix)

    def trained_on(name: str) -> dict[str, Estimate]:
        state = experiment.train(TrainingPlan((name,), epochs=context.settings.final.finetune_epochs))
        return estimates(evaluate_state(experiment, state, spec))

    results = {"nothing filtered": trained_on(NOISY)}
    for size, model in (("small", small), ("large", large)):
        experiment.add(f"kept-by-{size}", context.kept(mix, model=model))
        results[f"filtered by the {size} model"] = trained_on(f"kept-by-{size}")
    return results


def _agreement(context: StudyContext, small: str, large: str) -> str:
    """Describe how far the two models keep the same rows."""
    alike, unsafe, kept_unsafe = [], 0, {small: 0, large: 0}
    for mix in context.draws:
        label = column_by_id(mix.noisy, "label")
        kept = {model: set(column_by_id(context.kept(mix, model=model), "id")) for model in (small, large)}
        alike += [(id in kept[small]) == (id in kept[large]) for id in label]
        unsafe += sum(name == UNSAFE for name in label.values())
        for model, ids in kept.items():
            kept_unsafe[model] += sum(label[id] == UNSAFE for id in ids)
    return (
        f"{context.title(context.draws)}: {short_name(small)} and {short_name(large)} decide alike about "
        f"{np.mean(alike):.0%} of the rows; the small one "
        f"keeps {kept_unsafe[small]} of {unsafe} unsafe rows, the large one {kept_unsafe[large]}."
    )


STUDY = Study(
    "transfer",
    "Filter with a small model, fine-tune a larger one",
    "How much is lost where a small model filters for a larger one?",
    _run,
)
