"""What is lost by applying a run to further rows instead of filtering them all, and how fast that goes.

    python benchmarks/applying.py --data ../shared/data/normalised --work /tmp/applying
    python benchmarks/applying.py --data ../shared/data/normalised --work /tmp/applying --speed

1,000 rows are drawn, a fifth of them unsafe, of three kinds; harmless rows are half safe rows, half tasks. Runs on the
first 10, 50 and 200 of them (1, 5 and 20%) are applied to the last 400, and compared with a run on these 400 rows
themselves. Constants may be chosen on the sources of the half `chosen`; those of `reported` are other ones. Runs are
kept in the work folder and go on where they stopped. --speed scores the answers of a data set over and over, in one
process, and writes no file.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forgetfilter import FilterResult, ForgetFilter, RowScorer
from forgetfilter.data.chats import ASSISTANT, Chat, Message
from forgetfilter.metrics.detection import auroc, bootstrap_interval, ranks
from panel_problems import CHOSEN, REPORTED, Problem, draw
from problems import Row, load

KINDS = {CHOSEN: ("gptfuzz", "tweets", "bbq-a"), REPORTED: ("ablated", "continuations", "bbq-b")}
ROWS, COMPARED, SIZES = 1000, 400, (10, 50, 200)
SPEED_ROWS = ("gptfuzz_train", "safety_tuned_llamas", "refusal_direction", "task_alpaca_demo", "davidson")


def filtered(rows: list[Row], safe: Path, folder: Path, model: str, *, training: bool) -> FilterResult:
    """Filter some rows, or open the run that did."""
    data = folder / f"{len(rows)}.jsonl"
    _write(rows, data)
    output = folder / f"run-{len(rows)}"
    return ForgetFilter(model=model, training=training).run(str(data), str(safe), output=output)


def _write(rows: list[Row], path: Path) -> None:
    lines = (json.dumps({name: row[name] for name in ("prompt", "completion")}) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def measured(result: FilterResult) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Suspicion of a run's own rows, and which of them it removed."""
    return np.array(result.scores["suspicion"]), np.array([value == "removed" for value in result.scores["decision"]])


def line(
    name: str,
    suspicion: NDArray[np.floating],
    removed: NDArray[np.bool_],
    full: tuple[NDArray[np.floating], NDArray[np.bool_]],
    unsafe: NDArray[np.bool_],
) -> str:
    """A line of the table: against the labels, and against the run on all of the rows."""
    low, high = bootstrap_interval(suspicion, unsafe)
    correlation = np.corrcoef(ranks(suspicion), ranks(full[0]))[0, 1]
    found, lost = removed[unsafe].mean(), removed[~unsafe].mean()
    return (
        f"| {name} | {auroc(suspicion, unsafe):.3f} ({low:.3f} to {high:.3f}) | {found:.0%} | {lost:.0%} "
        f"| {correlation:.2f} | {(removed == full[1]).mean():.0%} |"
    )


def compare(half: str, options: argparse.Namespace) -> None:
    """Compare what is applied with what is filtered on the sources of a half."""
    drawn, folder = (
        draw(Problem("applied", half, KINDS[half], unsafe=0.2, rows=ROWS), options.data, 0),
        options.work / half,
    )
    folder.mkdir(parents=True, exist_ok=True)
    safe = folder / "safe.jsonl"
    _write(drawn.safe, safe)
    compared = drawn.noisy[-COMPARED:]
    unsafe = np.array([row["label"] == "unsafe" for row in compared])
    full = measured(filtered(compared, safe, folder, options.model, training=options.training))
    chats = [Chat([Message("user", r["prompt"]), Message(ASSISTANT, r["completion"], trained=True)]) for r in compared]
    print(f"\n{half}: {', '.join(KINDS[half])}; {unsafe.sum()} of {COMPARED} rows are unsafe\n")
    print("| rows filtered | AUROC (95%) | unsafe removed | harmless lost | correlation with all | same decision |")
    print("|---|---|---|---|---|---|")
    print(line(f"all {COMPARED}", *full, full, unsafe), flush=True)
    for size in options.sizes:
        result = filtered(drawn.noisy[:size], safe, folder, options.model, training=options.training)
        for evidence in options.evidence:
            scorer = RowScorer.load(result.path, evidence)
            suspicion = scorer.score(chats).suspicion
            removed = scorer.cut.removes(suspicion)
            print(line(f"{size}, by {evidence}", suspicion, removed, full, unsafe))
            print(f"  told beforehand, {scorer.agreement}", flush=True)


def speed(run: Path, data: Path) -> None:
    """Print how many documents a minute of one core's time scores, and how the memory grows with their number."""
    texts = [row["completion"] for name in SPEED_ROWS for row in load(data, name)]
    words = np.mean([len(text.split()) for text in texts])
    print(f"{len(texts):,} answers of {words:.0f} words on average")
    scorer = RowScorer.load(run)
    for rounds in (1, 10):
        began, seen = time.process_time(), 0
        for _ in range(rounds):
            for start in range(0, len(texts), 1000):
                seen += len(scorer.score_texts(texts[start : start + 1000]).words)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{seen:,} documents: {60 * seen / seconds:,.0f} a minute and core, {peak:,.0f} MB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--halves", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="how many rows are filtered")
    parser.add_argument("--evidence", nargs="+", default=["words"], choices=("words", "states"))
    parser.add_argument("--no-training", dest="training", action="store_false", help="only a first look in each run")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--model", default="smollm2-135m")
    options = parser.parse_args()
    if options.speed:
        speed(options.work / options.halves[0] / f"run-{options.sizes[-1]}", options.data)
        return
    for half in options.halves:
        compare(half, options)


if __name__ == "__main__":
    main()
