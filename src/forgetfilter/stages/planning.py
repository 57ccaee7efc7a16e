"""Plan the steps of a run before the first, with what each will cost, so that people can be told the time left."""

from __future__ import annotations

import numpy as np

from ..data.tokens import TokenTable
from ..forgetting.signals import RIVAL, SIGNALS
from ..models.stage_runner import StageRunner
from ..progress import Plan, Step
from ..runs.inputs import Material, own_answers_part
from ..runs.layout import (
    ANSWERED,
    DATA,
    EXAMPLES,
    LEARNED,
    MODEL,
    REVIEWED,
    SAFE,
    WITNESSES,
    numbered,
    rival_stage,
    scores_of,
)
from ..settings.groups import MOST_REVIEW_STEPS, Settings
from ..settings.option import split_names
from .answers import OWN_ANSWER_TOKENS
from .examples import ANSWER_TOKENS
from .filter_run import FilterRun

# Tokens of the package's own rows that all rows are compared with.
_PROTOTYPES = 12_000


def plan_run(work: FilterRun) -> Plan:
    """Plan what a run does, in its order; sessions that end by themselves are planned as long as they may become."""
    settings, costs = work.run.settings, _Costs(work.material, work.bench)
    signal, steps = SIGNALS[settings.decision.signal], dict[str, Step]()
    if own_answers_part(settings.safe):
        steps[ANSWERED] = Step("the model answers prompts of the data", costs.own_answers)
    if signal.fused:
        steps[WITNESSES] = Step("reading all rows with the untouched model", costs.witnesses)
    if settings.sessions.training and signal.scoring != RIVAL:
        steps |= _sessions(settings, costs)
    deciding = [settings.decision.signal] if signal.scoring == RIVAL else []
    for name in [*deciding, *split_names(settings.rivals.rivals)]:
        steps[rival_stage(name)] = Step(f"asking the rival {name}", costs.scoring)
    if REVIEWED in steps and settings.report.examples:
        steps[EXAMPLES] = Step("asking the model for examples", costs.examples)
    if settings.final.finetune:
        steps[MODEL] = Step("fine-tuning on the kept rows", costs.finetuning)
    return Plan(steps, {name for name in steps if work.run.has(name)})


def _sessions(settings: Settings, costs: _Costs) -> dict[str, Step]:
    steps = {LEARNED: Step("learning the data", costs.learning)}
    steps[scores_of(LEARNED)] = Step("scoring rows after learning", costs.scoring)
    safe_parts = numbered(SAFE, settings.safe.safe)
    for part, reviewed in zip(safe_parts, numbered(REVIEWED, safe_parts), strict=True):
        of_set = "" if part == SAFE else f" with the {part} rows"
        steps[reviewed] = Step(f"safety review{of_set}", costs.review(part))
        steps[scores_of(reviewed)] = Step(f"scoring rows after the review{of_set}", costs.scoring)
    return steps


class _Costs:
    """What the steps of a run cost, in the unit of `StageRunner.scoring_cost`."""

    def __init__(self, material: Material, bench: StageRunner) -> None:
        self._material, self._bench, self._settings = material, bench, bench.settings
        self._data, self._learned = material.tokens(DATA), material.tokens(*material.parts)

    @property
    def own_answers(self) -> float:
        count = min(self._settings.safe.self_answers, len(self._data))
        return self._bench.scoring_cost(count * self._mean_length, count * OWN_ANSWER_TOKENS)

    @property
    def witnesses(self) -> float:
        safe = [self._material.tokens(part) for part in self._material.safe_parts if part != self._unanswered]
        tables = [self._learned, *safe]
        prepared = sum(self._bench.preparing_cost(table) for table in tables)
        return prepared + self._bench.scoring_cost(_tokens(*tables)) + _PROTOTYPES

    @property
    def learning(self) -> float:
        rows = self._learned.scorable
        steps = self._bench.steps(len(rows), self._settings.sessions.epochs)
        return self._bench.training_cost(self._learned, rows, steps)

    def review(self, part: str) -> float:
        table = self._data if part == self._unanswered else self._material.tokens(part)
        steps = self._settings.sessions.review_steps or MOST_REVIEW_STEPS
        return self._bench.training_cost(table, table.scorable, steps)

    @property
    def scoring(self) -> float:
        return self._bench.scoring_cost(_tokens(self._material.tokens(*self._material.scored)))

    @property
    def examples(self) -> float:
        count = 2 * min(self._settings.report.examples, len(self._data))
        return self._bench.scoring_cost(count * self._mean_length, count * ANSWER_TOKENS)

    @property
    def finetuning(self) -> float:
        rows = self._data.scorable
        return self._bench.training_cost(
            self._data, rows, self._bench.steps(len(rows), self._settings.final.finetune_epochs)
        )

    @property
    def _unanswered(self) -> str | None:
        """The safe part that the model has yet to answer."""
        part = own_answers_part(self._settings.safe)
        return part if part and not next(iter(self._material.files(part).values())).exists() else None

    @property
    def _mean_length(self) -> int:
        return int(np.ceil(self._data.lengths.mean()))


def _tokens(*tables: TokenTable) -> int:
    return sum(int(table.lengths.sum()) for table in tables)
