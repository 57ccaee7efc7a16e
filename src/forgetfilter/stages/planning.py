"""Plan the steps of a run before the first, with what each will cost, so that people can be told the time left."""

from __future__ import annotations

import numpy as np

from ..data.tokens import TokenTable
from ..forgetting.signals import RIVAL, SIGNALS
from ..models.stage_runner import StageRunner
from ..progress import Effort, Plan, Step
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
from ..settings.groups import FEWEST_EPOCHS, FEWEST_REVIEW_STEPS, MOST_REVIEW_STEPS, Settings
from .answers import OWN_ANSWER_TOKENS
from .examples import ANSWER_TOKENS
from .filter_run import FilterRun, asked_rivals

# Tokens of the package's own rows that all rows are compared with.
_PROTOTYPES = 33_000


def plan_run(work: FilterRun) -> Plan:
    """Plan what a run does, in its order; sessions that end by themselves are planned as long as they may become."""
    settings, costs = work.run.settings, _Costs(work.material, work.runner)
    signal, steps = SIGNALS[settings.decision.signal], dict[str, Step]()
    if own_answers_part(settings.safe):
        steps[ANSWERED] = Step("the model answers prompts of the data", costs.own_answers)
    if signal.fused:
        steps[WITNESSES] = Step("reading all rows with the untouched model", costs.witnesses)
    if settings.sessions.training and signal.scoring != RIVAL:
        steps |= _sessions(settings, costs)
    for name in asked_rivals(settings):
        steps[rival_stage(name)] = Step(f"asking the rival {name}", costs.scoring)
    if REVIEWED in steps and settings.report.examples:
        steps[EXAMPLES] = Step("asking the model for examples", costs.examples)
    if settings.final.finetune:
        steps[MODEL] = Step("fine-tuning on the kept rows", costs.finetuning)
    return Plan(steps, {name for name in steps if work.run.has(name)})


def _sessions(settings: Settings, costs: _Costs) -> dict[str, Step]:
    epochs, review_steps = settings.sessions.epochs, settings.sessions.review_steps
    fewest = None if epochs else costs.learning(FEWEST_EPOCHS)
    steps = {LEARNED: Step("learning the data", costs.learning(epochs), fewest)}
    if settings.sessions.learned:
        steps = {LEARNED: Step("taking over what was learned", Effort())}
    steps[scores_of(LEARNED)] = Step("scoring rows after learning", costs.scoring)
    safe_parts = numbered(SAFE, settings.safe.safe)
    for part, reviewed in zip(safe_parts, numbered(REVIEWED, safe_parts), strict=True):
        of_set = "" if part == SAFE else f" with the {part} rows"
        fewest = None if review_steps else costs.review(part, FEWEST_REVIEW_STEPS)
        whole = costs.review(part, review_steps or MOST_REVIEW_STEPS)
        steps[reviewed] = Step(f"safety review{of_set}", whole, fewest)
        steps[scores_of(reviewed)] = Step(f"scoring rows after the review{of_set}", costs.scoring)
    return steps


class _Costs:
    """What the steps of a run cost."""

    def __init__(self, material: Material, runner: StageRunner) -> None:
        self._material, self._runner, self._settings = material, runner, runner.settings
        self._data, self._learned = material.tokens(DATA), material.tokens(*material.parts)

    @property
    def own_answers(self) -> Effort:
        count = min(self._settings.safe.self_answers, len(self._data))
        return self._runner.scoring(count * self._mean_length, count * OWN_ANSWER_TOKENS)

    @property
    def witnesses(self) -> Effort:
        tokens = _tokens(*self._all)
        if not self._settings.sessions.training:
            return Effort(scoring=tokens + _PROTOTYPES)
        effort = self._runner.scoring(tokens) + Effort(scoring=_PROTOTYPES)
        return sum(map(self._runner.preparing, self._all), effort)

    def learning(self, epochs: float | None) -> Effort:
        rows = self._learned.scorable
        return self._runner.training(self._learned, rows, self._runner.steps(len(rows), epochs))

    def review(self, part: str, steps: int) -> Effort:
        table = self._data if part == self._unanswered else self._material.tokens(part)
        return self._runner.training(table, table.scorable, steps)

    @property
    def scoring(self) -> Effort:
        return self._runner.scoring(_tokens(self._material.tokens(*self._material.scored)))

    @property
    def examples(self) -> Effort:
        count = 2 * min(self._settings.report.examples, len(self._data))
        return self._runner.scoring(count * self._mean_length, count * ANSWER_TOKENS)

    @property
    def finetuning(self) -> Effort:
        rows = self._data.scorable
        steps = self._runner.steps(len(rows), self._settings.final.finetune_epochs)
        # All blocks learn then.
        training = self._runner.training(self._data, rows, steps).training
        return Effort(training=training / (self._settings.adapter.top_blocks or 1.0))

    @property
    def _all(self) -> list[TokenTable]:
        safe = [self._material.tokens(part) for part in self._material.safe_parts if part != self._unanswered]
        return [self._learned, *safe]

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
