"""Measure a rival by its name, as a table that decisions read as they read that of forgetting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..forgetting.measuring import CATEGORIES, suspicion_column, untrained_columns
from ..forgetting.signals import SIGNALS
from ..models.stage_runner import StageRunner
from ..runs.files import start_afresh
from ..runs.inputs import Material
from ..runs.layout import TOLD_BY, table_of
from ..runs.manifest import made_of, note_made_of
from ..settings.groups import Settings
from . import classifiers, model_states, texts, training_dynamics
from .context import Measure, Opinion, RivalContext


@dataclass(frozen=True)
class Rival:
    """Another filter to compare with; `forgetting.signals` has its unit and summary under the same name.

    Attributes:
        name: Its name on the command line.
        measure: Measures suspicion.
        needs_learned: Whether it asks the learned model M1.
        told_by: Reads from the settings which model or list it goes by, where the user chooses it. Raises
            SettingsError where the user has to choose and did not.
    """

    name: str
    measure: Measure
    needs_learned: bool = False
    told_by: Callable[[Settings], str] = lambda _: ""


_ALL = (
    Rival("judge", classifiers.judge, told_by=lambda settings: settings.classifiers.judge),
    Rival("guard", classifiers.guard, told_by=classifiers.guard_told_by),
    Rival("toxicity", classifiers.toxicity, told_by=lambda settings: settings.classifiers.toxicity_classifier),
    Rival("words", classifiers.listed_words),
    Rival("random", texts.random),
    Rival("bag-of-words", texts.bag_of_words),
    Rival("base-loss", model_states.base_loss),
    Rival("learned-loss", model_states.learned_loss, needs_learned=True),
    Rival("gradient", model_states.gradient, needs_learned=True),
    Rival("neighbours", model_states.neighbours),
    Rival("direction", model_states.direction),
    Rival("confidence", training_dynamics.confidence),
    Rival("variability", training_dynamics.variability),
    Rival("forgetting-events", training_dynamics.forgetting_events),
    Rival("second-split", training_dynamics.second_split),
)
RIVALS = {rival.name: rival for rival in _ALL}


def is_measured(rival: Rival, folder: Path, settings: Settings) -> bool:
    """Tell whether a folder holds a rival's tables, by the model or list that the settings name now."""
    return made_of(folder / TOLD_BY, rival.told_by(settings))


def measure_rival(rival: Rival, runner: StageRunner, material: Material, folder: Path) -> None:
    """Write a table of suspicion for the data and each set of rows of known kind, in the order of its rows.

    Args:
        rival: The rival.
        runner: Holds the model and runs its stages.
        material: The rows.
        folder: Where to write `PART.parquet`: `id`, `row`, `tokens` (of the completion), `truncated`,
            `never_learned` (false throughout), no words, and the rival's own column; NaN where it has no opinion. Also
            `categories`, a list of texts, where it tells them.
    """
    context = RivalContext(runner, material, folder)
    if runner.processes.main:
        _claim(folder, rival.told_by(runner.settings))
    runner.processes.wait()
    signal, measured = SIGNALS[rival.name], rival.measure(context)
    if not runner.processes.main:
        return
    suspicion, further = measured, dict[str, pa.Array]()
    if isinstance(measured, Opinion):
        suspicion = measured.suspicion
        further[CATEGORIES] = pa.array(measured.categories, pa.list_(pa.string()))
    start = 0
    for part in material.parts:
        table = material.tokens(part)
        of_part = {suspicion_column(signal): pa.array(suspicion), **further}
        columns = {name: column.slice(start, len(table)) for name, column in of_part.items()}
        pq.write_table(pa.table(untrained_columns(table, signal) | columns), folder / table_of(part))
        start += len(table)


def _claim(folder: Path, told_by: str) -> None:
    """Drop what a killed attempt left that went by another model or list."""
    path = folder / TOLD_BY
    if path.is_file() and not made_of(path, told_by):
        start_afresh(folder)
    note_made_of(path, told_by)
