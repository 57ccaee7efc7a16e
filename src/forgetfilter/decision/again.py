"""Decide again: which settings hold, where they come from, and what to tell the user about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import RunError
from ..runs.layout import KNOWN_LATER, OVERRIDES, SUMMARY
from ..runs.run import Run, decide_command, last_decision, summary_problem
from ..settings.groups import DecisionSettings
from ..settings.option import from_mapping
from ..stages.known_later import known_later
from .decide import read_summary
from .overrides import Overrides


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
    if problem := summary_problem(run.path):
        lines.append(f"what was last decided is not known: {run.path / SUMMARY}: {problem}")
    return settings, "; ".join(lines)


def how_a_person_decided(run: Run) -> str:
    """Say how to bring back a person's decisions that the last decision heeded and the next does not; mostly empty."""
    try:
        summary = read_summary(run)
    except RunError:
        return ""
    command = decide_command(run.path, last_decision(run.path), run.path / OVERRIDES)
    said = f"the filter decides alone again; a person's decisions come back with: {command}"
    return said if summary.overrides else ""
