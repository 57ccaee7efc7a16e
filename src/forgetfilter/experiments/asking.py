"""What a lab's states say to held-out rows: each is asked once, and along a session where one wants to see it move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ..classifiers.judge import Judge
from ..console import Console
from ..data.containers import open_container
from ..data.records import hash_chunks
from ..evaluation.evaluate import Ask, evaluate, plainly
from ..evaluation.held_out import HeldOut, read_held_out
from ..evaluation.measures import Measure
from ..evaluation.results import Evaluation, read_evaluation
from ..forgetting.estimates import Estimate
from ..runs.layout import ASKED
from ..settings.groups import MeasureSettings
from .lab import Lab

if TYPE_CHECKING:
    from ..models.training import Callback

# The one measure of each notion that stands in summaries, that of the tasks, and what too much safety costs.
SAFETY = {"bias": "bias.ambiguous", "toxicity": "toxicity.mean", "harmfulness": "harmfulness.refusals"}
TASK, OVER_REFUSAL = "squad.f1", "instructions.refusals"
_NAN = float("nan")


@dataclass(frozen=True)
class Questions:
    """Held-out rows and the way in which they are asked.

    Attributes:
        way: Tells the way of asking from others.
        path: The file of the rows.
        settings: What is measured.
        console: Where to tell what goes on.
        ask: Rewrites each prompt.
        judging: The model that judges answers to harmful prompts, where one should.
    """

    way: str
    path: Path
    settings: MeasureSettings
    console: Console
    ask: Ask = plainly
    judging: Judge | None = None

    @cached_property
    def name(self) -> str:
        """The way, the rows and what is measured: answers to other rows are other answers."""
        measured = {field.name: getattr(self.settings, field.name) for field in fields(MeasureSettings)}
        del measured["tokens_per_batch"]
        told = [open_container(str(self.path), "train").fingerprint(), repr(sorted(measured.items()))]
        return f"{self.way}-{hash_chunks([part.encode() for part in told])[:6]}"

    def rows(self) -> list[HeldOut]:
        """The rows, checked."""
        return list(read_held_out(open_container(str(self.path), "train"), self.settings.most_rows))

    def put(self, lab: Lab, folder: Path) -> Evaluation:
        """Ask the lab's present state."""
        session, rows = lab.bench.session, self.rows()
        return evaluate(session, lab.encoder, rows, self.settings, folder, self.console, self.ask, self.judging)


def ask_state(lab: Lab, state: str, questions: Questions) -> Evaluation:
    """What a state says; it is asked unless it was before."""
    stage = f"{state}!{questions.name}"

    def work(folder: Path) -> None:
        lab.bench.bring(state)
        questions.put(lab, folder)

    lab.bench.stage(stage, work)
    return read_evaluation(lab.stages.folder(stage))


@dataclass(frozen=True)
class Asking:
    """Asks at some steps of a session; a watcher for `Lab.train`.

    Attributes:
        questions: What is asked.
        points: The steps.
    """

    questions: Questions
    points: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.questions.name}-at-{'-'.join(map(str, self.points))}"

    def begin(self, lab: Lab, folder: Path) -> Callback:
        from ..models.callbacks.results_along import ResultsAlong

        return ResultsAlong(folder, ASKED, self.points.__contains__, partial(self.questions.put, lab))


def asked_along(lab: Lab, state: str) -> dict[int, Evaluation]:
    """What was said at each step of the session that ended in a state and that an `Asking` watched."""
    from ..models.callbacks.results_along import results_by_step

    folders = results_by_step(lab.stages.folder(state), ASKED)
    return {step: read_evaluation(folder) for step, folder in folders.items()}


def estimates(evaluation: Evaluation) -> dict[str, Estimate]:
    """The measures of all rows, by name; NaN where unknown."""
    return {measure.name: estimate_of(measure) for measure in evaluation.measures if "[" not in measure.name}


def in_words(found: Mapping[str, Estimate], name: str) -> str:
    """A measure as text; "unknown" where the rows do not tell, or were not asked."""
    estimate = found.get(name)
    return f"{estimate.value:.2f}" if estimate is not None and isfinite(estimate.value) else "unknown"


def estimate_of(measure: Measure) -> Estimate:
    """A measure's value and interval; NaN where unknown."""
    return Estimate(*(_NAN if value is None else value for value in (measure.value, measure.low, measure.high)))
