"""Evaluates the states of an experiment on held-out rows, each once, and the model at steps of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ..classifiers.judge import Judge
from ..console import Console
from ..data.containers import open_container
from ..data.records import hash_chunks
from ..evaluation.evaluate import PromptRewrite, evaluate, unchanged
from ..evaluation.held_out import HeldOut, read_held_out
from ..evaluation.measures import Measure
from ..evaluation.results import Evaluation, read_evaluation
from ..forgetting.estimates import Estimate
from ..runs.layout import ASKED
from ..settings.experiments import MeasuringSettings
from ..settings.option import values_of
from .experiment import Experiment

if TYPE_CHECKING:
    from ..models.training import Callback

# The measure of each notion that summaries show, that of the tasks, and the one that shows too much caution.
SAFETY = {"bias": "bias.ambiguous", "toxicity": "toxicity.mean", "harmfulness": "harmfulness.refusals"}
TASK, OVER_REFUSAL = "squad.f1", "instructions.refusals"
_NAN = float("nan")


@dataclass(frozen=True)
class EvaluationSpec:
    """Held-out rows, how their prompts are put, and what is measured on them.

    Attributes:
        label: Names how prompts are put, apart from other ways.
        path: The file of the rows.
        settings: What is measured.
        console: Where to report progress.
        rewrite: Rewrites each prompt before the model gets it.
        judge: The model that judges answers to harmful prompts, if any.
    """

    label: str
    path: Path
    settings: MeasuringSettings
    console: Console
    rewrite: PromptRewrite = unchanged
    judge: Judge | None = None

    @cached_property
    def _fingerprint(self) -> str:
        return open_container(str(self.path), "train").fingerprint()

    @cached_property
    def name(self) -> str:
        """A name that differs wherever the prompts, the rows or the measures differ."""
        measured = values_of(self.settings.classifiers) | values_of(self.settings.measures)
        identity = [self._fingerprint, repr(sorted(measured.items()))]
        return f"{self.label}-{hash_chunks([part.encode() for part in identity])[:6]}"

    def rows(self) -> list[HeldOut]:
        """Read and check the rows."""
        container = open_container(str(self.path), "train")
        return read_held_out(container, self.settings.measures.most_rows, self._fingerprint)

    def evaluate(self, experiment: Experiment, folder: Path) -> Evaluation:
        """Evaluate the experiment's model in its present state, into a folder."""
        model, rows = experiment.runner.model, self.rows()
        return evaluate(model, experiment.encoder, rows, self.settings, folder, self.console, self.rewrite, self.judge)


def evaluate_state(experiment: Experiment, state: str, spec: EvaluationSpec) -> Evaluation:
    """Evaluate a state of an experiment, unless that was done before."""
    stage = f"{state}!{spec.name}"

    def work(folder: Path) -> None:
        experiment.runner.bring(state)
        spec.evaluate(experiment, folder)

    experiment.runner.stage(stage, work)
    return read_evaluation(experiment.stages.folder(stage))


@dataclass(frozen=True)
class EvaluateAlong:
    """Evaluates the model at some steps of a session; a watcher for `Experiment.train`.

    Attributes:
        spec: How to evaluate.
        points: The optimizer steps after which to evaluate.
    """

    spec: EvaluationSpec
    points: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.spec.name}-at-{'-'.join(map(str, self.points))}"

    def begin(self, experiment: Experiment, folder: Path) -> Callback:
        from ..models.callbacks.results_along import ResultsAlong

        return ResultsAlong(folder, ASKED, self.points.__contains__, partial(self.spec.evaluate, experiment))


def evaluations_along(experiment: Experiment, state: str) -> dict[int, Evaluation]:
    """Read the evaluations that an `EvaluateAlong` made during the session that ended in a state, by step."""
    from ..models.callbacks.results_along import results_by_step

    folders = results_by_step(experiment.stages.folder(state), ASKED)
    return {step: read_evaluation(folder) for step, folder in folders.items()}


def estimates(evaluation: Evaluation) -> dict[str, Estimate]:
    """Collect the measures over all rows, by name; NaN where unknown."""
    return {measure.name: estimate_of(measure) for measure in evaluation.measures if "[" not in measure.name}


def format_measure(measures: Mapping[str, Estimate], name: str) -> str:
    """Format a measure as text; "unknown" if it is undefined for the rows, or was not measured."""
    estimate = measures.get(name)
    return f"{estimate.value:z.2f}" if estimate is not None and isfinite(estimate.value) else "unknown"


def estimate_of(measure: Measure) -> Estimate:
    """Convert a measure to an estimate: value and interval, NaN where unknown."""
    return Estimate(*(_NAN if value is None else value for value in (measure.value, measure.low, measure.high)))
