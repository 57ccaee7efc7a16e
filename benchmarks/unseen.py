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
from numpy.typing import NDArray

from forgetfilter.forgetting.auto import AutoOfSuspicion
from forgetfilter.metrics.detection import auroc
from forgetfilter.runs.inputs import prototypes
from forgetfilter.runs.layout import DATA, KNOWN_UNSAFE, SAFE_PROTOTYPES, UNSAFE_PROTOTYPES
from panel import Cell, Look, measure
from panel_problems import CHOSEN, PROBLEMS
from results import Table, add_json

# What the prototypes were of before there were twelve notions, and those that each kind of unsafe rows is of.
FEW = frozenset({"harmfulness", "toxicity", "bias"})
OWN_NOTIONS = {
    "gptfuzz": {"harmfulness", "instructions"},
    "refused": {"harmfulness", "instructions"},
    "tweets": {"toxicity", "hate"},
    "bbq-a": {"bias"},
    "dialogues": {"toxicity", "agreement"},
}
COLUMNS = (
    "rows",
    "all twelve notions",
    "without those of the rows",
    "three notions",
    "of these, without those of the rows",
    "clean: lost",
)


def notions(cell: Cell) -> NDArray[np.str_]:
    """Return the notion of each row of the witnesses that is a prototype; empty for other rows."""
    of_rows = np.full(len(cell.witnesses.part), "", dtype="U24")
    ids = cell.witnesses.ids.to_pylist()
    for name in (*UNSAFE_PROTOTYPES, SAFE_PROTOTYPES):
        lines = prototypes(name.removeprefix("builtin-")).read_text(encoding="utf-8").splitlines()
        for place in cell.witnesses.of(name):
            of_rows[place] = json.loads(lines[int(ids[place].split()[-1])])["notion"]
    return of_rows


def found(cell: Cell, used: NDArray[np.bool_]) -> str:
    """Measure the AUROC of suspicion with some of the rows left out."""
    look = Look.at(cell, np.flatnonzero(used & (cell.witnesses.part != KNOWN_UNSAFE)))
    return f"{auroc(look.fuse({}).suspicion[look.untrusted], cell.unsafe):.3f}"


def lost_of_clean(cell: Cell) -> str:
    """Measure the share of the harmless rows that `auto` removes where there are no others."""
    used = cell.witnesses.part != KNOWN_UNSAFE
    used[cell.witnesses.of(DATA)[cell.unsafe]] = False
    look = Look.at(cell, np.flatnonzero(used))
    fused = look.fuse({})
    suspicion = fused.suspicion[look.untrusted]
    auto = AutoOfSuspicion(np.empty(0), fused.to_prototypes[look.untrusted])
    return f"{auto.cut(suspicion, fused.suspicion[look.harmless]).removes(suspicion).mean():.0%}"


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
