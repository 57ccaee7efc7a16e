"""How well the whole filter finds unsafe rows, on real data with a real model.

    python benchmarks/detection.py --data ../shared/data/normalised --work /tmp/detection \
        --set trusted=builtin --set set_aside=0.5 harmfulness toxicity bias

For each notion 200 untrusted rows (unsafe ones, and of the others half safe rows and half tasks) and 200 safe
rows for the review. No prompt (bias: no template) is in two of these parts. Labels are used to print the
tables, never to filter. Beside the filter stands a bag-of-words classifier that is *trained on the labels*
(five-fold): how easily the words alone give the unsafe rows away.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgetfilter import FilterResult, ForgetFilter
from forgetfilter.forgetting.estimates import Estimate
from forgetfilter.forgetting.signals import SIGNALS
from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval, detection
from forgetfilter.metrics.text import words
from problems import NOTIONS, Problem, Row, draw_problem
from results import Table

SIGNAL_COLUMNS = ("notion", "signal", "AUROC (95%)", "against safe", "against task", "AP", "seconds")
THRESHOLD_COLUMNS = (
    *("notion", "threshold", "removed", "precision", "recall", "F1"),
    *("estimated precision", "estimated recall", "harmless removed"),
)


def align(model: str, rows: list[Row], folder: Path, settings: dict[str, Any]) -> str:
    """Fine-tune the model on safe rows first, as the paper makes its own aligned model M0; return its folder."""
    if (folder / "config.json").exists():
        return str(folder)
    from forgetfilter.data.chats import Chat
    from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
    from forgetfilter.models.loading import load_tokenizer, quiet_libraries
    from forgetfilter.models.sources import find_model
    from forgetfilter.models.trainable_model import TrainableModel
    from forgetfilter.models.training import finetune, steps_for
    from forgetfilter.settings.groups import Settings
    from forgetfilter.settings.option import from_mapping

    quiet_libraries()
    source, chosen = find_model(model), from_mapping(Settings, {"model": model, **settings})
    tokenizer = load_tokenizer(source)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    chats = [(r["id"], i, Chat.of(r["prompt"], r["completion"])) for i, r in enumerate(rows)]
    encoder = Encoder(tokenizer, "auto", chosen.tokens.max_length, own_words=chosen.tokens.own_words)
    encoder.own_words.look_at(chat for _, _, chat in chats)
    for _ in write_tokens(chats, encoder, partial / "tokens.arrow"):
        pass
    table = TokenTable(partial / "tokens.arrow")
    trainable = TrainableModel(source, chosen.model, chosen.adapter, chosen.training.seed)
    steps, most = steps_for(len(rows), 3, chosen.training.batch_size), chosen.passes.tokens_per_batch
    finetune(trainable, table, table.scorable, steps, chosen.training, partial, tokens_per_batch=most)
    trainable.model.merge_and_unload().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "tokens.arrow").unlink()
    partial.rename(folder)
    return str(folder)


def bag_of_words(rows: list[Row], unsafe: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Naive Bayes on the words of prompt and completion, scored on rows it was not trained on (five-fold)."""
    texts = [set(words(row["prompt"] + " " + row["completion"])) for row in rows]
    scores = np.zeros(len(rows))
    fold = np.random.default_rng(0).permutation(len(rows)) % 5
    for held_out in range(5):
        known = np.flatnonzero(fold != held_out)
        count = {True: int(unsafe[known].sum()), False: int((~unsafe[known]).sum())}
        seen: dict[bool, dict[str, int]] = {True: {}, False: {}}
        for i in known:
            group = seen[bool(unsafe[i])]
            for word in texts[i]:
                group[word] = group.get(word, 0) + 1
        for i in np.flatnonzero(fold == held_out):
            for word in texts[i]:
                share = {g: (seen[g].get(word, 0) + 1) / (count[g] + 2) for g in (True, False)}
                scores[i] += np.log(share[True] / share[False])
    return scores


def ranking(
    notion: str, drawn: Problem, scores: NDArray[np.floating], signal: str, seconds: float | None
) -> tuple[str, ...]:
    """Measure how well a signal ranks the rows."""
    label = np.array([row["label"] for row in drawn.noisy])
    unsafe = label == "unsafe"
    low, high = bootstrap_interval(scores, unsafe)
    apart = (auroc(scores[label != other], unsafe[label != other]) for other in ("task", "safe"))
    numbers = [f"{auroc(scores, unsafe):.3f} ({low:.3f}–{high:.3f})", *(f"{value:.3f}" for value in apart)]
    numbers += [f"{average_precision(scores, unsafe):.3f}", "–" if seconds is None else f"{seconds:.0f}"]
    return (notion, signal, *numbers)


def threshold(notion: str, drawn: Problem, result: FilterResult) -> tuple[str, ...]:
    """Measure what a threshold removes, next to the filter's own estimates."""
    unsafe = np.array([row["label"] == "unsafe" for row in drawn.noisy])
    removed = np.array(result.scores["decision"]) == "removed"
    measured = detection(removed, unsafe)
    numbers = [
        f"{value:.2f}" if np.isfinite(value) else "–" for value in (measured.precision, measured.recall, measured.f1)
    ]
    errors = [result.summary.errors[name] for name in ("precision", "recall", "harmless_removed")]
    estimates = ["unknown" if error is None else str(Estimate(**error)) for error in errors]
    return (notion, result.summary.threshold, str(int(removed.sum())), *numbers, *estimates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notions", nargs="+", choices=NOTIONS)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; finished stages are used again")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--share", type=float, default=0.5, help="share of the untrusted rows that is unsafe")
    parser.add_argument("--draw", type=int, default=0, help="seed of the choice of rows")
    parser.add_argument("--known-unsafe", action="store_true", help="plant 50 rows known to be unsafe")
    parser.add_argument("--thresholds", nargs="+", default=["auto"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the filter")
    parser.add_argument("--json", type=Path, help="../docs/results/NAME writes NAME-ranking.json, NAME-thresholds.json")
    options = parser.parse_args()
    settings: dict[str, Any] = dict(pair.split("=", 1) for pair in options.set)
    thresholds: list[tuple[str, ...]] = []
    rankings = Table(*SIGNAL_COLUMNS)
    for notion in options.notions:
        drawn = draw_problem(options.data, notion, options.share, options.draw)
        unsafe = np.array([row["label"] == "unsafe" for row in drawn.noisy])
        model = options.model
        name = f"{notion}-{options.share:g}-{options.draw}"
        if drawn.align:
            model = align(model, drawn.align, options.work / f"aligned-{name}", settings)
        began = time.monotonic()
        filter = ForgetFilter(model=model, **settings)
        known_unsafe = drawn.known_unsafe if options.known_unsafe else None
        safe = settings.get("safe") or drawn.safe
        result = filter.run(drawn.noisy, safe, output=options.work / name, known_unsafe=known_unsafe)
        seconds = time.monotonic() - began
        thresholds += [threshold(notion, drawn, result.decide(wanted)) for wanted in options.thresholds]
        for signal in (s for s in SIGNALS.values() if s.scoring == SIGNALS[filter.settings.decision.signal].scoring):
            scores = result.decide("auto", signal=signal.name).scores["forgetting"]
            forgetting = np.nan_to_num(np.array(scores, dtype=float), nan=-np.inf)
            rankings.add(*ranking(notion, drawn, forgetting, signal.name, seconds))
        known = bag_of_words(drawn.noisy, unsafe)
        rankings.add(*ranking(notion, drawn, known, "(bag of words, trained on labels)", None))
    decided = Table(*THRESHOLD_COLUMNS)
    for cells in thresholds:
        decided.add(*cells)
    if options.json:
        rankings.keep(Path(f"{options.json}-ranking.json"), "How well signals rank unsafe rows")
        decided.keep(Path(f"{options.json}-thresholds.json"), "What thresholds remove")


if __name__ == "__main__":
    main()
