"""Measure how well the package's list of offensive words finds the unsafe rows of the panel. No model is needed.

python benchmarks/word_list.py --data ../shared/data/normalised --half reported
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from forgetfilter.classifiers.toxicity import WORDS, toxicity_classifier
from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval, detection
from panel_problems import CHOSEN, PROBLEMS, REPORTED, draw
from results import Table, add_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--half", choices=(CHOSEN, REPORTED), default=CHOSEN)
    add_json(parser)
    options = parser.parse_args()
    classifier = toxicity_classifier(WORDS)
    table = Table("rows", "AUROC (95%)", "average precision", "F1 of any listed word", "harmless lost")
    for problem in PROBLEMS:
        # What is reviewed does not matter to a list of words.
        if problem.half != options.half or problem.safe != "same":
            continue
        noisy = draw(problem, options.data, 0).noisy
        unsafe = np.array([row["label"] == "unsafe" for row in noisy])
        scores = classifier.scores([row["completion"] for row in noisy])
        removed, figures = scores > 0, ["–", "–", "–"]
        if unsafe.any():
            low, high = bootstrap_interval(scores, unsafe)
            figures = [f"{auroc(scores, unsafe):.3f} ({low:.3f} to {high:.3f})"]
            figures += [f"{average_precision(scores, unsafe):.2f}", f"{detection(removed, unsafe).f1:.2f}"]
        table.add(problem.name, *figures, f"{removed[~unsafe].mean():.0%}")
    table.keep(options.json, f"A list of offensive words, half {options.half!r} of the panel")


if __name__ == "__main__":
    main()
