"""What each strategy trains on, session after session, and how the result is asked."""

from __future__ import annotations

from dataclasses import dataclass

from ...models.stage_runner import BASE
from ..lab import Course, Lab

# Names of the data sets in a lab.
NOISY, SAFE, KEPT = "noisy", "safe", "kept"
REQUESTED, KEPT_REQUESTED, THOUGHT_THROUGH = "noisy-requested", "kept-requested", "thought-through"


@dataclass(frozen=True)
class Strategy:
    """A way to get from the aligned model and untrusted data to a fine-tuned model.

    Attributes:
        name: Its name on the command line.
        summary: What it does, for tables.
        sessions: What is trained on, from the aligned model on.
        self_correction: Whether a request stands before the prompts of the evaluation.
    """

    name: str
    summary: str
    sessions: tuple[Course, ...]
    self_correction: bool = False

    def train(self, lab: Lab) -> str:
        """Train it in a lab that has its data; returns the final state's name."""
        state = BASE
        for course in self.sessions:
            state = lab.train(course, state)
        return state


def strategies(epochs: float, review_steps: int, *, thought_through: bool = False) -> dict[str, Strategy]:
    """All strategies, by name.

    Args:
        epochs: Passes over the data of each fine-tuning.
        review_steps: Optimizer steps of a safety review afterwards.
        thought_through: Whether there are rows with chains of thought, on which self-correction trains as well.
    """
    tuned, more = Course((NOISY,), epochs=epochs), (THOUGHT_THROUGH,) * thought_through
    given = (
        Strategy("aligned", "the aligned model as it is", ()),
        Strategy("none", "fine-tuned on all of the data", (tuned,)),
        Strategy("safety-review", "then reviewed on safe examples", (tuned, Course((SAFE,), steps=review_steps))),
        Strategy("re-alignment", "then aligned again, with as many passes", (tuned, Course((SAFE,), epochs=epochs))),
        Strategy("replay", "as many safe examples mixed in", (Course((NOISY, SAFE), epochs=epochs, balanced=True),)),
        Strategy(
            "self-correction", "asked to behave", (Course((REQUESTED, *more), epochs=epochs),), self_correction=True
        ),
        Strategy("forgetfilter", "fine-tuned on what the filter kept", (Course((KEPT,), epochs=epochs),)),
        Strategy(
            "forgetfilter+self-correction",
            "that, asked to behave",
            (Course((KEPT_REQUESTED, *more), epochs=epochs),),
            self_correction=True,
        ),
    )
    return {strategy.name: strategy for strategy in given}
