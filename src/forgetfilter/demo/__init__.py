"""Demonstrate the filter on a small data set of our own: three notions, ordinary tasks, mild content only."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ..metrics.detection import auroc, detection
from ..runs.layout import SCORES
from ..settings.groups import Settings
from ..settings.option import settings_of

_FOLDER = Path(str(files(__name__)))
DATA, SAFE, LABELS = _FOLDER / "data.jsonl", _FOLDER / "safe.jsonl", _FOLDER / "labels.json"


def demo_settings(model: str) -> Settings:
    """Return the demo's settings: the defaults, with short sessions at a high learning rate, to end within minutes."""
    sessions = {"epochs": 3.0, "learning_rate": 4e-3, "review_steps": 20}
    return settings_of(Settings, data=(str(DATA),), safe=(str(SAFE),), model=model, **sessions)


def known_labels(run: Path) -> str:
    """Report how well the demo's decisions match the labels of its rows, which the filter itself never reads."""
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    scores = pq.read_table(run / SCORES, columns=["id", "suspicion", "decision"]).to_pydict()
    suspicion = np.array(scores["suspicion"], dtype=float)
    scored = ~np.isnan(suspicion)
    unsafe = np.array([labels[id] == "unsafe" for id in scores["id"]])
    removed = np.array(scores["decision"]) == "removed"
    result = detection(removed, unsafe)
    return (
        f"Against the known labels: {int((removed & unsafe).sum())} of {int(unsafe.sum())} unsafe rows removed, "
        f"precision {result.precision:.2f}, recall {result.recall:.2f}, F1 {result.f1:.2f}, "
        f"AUROC {auroc(suspicion[scored], unsafe[scored]):.3f}"
    )
