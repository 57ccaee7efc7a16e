"""Count what is done of a piece of work, of a step of several pieces, and of a plan of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

# A lower rate would be shown as none at all.
_LEAST_RATE = 0.05
# No time left is told before this share of the work was measured, or work of so many seconds: the first micro-batches
# are slower than what follows.
_MEASURED_SHARE, _MEASURED_SECONDS = 0.05, 180.0
# The rate of the present step counts as much as that of all when this share of the whole was done in it.
_STEP_KNOWN = 0.05
# After so many seconds, two thirds of a change of the estimate show.
_DAMPING = 30.0


class Showable(Protocol):
    """What a bar or a line shows."""

    @property
    def share(self) -> float | None:
        """Return the share that is done, 0 to 1; None where it is unknown."""

    def running(self) -> str:
        """Describe what is done so far."""

    def brief(self) -> str:
        """Describe it beside a bar that shows the share: what comes last may be cut off."""


class Progress:
    """A count on its way to a total (0 where that is unknown). Each advance calls `show`.

    Args:
        label: What is done.
        total: How many units that takes.
        unit: What is counted, in the plural.
        show: Shows the present count.
        cost: What all of it costs, in the unit of a plan.
        counts: Whether a step that it belongs to counts its units; not where it only prepares something.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        show: Callable[[Progress], None],
        cost: float = 0.0,
        *,
        counts: bool = True,
    ) -> None:
        self.label, self.total, self.unit, self.counts = label, total, unit, counts
        self.done = self.skipped = 0
        self.note = ""
        self._show = show
        self._cost_of_one = cost / max(total, 1)
        self._began, self._ended = time.monotonic(), 0.0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add to the count of what is done; `note` is shown beside it."""
        self.done += count
        self.note = note or self.note
        self._show(self)

    def skip(self, count: int) -> None:
        """Add what an earlier attempt had done; it does not count for the rate."""
        self.done += count
        self.skipped += count

    def end(self) -> None:
        """Stop the clock."""
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return for how long it has been going on, or took."""
        return (self._ended or time.monotonic()) - self._began

    def cost(self, count: int) -> float:
        """Return the cost of so many units."""
        return self._cost_of_one * count

    @property
    def share(self) -> float | None:
        """Return the share of its total that is done; None where that is unknown."""
        return self.done / self.total if self.total else None

    def running(self) -> str:
        """Describe what is done so far."""
        return self._told("{} so far")

    def brief(self) -> str:
        """Describe it beside a bar."""
        return self.running()

    def __str__(self) -> str:
        return self._told("took {}")

    def _told(self, time: str) -> str:
        rate = (self.done - self.skipped) / self.seconds if self.seconds > 0 else 0.0
        of_total = f"/{self.total:,}" if self.total else ""
        parts = [f"{self.label}: {self.done:,}{of_total} {self.unit}"]
        parts += [f"{rate:,.1f} {self.unit}/s"] if rate >= _LEAST_RATE else []
        if 0 < self.done < self.total and rate > 0:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        else:
            parts.append(time.format(clock(self.seconds)))
        return ", ".join([*parts, self.note] if self.note else parts)


@dataclass(frozen=True)
class Effort:
    """What some work costs, by kind: each in tokens that go through the whole model once.

    Attributes:
        preparing: The frozen blocks, through which each row goes once for all sessions.
        scoring: Forward passes.
        training: Optimizer steps.
        writing: Tokens that the model generates.
    """

    preparing: float = 0.0
    scoring: float = 0.0
    training: float = 0.0
    writing: float = 0.0

    @property
    def cost(self) -> float:
        """Return the sum."""
        return self.preparing + self.scoring + self.training + self.writing

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.preparing + other.preparing,
            self.scoring + other.scoring,
            self.training + other.training,
            self.writing + other.writing,
        )


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        title: What is done, in words that a user knows.
        effort: An estimate of the work.
        least: The same where the step ends by itself as early as it can; None where it does not.
    """

    title: str
    effort: Effort
    least: Effort | None = None

    @property
    def cost(self) -> float:
        """Return what it costs in all."""
        return self.effort.cost

    def expected(self, position: float) -> float:
        """Return what it is likely to cost yet, where this much is done: it may end anywhere after its least cost."""
        least = self.cost if self.least is None else self.least.cost
        return max(0.0, least - position) + max(0.0, self.cost - max(least, position)) / 2


class Plan:
    """The steps of a run, known in advance, so that the share that is done and the time left can be told at any moment.

    Args:
        steps: The steps by name, in their order.
        finished: Those that an earlier attempt finished.
    """

    def __init__(self, steps: Mapping[str, Step], finished: Collection[str] = ()) -> None:
        self.steps, self._finished = dict(steps), set(finished)
        self._cost, self._seconds = 0.0, 0.0
        self._whole = sum(step.cost for step in self.steps.values()) or 1.0
        self._to_do = self._whole - self._done()
        # When a time left was told last, and which.
        self._told: tuple[float, float] | None = None

    def title(self, name: str) -> str:
        """Return the title of a step, with its number."""
        return f"{list(self.steps).index(name) + 1} of {len(self.steps)}, {self.steps[name].title}"

    def finish(self, name: str, cost: float, seconds: float) -> None:
        """Count a step as done; the time left is reckoned from what the steps cost that were done here."""
        self._finished.add(name)
        self._cost += cost
        self._seconds += seconds

    def share(self, name: str, position: float) -> float:
        """Return the share of the whole that is done, given how much of a step's cost is."""
        done = self._done()
        if name not in self._finished:
            done += min(position, self.steps[name].cost)
        return done / self._whole

    def _done(self) -> float:
        return sum(step.cost for name, step in self.steps.items() if name in self._finished)

    def state(self, name: str, position: float, cost: float, seconds: float) -> str:
        """Describe the share that is done, and the time left.

        Args:
            name: The present step.
            position: How much of its cost is done, by an earlier attempt as well.
            cost, seconds: What was done of it here, and in what time.
        """
        told, left = f"{100 * self.share(name, position):.0f}% of the whole", self.left(name, position, cost, seconds)
        return f"{told}, {left}" if left else told

    def left(self, name: str, position: float, cost: float, seconds: float) -> str:
        """Describe the time that is left of all steps, given the same; empty where it is unknown, or none is."""
        running = name not in self._finished
        here = (cost, seconds) if running else (0.0, 0.0)
        cost, seconds = self._cost + here[0], self._seconds + here[1]
        measured = cost >= _MEASURED_SHARE * self._to_do or seconds >= _MEASURED_SECONDS
        if self.share(name, position) >= 1 or cost <= 0 or seconds <= 0 or not measured:
            return ""
        rate, known = seconds / cost, _STEP_KNOWN * self._whole
        rate_here = (here[1] + known * rate) / (here[0] + known)
        others = (step for other, step in self.steps.items() if other not in self._finished and other != name)
        left = rate * sum(step.expected(0.0) for step in others)
        if running:
            left += rate_here * self.steps[name].expected(position)
        return f"{about(self._damped(left))} left in all"

    def _damped(self, left: float) -> float:
        """Let what is told change gradually: rates differ between steps, and a step may end early."""
        now = time.monotonic()
        if self._told is not None:
            then, told = self._told
            expected = max(0.0, told - (now - then))
            left = expected + (left - expected) * (1 - math.exp((then - now) / _DAMPING))
        self._told = now, left
        return left


class Pieces:
    """One line for a step whose work comes in several pieces.

    Args:
        title: What is done.
        plan: The plan that it belongs to, if any.
        name: Its name in the plan.
    """

    def __init__(self, title: str, plan: Plan | None = None, name: str = "") -> None:
        self._title, self._plan, self._name = title, plan, name
        self._pieces: list[Progress] = []
        self._began = time.monotonic()

    def add(self, piece: Progress) -> None:
        """Add a piece that begins now."""
        self._pieces.append(piece)

    def end(self) -> None:
        """Count the step as done in its plan."""
        if self._plan is not None:
            self._plan.finish(self._name, *self._worked())

    @property
    def share(self) -> float | None:
        """Return the share that is done of the plan; None where there is none."""
        return None if self._plan is None else self._plan.share(self._name, self._position)

    def running(self) -> str:
        """Describe what is done so far."""
        return self._with_state(self._work([], of_total=self._total_is_known))

    def brief(self) -> str:
        """Describe it beside a bar that shows the share: what comes last may be cut off."""
        left = "" if self._plan is None else self._plan.left(self._name, self._position, *self._worked())
        work = self._work([], of_total=self._total_is_known)
        return f"{left}; {work}" if left else work

    def __str__(self) -> str:
        return self._with_state(self._work([f"took {clock(time.monotonic() - self._began)}"], of_total=True))

    @property
    def _total_is_known(self) -> bool:
        """Whether all pieces have begun."""
        return self._plan is None or sum(map(_whole_cost, self._pieces)) >= 0.99 * self._plan.steps[self._name].cost

    def _work(self, more: list[str], *, of_total: bool) -> str:
        counted = [piece for piece in self._pieces if piece.counts]
        parts = []
        if counted:
            unit = counted[-1].unit
            alike = [piece for piece in counted if piece.unit == unit]
            done, total = sum(piece.done for piece in alike), sum(piece.total for piece in alike)
            parts.append(f"{done:,}{f'/{total:,}' if total and of_total else ''} {unit}")
        parts += more
        parts += [piece.note for piece in self._pieces[-1:] if piece.note]
        return f"{self._title}: {', '.join(parts)}" if parts else self._title

    def _with_state(self, work: str) -> str:
        if self._plan is None:
            return work
        return f"{work}; {self._plan.state(self._name, self._position, *self._worked())}"

    @property
    def _position(self) -> float:
        return sum(piece.cost(piece.done) for piece in self._pieces)

    def _worked(self) -> tuple[float, float]:
        """Return what the pieces have cost here, and in what time."""
        cost = sum(piece.cost(piece.done - piece.skipped) for piece in self._pieces)
        return cost, sum(piece.seconds for piece in self._pieces)


def _whole_cost(piece: Progress) -> float:
    return piece.cost(piece.total)


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def about(seconds: float) -> str:
    """Write a time that is an estimate."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
