"""Measure how well kinds of unsafe rows are found that none of the package's unsafe rows, the prototypes, are of.

    python benchmarks/unseen.py --data ../shared/data/normalised --work /tmp/panel

The problems are those of the half `chosen` of `panel.py`, whose runs in the work folder are used again. Prototypes of
some notions are left out before anything is fitted. Nothing is trained, and no unsafe row is known. The same problems
without their unsafe rows show what `auto` takes of clean data.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forgetfilter.data.draw import random_ranks
from forgetfilter.decision.suspicion import KIND_OF_PART
from forgetfilter.forgetting.thresholds import AutoOfSuspicion
from forgetfilter.metrics.detection import auroc
from forgetfilter.runs.inputs import prototypes
from forgetfilter.runs.layout import (
    ASIDE,
    BIASED_PROTOTYPES,
    DATA,
    HARMFUL_PROTOTYPES,
    KNOWN_UNSAFE,
    TOXIC_PROTOTYPES,
    TRUSTED,
)
from forgetfilter.suspicion.fusing import Fused, fuse
from forgetfilter.suspicion.likeness import measure_likeness
from panel import Cell, measure
from panel_problems import CHOSEN, PROBLEMS
from results import Table, add_json

UNSAFE_PROTOTYPES = (HARMFUL_PROTOTYPES, TOXIC_PROTOTYPES, BIASED_PROTOTYPES)
FEW = frozenset({"harmfulness", "toxicity", "bias"})
OWN_NOTIONS = {
    "gptfuzz": {"harmfulness", "instructions"},
    "tweets": {"toxicity", "hate"},
    "bbq-a": {"bias"},
    "dialogues": {"toxicity", "agreement"},
}
COLUMNS = (
    "rows",
    "all prototypes",
    "without notions like these",
    "three notions",
    "of these, without the rows' own",
    "clean",
)


def notions(cell: Cell) -> NDArray[np.str_]:
    """Return the notion of each row of the witnesses that is a prototype; empty for other rows."""
    found = np.full(len(cell.witnesses.part), "", dtype="U24")
    ids = cell.witnesses.ids.to_pylist()
    for name in {str(part) for part in cell.witnesses.part if part.startswith("builtin-")}:
        lines = prototypes(name.removeprefix("builtin-")).read_text(encoding="utf-8").splitlines()
        of_file = [json.loads(line).get("notion", "") for line in lines]
        for place in cell.witnesses.of(name):
            found[place] = of_file[int(ids[place].split()[-1])]
    return found


def fused(cell: Cell, chosen: NDArray[np.intp]) -> tuple[Fused, NDArray[np.bool_], NDArray[np.bool_]]:
    """Fuse the evidence about some of the rows; with it, which of them are untrusted and which known to be harmless."""
    part = cell.witnesses.part[chosen]
    kinds = np.array([KIND_OF_PART[name] for name in part])
    ranks = random_ranks(cell.witnesses.ids.take(pa.array(chosen)))
    untrusted, harmless = part == DATA, np.isin(part, [TRUSTED, ASIDE])
    likeness = measure_likeness(cell.witnesses.features.take(chosen), kinds, ranks)
    return fuse(likeness, {}, untrusted, harmless), untrusted, harmless


def found(cell: Cell, used: NDArray[np.bool_]) -> str:
    """Measure the AUROC of suspicion with some of the rows left out."""
    evidence, untrusted, _ = fused(cell, np.flatnonzero(used & (cell.witnesses.part != KNOWN_UNSAFE)))
    return f"{auroc(evidence.suspicion[untrusted], cell.unsafe):.3f}"


def lost_of_clean(cell: Cell) -> str:
    """Measure the share of the harmless rows that `auto` removes where there are no others."""
    used = cell.witnesses.part != KNOWN_UNSAFE
    used[cell.witnesses.of(DATA)[cell.unsafe]] = False
    evidence, untrusted, harmless = fused(cell, np.flatnonzero(used))
    suspicion = evidence.suspicion[untrusted]
    auto = AutoOfSuspicion(np.empty(0), evidence.to_prototypes[untrusted])
    return f"{auto.cut(suspicion, evidence.suspicion[harmless]).removes(suspicion).mean():.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs, such as that of panel.py")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    table = Table(*COLUMNS)
    for problem in PROBLEMS:
        if problem.half != CHOSEN or not problem.unsafe:
            continue
        cell = measure(problem, options.data, options.work, options.model, trained=False)
        notion, own = notions(cell), set().union(*(OWN_NOTIONS[kind] for kind in problem.kinds))
        everyone = np.ones(len(notion), dtype=bool)
        others, few = ~np.isin(notion, list(own)), np.isin(notion, ["", *FEW])
        used = (everyone, others, few, few & others)
        unsafe = np.isin(cell.witnesses.part, UNSAFE_PROTOTYPES)
        table.add(
            problem.name,
            *(found(cell, rows) if (rows & unsafe).any() else "–" for rows in used),
            lost_of_clean(cell),
        )
    table.keep(options.json, "Kinds of unsafe rows that no prototype is of")


if __name__ == "__main__":
    main()
