"""From a rival's name to its table, which decisions read as they read that of forgetting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..forgetting.measuring import suspicion_column, untrained_columns
from ..forgetting.signals import SIGNALS
from ..models.stage_runner import Workbench
from ..runs.files import start_afresh
from ..runs.inputs import Material
from ..runs.layout import TOLD_BY, table_of
from ..runs.manifest import made_of, note_made_of
from ..settings.groups import RivalSettings
from . import classifiers, model_states, texts, training_dynamics
from .context import Desk, Rival

RIVALS: dict[str, Rival] = {
    "judge": classifiers.judge,
    "toxicity": classifiers.toxicity,
    "words": classifiers.listed_words,
    "random": texts.random,
    "bag-of-words": texts.bag_of_words,
    "base-loss": model_states.base_loss,
    "learned-loss": model_states.learned_loss,
    "gradient": model_states.gradient,
    "neighbours": model_states.neighbours,
    "confidence": training_dynamics.confidence,
    "variability": training_dynamics.variability,
    "forgetting-events": training_dynamics.forgetting_events,
    "second-split": training_dynamics.second_split,
}
# Those that ask the learned model M1.
NEED_LEARNED = {"learned-loss", "gradient"}


def told_by(name: str, settings: RivalSettings) -> str:
    """Which model or list a rival goes by, where the user chooses it; one that is chosen later is asked anew."""
    return {"judge": settings.judge, "toxicity": settings.toxicity_classifier}.get(name, "")


def measure_rival(name: str, bench: Workbench, material: Material, folder: Path) -> None:
    """Write a table of suspicion for the data and each set of rows of known kind, in the order of its rows.

    Args:
        name: A name in RIVALS.
        bench: The model.
        material: The rows.
        folder: Where to write `PART.parquet`: `id`, `row`, `tokens` (of the completion), `truncated`,
            `never_learned` (false throughout), no words, and the rival's own column; NaN where it has no opinion.
    """
    desk = Desk(bench, material, folder)
    if bench.processes.main:
        _claim(folder, told_by(name, bench.settings))
    bench.processes.wait()
    signal, suspicion = SIGNALS[name], RIVALS[name](desk)
    if not bench.processes.main:
        return
    ends = np.cumsum([len(material.tokens(part)) for part in material.parts])[:-1]
    for part, values in zip(material.parts, np.split(suspicion, ends), strict=True):
        table = material.tokens(part)
        columns = untrained_columns(table, signal) | {suspicion_column(signal): pa.array(values)}
        pq.write_table(pa.table(columns), folder / table_of(part))


def _claim(folder: Path, told: str) -> None:
    """Drop what a killed attempt left that went by another model or list."""
    path = folder / TOLD_BY
    if path.is_file() and not made_of(path, told):
        start_afresh(folder)
    note_made_of(path, told)
