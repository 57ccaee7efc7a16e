"""The same method on attributes other than safety: the reviewers' control."""

from __future__ import annotations

import json
from pathlib import Path

from ...runs.layout import STUDY_ROWS
from .attribute_rows import VALUES, Row, attribute_rows
from .curves import forgetting_curve
from .study import Finding, Study
from .variations import Outcome, finding
from .workspace import Room, in_order, labels


def _run(room: Room) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = {}
    for attribute, (reviewed, other) in VALUES.items():
        learned, review = attribute_rows(attribute, room.settings.seed)
        paths = [room.folder / STUDY_ROWS / f"{attribute}-{part}.jsonl" for part in ("learned", "review")]
        for path, rows in zip(paths, (learned, review), strict=True):
            _write(rows, path)
        lab = room.lab_of(attribute, *paths)
        curve = forgetting_curve(lab, [room.review_steps], epochs=room.epochs)
        outcomes[attribute, f"{other}, after a review of {reviewed}"] = Outcome.of(
            curve, in_order(labels(paths[0], "label"), curve.ids)
        )
    works = [condition[0] for condition, o in outcomes.items() if o.auroc.low > 0.5]
    seen = (
        "“Unsafe” stands for the value that was not reviewed. It is forgotten more, with 95% confidence, for "
        f"{len(works)} of {len(outcomes)} attributes ({', '.join(works) or 'none'}). Where it is, a review tells rows "
        "apart by something that has nothing to do with safety. These rows are made from a few templates, far more "
        "alike than real ones."
    )
    return finding(outcomes, ("attribute", "forgotten"), seen)


def _write(rows: list[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


STUDY = Study(
    "attributes",
    "Attributes other than safety",
    "Does a review make a model forget rows in the same way where they differ in language, topic, formality or truth?",
    _run,
    needs_mix=False,
)
