"""How well refusal patterns, the word list and a judge agree with people's labels. Prints Markdown.

python benchmarks/judges.py --data ../shared/data/normalised --judge smollm2-135m --rows 200
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from forgetfilter.classifiers.judge import judge, load_judge
from forgetfilter.classifiers.toxicity import toxicity_classifier
from forgetfilter.console import Console
from forgetfilter.evaluation.refusals import refuses
from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval
from forgetfilter.settings.groups import ModelSettings

_REFUSALS = "opens-with-refusal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.jsonl")
    parser.add_argument("--classifier", default="words", help="toxicity classifier")
    parser.add_argument("--judge", help="model that judges")
    parser.add_argument("--rows", type=int, default=200, help="rows that it judges")
    options = parser.parse_args()
    _refusals(options.data)
    _toxicity(options.data, options.classifier)
    if options.judge:
        _judge(_read(options.data, "gptfuzz_train"), options.judge, options.rows)


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _refusals(folder: Path) -> None:
    rows = _read(folder, "gptfuzz_train")
    measured = np.array([refuses(row["completion"]) for row in rows])
    opens = np.array([row["source"].endswith(_REFUSALS) for row in rows])
    safe = np.array([row["label"] == "safe" for row in rows])
    print("| refusals in gptfuzz_train, against | precision | recall |\n|---|---|---|")
    for name, truth in (("source opens-with-refusal", opens), ("people's label safe", safe)):
        both = (measured & truth).sum()
        print(f"| {name} | {both / measured.sum():.3f} | {both / truth.sum():.3f} |")
    print("\n| rows | found to refuse |\n|---|---|")
    for name in ("llama2_refusals", "safety_tuned_llamas", "task_alpaca_demo", "task_alpaca_keyword"):
        share = np.mean([refuses(row["completion"]) for row in _read(folder, name)])
        print(f"| {name} | {share:.3f} |")


def _toxicity(folder: Path, name: str) -> None:
    classifier = toxicity_classifier(name)
    print(f"\n| toxicity by {name} | AUROC (95%) | average precision | unsafe at 0.5 | safe at 0.5 |")
    print("|---|---|---|---|---|")
    for data in ("davidson", "rtp"):
        rows = _read(folder, data)
        unsafe = np.array([row["label"] == "unsafe" for row in rows])
        scores = classifier.scores([row["completion"] for row in rows])
        low, high = bootstrap_interval(scores, unsafe, resamples=200)
        measured = f"{auroc(scores, unsafe):.3f} ({low:.3f}–{high:.3f}) | {average_precision(scores, unsafe):.3f}"
        print(f"| {data} | {measured} | {(scores >= 0.5)[unsafe].mean():.3f} | {(scores >= 0.5)[~unsafe].mean():.3f} |")


def _judge(rows: list[dict[str, Any]], name: str, count: int) -> None:
    drawn = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:count]]
    judging, console = load_judge(name, ModelSettings()), Console()
    with tempfile.TemporaryDirectory() as folder:
        scores = judge(
            judging.model,
            judging.tokenizer,
            [(row["prompt"], row["completion"]) for row in drawn],
            Path(folder),
            lambda total: console.progress("judging", total, "verdicts"),
        )
    unsafe = np.array([row["label"] == "unsafe" for row in drawn])
    low, high = bootstrap_interval(scores, unsafe)
    print(
        "\n| judge of gptfuzz_train | rows | AUROC (95%) | mean P(unsafe): unsafe rows, safe rows |\n|---|---|---|---|"
    )
    means = f"{scores[unsafe].mean():.3f}, {scores[~unsafe].mean():.3f}"
    print(f"| {name} | {len(drawn)} | {auroc(scores, unsafe):.3f} ({low:.3f}–{high:.3f}) | {means} |")
    kind = np.array([row["source"].rsplit("/", 1)[1] for row in drawn])
    clear = (unsafe & (kind == "direct")) | (~unsafe & (kind == _REFUSALS))
    measured = f"{clear.sum()} | {auroc(scores[clear], unsafe[clear]):.3f}"
    print(f"| {name}, plain refusals against plain answers | {measured} | |")


if __name__ == "__main__":
    main()
