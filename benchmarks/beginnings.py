"""Measure how much of each answer the default signal should use, from finished runs; no model is needed.

    python benchmarks/beginnings.py --data ../shared/data/normalised --work /tmp/detection \\
        --mix mixes/harm=compared/harm/filter

Takes the runs that `detection.py` left in its work folders, and runs of mixes (`MIX=RUN`), measures forgetting again
with different beginnings, and prints the AUROC of each. Biased rows of a mix of notions are left out, as no signal
finds them with this model.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from forgetfilter.data.text_files import read_jsonl
from forgetfilter.forgetting import signals
from forgetfilter.forgetting.measuring import ScoredRows, columns_of, measure_forgetting
from forgetfilter.metrics.detection import auroc
from forgetfilter.runs.inputs import Material
from forgetfilter.runs.layout import DATA, LEARNED, REVIEWED
from forgetfilter.runs.run import Run
from problems import NOTIONS, Row, draw_problem
from results import Table

BEGINNINGS = (8, 16, 24, 32, 64, None)


def detected(data: Path, work: Path) -> Iterator[tuple[Path, list[Row]]]:
    """Yield the runs in a work folder of detection.py, named NOTION-SHARE-DRAW, with their rows."""
    for folder in sorted(work.iterdir()):
        notion, _, rest = folder.name.partition("-")
        if notion in NOTIONS and (folder / "stages" / "forgetting").is_dir():
            share, draw = rest.split("-")
            yield folder, draw_problem(data, notion, float(share), int(draw)).noisy


def measure(run: Run, beginning: int | None) -> dict[int, float]:
    """Measure forgetting by the default signal with this beginning; return it by the row's position."""
    signal = replace(signals.LIKELIHOOD, beginning=beginning)
    before, signals.SIGNALS[signal.name] = signals.SIGNALS[signal.name], signal
    material, (learned, reviewed) = Material(run), (run.folder(f"{state}-scores") for state in (LEARNED, REVIEWED))
    parts: Mapping[str, ScoredRows] = {
        part: ScoredRows(partial(material.said, part), material.tokens(part), learned / part, [reviewed / part])
        for part in material.parts
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure_forgetting(parts, signal.scoring, Path(folder))
            table = pq.read_table(Path(folder) / f"{DATA}.parquet")
    finally:
        signals.SIGNALS[signal.name] = before
    drop = np.subtract(*(table.column(name).to_numpy() for name in columns_of(signal)[:2]))
    return dict(zip(table.column("row").to_pylist(), drop.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, action="append", default=[], help="work folder of detection.py")
    parser.add_argument("--mix", action="append", default=[], metavar="MIX=RUN", help="a mix and a run on it")
    options = parser.parse_args()
    runs = [run for work in options.work for run in detected(options.data, work)]
    for pair in options.mix:
        mix, folder = map(Path, pair.split("=", 1))
        runs.append((folder, list(read_jsonl(mix / "noisy.jsonl"))))
    table = Table("run", *("whole" if n is None else f"first {n}" for n in BEGINNINGS))
    aurocs = []
    for folder, rows in runs:
        run = Run.open(folder)
        values = []
        for beginning in BEGINNINGS:
            drop = measure(run, beginning)
            chosen = [i for i in drop if not (rows[i]["label"] == "unsafe" and rows[i]["notion"] == "bias")]
            unsafe = np.array([rows[i]["label"] == "unsafe" for i in chosen])
            values.append(auroc(np.nan_to_num([drop[i] for i in chosen], nan=-np.inf), unsafe))
        aurocs.append(values)
        table.add(f"{folder.parent.name}/{folder.name}", *(f"{value:.3f}" for value in values))
    table.add("mean", *(f"{value:.3f}" for value in np.mean(aurocs, axis=0)))


if __name__ == "__main__":
    main()
