"""Report a run to experiment trackers, through those that Accelerate knows. Nothing is reported unless asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .console import Console, printable
from .decision.decide import Summary
from .errors import SettingsError, first_line
from .runs.layout import TRACKED
from .settings.groups import Settings
from .settings.option import split_names, to_mapping

# What runs are called, or belong to, where a tracker has several.
_PROJECT = "forgetfilter"
_SHOWN = 60


class Trackers:
    """Hands a run's values on to trackers, which begin with the first of them.

    Steps are counted over all sessions. A tracker that fails is left out from then on, which is said; the run goes on.

    Args:
        names: Names of trackers, with commas between; empty for none.
        output: The run folder, in which trackers that write files have a folder.
        settings: Settings of the run.
        console: Where to tell what goes on; it passes the optimizer steps on.
        again: Whether a finished run is decided again, which is a run of its own to trackers.

    Raises:
        SettingsError: There is no tracker of a name, or its package is not installed.
    """

    def __init__(self, names: str, output: Path, settings: Settings, console: Console, *, again: bool = False) -> None:
        self._folder, self._settings, self._console = output / TRACKED, settings, console
        if again:
            self._folder /= f"decide-{datetime.now():%Y%m%d-%H%M%S}"
        self._waiting = [_found(name) for name in dict.fromkeys(split_names(names))]
        self._started: list[Any] = []
        self._session, self._before, self._step = "", 0, 0
        console.report_steps_to(self.report_step)

    def report_step(self, session: str, step: int, values: Mapping[str, float]) -> None:
        """Report an optimizer step of a session; `step` is counted within it, from 1."""
        if session != self._session:
            self._session, self._before = session, self._step
        self._step = self._before + step
        self._report({f"{session}/{name}": value for name, value in values.items()})

    def report_summary(self, summary: Summary) -> None:
        """Report the numbers of a decision, and end."""
        counts = {name: getattr(summary, name) for name in ("rows", "kept", "removed", "unscorable", "never_learned")}
        errors = {name: estimate["value"] for name, estimate in summary.errors.items() if estimate is not None}
        cut = {} if summary.cut is None else {"cut": summary.cut}
        self._step += 1
        self._report({f"summary/{name}": value for name, value in {**counts, **errors, **cut}.items()})
        for tracker in self._started:
            self._attempt(tracker, tracker.finish)
        self._started = []

    def _report(self, values: Mapping[str, float]) -> None:
        while self._waiting:
            kind = self._waiting.pop(0)
            self._attempt(kind, lambda kind=kind: self._start(kind))
        for tracker in list(self._started):
            self._attempt(tracker, lambda tracker=tracker: tracker.log(dict(values), step=self._step))

    def _start(self, kind: Any) -> None:
        tracker = kind(_PROJECT, self._folder) if kind.requires_logging_directory else kind(_PROJECT)
        # Later versions of Accelerate begin here, earlier ones have begun by now.
        if hasattr(tracker, "start"):
            tracker.start()
        tracker.store_init_configuration(
            {
                name: v if isinstance(v, (bool, int, float, str)) else str(v)
                for name, v in to_mapping(self._settings).items()
            }
        )
        self._started.append(tracker)

    def _attempt(self, tracker: Any, call: Any) -> None:
        try:
            call()
        except Exception as error:
            # Whatever a package of others raises, no run of hours ends for it.
            self._started = [other for other in self._started if other is not tracker]
            self._console.say(f"{tracker.name}: nothing is reported there from now on: {first_line(error)}")


def _found(name: str) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    if name not in LOGGER_TYPE_TO_CLASS:
        raise SettingsError(
            f"report_to: there is no tracker '{printable(name, _SHOWN)}'; there are {', '.join(LOGGER_TYPE_TO_CLASS)}"
        )
    # Others than Accelerate's own were registered with it by whoever has them.
    if name in map(str, LoggerType) and name not in map(str, get_available_trackers()):
        raise SettingsError(f"report_to: {name} is not installed here")
    return LOGGER_TYPE_TO_CLASS[name]
