"""Decide again: which settings hold, where they come from, and what to tell the user about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..console import count_of, printable
from ..errors import RunError
from ..runs.layout import KNOWN_LATER, OVERRIDES, SUMMARY
from ..runs.run import Run, check_file, decide_command, last_decision, summary_problem
from ..settings.groups import DecisionSettings
from ..settings.option import NONE, from_mapping
from ..stages.known_later import known_later
from .decide import Summary, read_summary
from .overrides import Overrides, read_overrides


def drop_known_later(run: Run) -> str:
    """Drop the rows that became known after a run, and say so."""
    known = known_later(run)
    run.drop(KNOWN_LATER)
    return f"known to be unsafe no more: {known}" if known else "no rows were given to 'decide --known-unsafe' before"


def known_later_told(run: Run, *, fused: bool) -> str:
    """Say that rows which became known after a run still count, or that the signal ignores them; empty without any."""
    known = known_later(run)
    if known is None:
        return ""
    if not fused:
        return f"known to be unsafe since the run, which tells nothing by this signal: {known}"
    return f"known to be unsafe, as an earlier decision was told: {known}; --known-unsafe none drops them"


def settings_of_decision(
    run: Run, changed: Mapping[str, Any], overrides: Overrides | None
) -> tuple[DecisionSettings, str]:
    """Choose the settings to decide with, and say where those come from that the user did not give.

    Raises:
        SettingsError: A setting is unknown, or cannot be what it is.
    """
    names = [field.name for field in fields(DecisionSettings)]
    places = {
        "as the overrides were saved with": overrides.settings if overrides else {},
        "as last decided": last_decision(run.path),
        "as the run was started": vars(run.settings.decision),
    }
    chosen, where = {str(name).replace("-", "_"): value for name, value in changed.items()}, {}
    for name in names:
        if name not in chosen:
            where[name], values = next((place, of) for place, of in places.items() if name in of)
            chosen[name] = values[name]
    settings = from_mapping(DecisionSettings, chosen, "decide")
    # Rows without a score go with the kept ones unless somebody asked otherwise, which is worth a word.
    told = {
        "threshold": f"threshold {settings.threshold}",
        "signal": f"signal {settings.signal}",
        "drop_unscorable": "rows without a score among the removed" if settings.drop_unscorable else "",
    }
    by_place: dict[str, list[str]] = {}
    for name in told:
        if name in where and told[name]:
            by_place.setdefault(where[name], []).append(told[name])
    lines = [" and ".join(filter(None, [", ".join(of[:-1]), of[-1]])) + f", {at}" for at, of in by_place.items()]
    return settings, "; ".join(filter(None, [*lines, _not_known(run)]))


@dataclass(frozen=True)
class Standing:
    """What a `filter` command decides by in a run folder that was decided before.

    Attributes:
        settings: The settings of the decision.
        overrides: A person's decisions, if there are any.
        told: What stays of the last decision, what does not, and how to have it otherwise; a line each.
    """

    settings: DecisionSettings
    overrides: Overrides | None
    told: list[str]


def standing_decision(run: Run) -> Standing:
    """Find what stays of the last decision where a `filter` command goes on with a run or repeats it.

    A person's decisions stay. So do a threshold and `drop_unscorable`, unless the command names others or the last
    decision was by another signal, in whose unit its threshold is.

    Raises:
        RunError: The person's decisions were changed or lost since.
    """
    own, default, last = run.settings.decision, DecisionSettings(), last_decision(run.path)
    stays = {
        name: value
        for name, value in last.items()
        if name != "signal" and last.get("signal") == own.signal
        if value != getattr(own, name) == getattr(default, name)
    }
    settings = from_mapping(DecisionSettings, vars(own) | stays, str(run.path / SUMMARY))
    overrides = last_overrides(run)
    return Standing(
        settings, overrides, list(filter(None, [_what_stays(run, stays, overrides), *_what_goes(run, settings)]))
    )


def last_overrides(run: Run) -> Overrides | None:
    """Read a person's decisions that the last decision heeded; None where there were none, or that is not known.

    Raises:
        RunError: They were changed or lost since.
    """
    summary, path = _last_summary(run), run.path / OVERRIDES
    if summary is None or not summary.overrides:
        return None
    by_it, alone = decide_command(run.path, {}, path), decide_command(run.path, {}, NONE)
    if not path.is_file():
        raise RunError(f"{path}: a person's decisions are lost; to decide without them: {alone}")
    mend = f"to decide by it as it is now: {by_it}; or without a person's decisions: {alone}"
    return read_overrides(check_file(run.path, OVERRIDES, mend))


def _last_summary(run: Run) -> Summary | None:
    """Read what was last decided; None where nothing was, or where it cannot be read."""
    try:
        return read_summary(run) if last_decision(run.path) else None
    except RunError:
        return None


def _what_stays(run: Run, stays: Mapping[str, Any], overrides: Overrides | None) -> str:
    """Say what stays of the last decision; empty where all is as the command has it anyway."""
    parts = (
        [f"the {count_of(len(overrides.decisions), 'decision')} by {printable(overrides.reviewer)}"]
        if overrides
        else []
    )
    if "threshold" in stays:
        parts.append(f"threshold {stays['threshold']}")
    if "drop_unscorable" in stays:
        parts.append("rows without a score among the removed")
    if not parts:
        return ""
    own = {name: getattr(run.settings.decision, name) for name in stays}
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    one = len(parts) == 1 and (len(overrides.decisions) == 1 if overrides else "threshold" in stays)
    verb = "stays" if one else "stay"
    without = decide_command(run.path, own, NONE if overrides else None)
    return f"{listed} of your last decide {verb}; to decide without: {without}"


def _what_goes(run: Run, settings: DecisionSettings) -> list[str]:
    """Say how to bring back what does not stay of the last decision."""
    if problem := _not_known(run):
        return [problem]
    last = last_decision(run.path)
    if all(getattr(settings, name) == value for name, value in last.items()):
        return []
    return [f"decided as the run was started; the last decision comes back with: {decide_command(run.path, last)}"]


def _not_known(run: Run) -> str:
    """Say why the last decision is not known, and how to bring back a person's decisions; empty where it is."""
    problem, path = summary_problem(run.path), run.path / OVERRIDES
    # Only a decision writes that file.
    if not problem and (_last_summary(run) or not path.is_file()):
        return ""
    person = f"; a person's decisions come back with: {decide_command(run.path, {}, path)}" if path.is_file() else ""
    return f"what was last decided is not known: {run.path / SUMMARY}: {problem or 'lost, or damaged'}{person}"


def still_hold(overrides: Overrides) -> str:
    """Say that a person's decisions hold on."""
    if len(overrides.decisions) == 1:
        return f"the decision by {printable(overrides.reviewer)} still holds; --overrides none drops it"
    count = f"{len(overrides.decisions):,}"
    return f"the {count} decisions by {printable(overrides.reviewer)} still hold; --overrides none drops them"


def how_a_person_decided(run: Run) -> str:
    """Say how to bring back a person's decisions that the last decision heeded and the next does not; mostly empty."""
    summary, path = _last_summary(run), run.path / OVERRIDES
    if summary is None or not summary.overrides or not path.is_file():
        return ""
    command = decide_command(run.path, last_decision(run.path), path)
    return f"the filter decides alone again; a person's decisions come back with: {command}"
