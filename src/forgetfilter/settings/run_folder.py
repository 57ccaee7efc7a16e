"""What concerns a run's folder and what follows its decision: options of commands, and no settings of the run itself.

The same run may be started with one and gone on with by another.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..forgetting.thresholds import parse_most_removed
from .option import option


@dataclass(frozen=True)
class GateSettings:
    """When a command that did its work fails nevertheless, for a gate in continuous integration."""

    fail_above: str | None = option(
        None,
        "exit with status 3 where more rows than this are removed, once all is written: a share of the rows such as "
        "1%, or a number of rows; none never does",
        check=parse_most_removed,
        shown="SHARE",
        usual=True,
    )


@dataclass(frozen=True)
class HubSettings:
    """What is pushed to the hub once a decision is there."""

    push_to_hub: str | None = option(
        None,
        "push the kept rows, with a card, to this data set of the hub, as user/name; none pushes nothing",
        shown="NAME",
    )
    private: bool = option(False, "what is created on the hub is private")


@dataclass(frozen=True)
class TrackingSettings:
    """To whom a run is reported."""

    report_to: str = option(
        "",
        "report steps and result to these experiment trackers, with commas between: tensorboard, wandb, trackio or "
        "another that Accelerate knows, each with its package installed; empty reports nothing",
        listed=True,
        shown="NAMES",
    )


@dataclass(frozen=True)
class RunFolderSettings:
    """Where a run is kept, and what follows it; no settings of the run itself."""

    gate: GateSettings = GateSettings()
    hub: HubSettings = HubSettings()
    tracking: TrackingSettings = TrackingSettings()
    output: str = option("", "run folder; a run there goes on where it stopped")
    overwrite: bool = option(False, "start again even if RUN holds a run")
    dry_run: bool = option(
        False, "read and check everything, try a few steps, and tell the time, memory and disk that the whole will need"
    )
