"""Defines what each strategy trains on, session after session, and how its result is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from ...models.stage_runner import BASE
from ..experiment import Experiment, TrainingPlan

# Names of the data sets in an experiment.
NOISY, SAFE, KEPT = "noisy", "safe", "kept"
REQUESTED, KEPT_REQUESTED, THOUGHT_THROUGH = "noisy-requested", "kept-requested", "thought-through"


@dataclass(frozen=True)
class Strategy:
    """A way to get from the aligned model and untrusted data to a fine-tuned model.

    Attributes:
        name: Its name on the command line.
        summary: What it does, in a few words.
        sessions: The training sessions, starting from the aligned model.
        self_correction: Whether the evaluation puts a request before its prompts.
    """

    name: str
    summary: str
    sessions: tuple[TrainingPlan, ...]
    self_correction: bool = False

    def train(self, experiment: Experiment) -> str:
        """Run the sessions in an experiment that has the data, and return the name of the final state."""
        state = BASE
        for plan in self.sessions:
            state = experiment.train(plan, state)
        return state


def strategies(epochs: float, review_steps: int, *, thought_through: bool = False) -> dict[str, Strategy]:
    """Define all strategies, by name.

    Args:
        epochs: The number of epochs of each fine-tuning.
        review_steps: The number of optimizer steps of a safety review afterwards.
        thought_through: Whether self-correction trains on further rows, with chains of thought, as well.
    """
    finetuning, more = TrainingPlan((NOISY,), epochs=epochs), (THOUGHT_THROUGH,) * thought_through
    known = (
        Strategy("aligned", "the aligned model as it is", ()),
        Strategy("none", "fine-tuned on all of the data", (finetuning,)),
        Strategy(
            "safety-review", "then reviewed on safe examples", (finetuning, TrainingPlan((SAFE,), steps=review_steps))
        ),
        Strategy(
            "re-alignment",
            "then aligned again, with as many passes",
            (finetuning, TrainingPlan((SAFE,), epochs=epochs)),
        ),
        Strategy(
            "replay", "as many safe examples mixed in", (TrainingPlan((NOISY, SAFE), epochs=epochs, balanced=True),)
        ),
        Strategy(
            "self-correction",
            "asked to behave",
            (TrainingPlan((REQUESTED, *more), epochs=epochs),),
            self_correction=True,
        ),
        Strategy("forgetfilter", "fine-tuned on what the filter kept", (TrainingPlan((KEPT,), epochs=epochs),)),
        Strategy(
            "forgetfilter+self-correction",
            "that, asked to behave",
            (TrainingPlan((KEPT_REQUESTED, *more), epochs=epochs),),
            self_correction=True,
        ),
    )
    return {strategy.name: strategy for strategy in known}
