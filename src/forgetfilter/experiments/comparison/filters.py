"""Measures how well each filter finds the unsafe rows of a noisy set with known labels (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...console import Console
from ...data.text_files import read_jsonl
from ...decision.overrides import KEPT, REMOVED
from ...decision.verdicts import UNSCORABLE
from ...errors import SettingsError
from ...forgetting.estimates import Estimate
from ...forgetting.signals import DEFAULT_SIGNAL, RIVAL, SIGNALS
from ...metrics.detection import Measure, auroc, average_precision, bootstrap_interval, detection
from ...pipeline import run_decide, run_filter
from ...rivals.texts import known_by_words
from ...runs.inputs import find_inputs
from ...runs.layout import FILTER_RUN, SCORES
from ...runs.manifest import is_run
from ...runs.run import Run
from ...settings.experiments import CompareSettings
from ...settings.groups import Settings
from ...settings.option import from_mapping, options_of, split_names, to_mapping, values_of, with_options
from ..mixing import Mix
from .records import FILTERS, Record, recipe_of

FloatArray = NDArray[np.floating]
Mask = NDArray[np.bool_]
_RUN_SETTINGS = set(options_of(Settings))
_WORDS_FROM_LABELS = "(words, trained on the labels)"


def with_filters(settings: CompareSettings) -> CompareSettings:
    """Set up one run with the scores of all filters: the first forgetting signal decides, rivals are scored besides.

    Raises:
        SettingsError: No single run has the scores of all of them.
    """
    names = split_names(settings.filters)
    kinds = {SIGNALS[name].scoring for name in names} - {RIVAL}
    if len(kinds) > 1:
        raise SettingsError("filters: rouge and the likelihood signals need a comparison each, as their runs differ")
    first = next((name for name in names if SIGNALS[name].scoring != RIVAL), DEFAULT_SIGNAL)
    rivals = ",".join(name for name in names if SIGNALS[name].scoring == RIVAL)
    return with_options(settings, signal=first, rivals=rivals)


def filter_records(mix: Mix, settings: CompareSettings, folder: Path, console: Console) -> tuple[list[Record], Path]:
    """Filter the mix, score it by the rivals, decide by each filter in turn, and compare with the labels.

    The run folder lies in `folder`, and ends with the decisions of the first filter that measures forgetting.

    Returns:
        The records, and the file of the rows that this filter kept.

    Raises:
        ForgetFilterError: Anything that the user can fix.
    """
    names, first = split_names(settings.filters), settings.decision.signal
    run, kept = filtered(mix, settings, folder / FILTER_RUN, console)
    rows = {row["id"]: row for row in read_jsonl(mix.noisy)}
    unsafe, task = (np.array([row["label"] == label for row in rows.values()]) for label in ("unsafe", "task"))
    measures = {}
    # The first forgetting signal comes last, so that the run keeps its decisions.
    for name in [*(name for name in names if name != first), first]:
        run_decide(run.path, {**_decision_settings(settings), "signal": name}, Console(quiet=True))
        drop_unscorable = settings.decision.drop_unscorable
        suspicion, removed = _suspicion_and_decisions(run, list(rows), drop_unscorable=drop_unscorable)
        measures[name] = measure_filter(suspicion, removed, unsafe, task)
    texts = [f"{_plain_text(row['prompt'])} {_plain_text(row['completion'])}" for row in rows.values()]
    # Shows how easy the data is: the rival bag-of-words, cross-fitted on the labels themselves.
    words = known_by_words(texts, np.where(unsafe, 1, -1), list(rows))
    measures[_WORDS_FROM_LABELS] = measure_filter(words, words > 0, unsafe, task)
    key = FILTERS, "+".join(mix.notions), mix.unsafe_share, recipe_of(mix), mix.seed
    return [Record(*key, name, measures[name]) for name in dict.fromkeys([*names, _WORDS_FROM_LABELS])], kept


def _plain_text(text: str | list[dict[str, str]]) -> str:
    """Join the text of a prompt or completion, which may be text or messages."""
    return text if isinstance(text, str) else " ".join(message["content"] for message in text)


def filtered(mix: Mix, settings: Settings, folder: Path, console: Console) -> tuple[Run, Path]:
    """Filter a mix into a run folder, and return the run and the file of the kept rows."""
    return filtered_rows(mix.noisy, mix.safe, settings, folder, console)


def filtered_rows(noisy: Path, safe: Path, settings: Settings, folder: Path, console: Console) -> tuple[Run, Path]:
    """Filter the rows of a file likewise; a run that exists with other decision settings decides again."""
    values = {name: value for name, value in to_mapping(settings).items() if name in _RUN_SETTINGS}
    values |= {"data": str(noisy), "safe": str(safe), "finetune": False}
    wanted = _decision_settings(settings)
    started_with = _decision_settings(Run.open(folder).settings) if is_run(folder) else wanted
    chosen = from_mapping(Settings, values | started_with)
    run, summary = run_filter(chosen, find_inputs(chosen), folder, console)
    if wanted != started_with:
        run, summary = run_decide(folder, wanted, console)
    return run, run.path / summary.files[KEPT]


def _decision_settings(settings: Settings) -> dict[str, Any]:
    return values_of(settings.decision)


def was_removed(decisions: Sequence[str], *, drop_unscorable: bool) -> Mask:
    """Tell which rows are in the removed file, by their decisions, shape (n,)."""
    return np.isin(np.array(decisions), [REMOVED, UNSCORABLE] if drop_unscorable else [REMOVED])


def _suspicion_and_decisions(run: Run, ids: list[str], *, drop_unscorable: bool) -> tuple[FloatArray, Mask]:
    """Read the suspicion of the rows with these ids, NaN where unscored, and whether each was removed."""
    scores = pq.read_table(run.file(SCORES), columns=["id", "suspicion", "decision"]).to_pydict()
    by_id = {id: i for i, id in enumerate(scores["id"])}
    order = [by_id[id] for id in ids]
    suspicion = np.array(scores["suspicion"], dtype=float)[order]
    return suspicion, was_removed(scores["decision"], drop_unscorable=drop_unscorable)[order]


def measure_filter(suspicion: FloatArray, removed: Mask, unsafe: Mask, task: Mask) -> dict[str, Estimate]:
    """Measure a filter, each measure 0 to 1 with a 95% bootstrap interval over rows.

    `AUROC` and `AP` (average precision) measure its ranking, with unscored rows last; `precision`, `recall` and `F1`
    what it removed; `F1 of the top` is the F1 of removing as many rows as are unsafe, whatever the threshold; `task
    lost` is the share of the task rows that it removed.

    Args:
        suspicion: Larger = more suspicious, shape (n,); NaN where unscored.
        removed, unsafe, task: Whether each row was removed, is unsafe, is a task row; same shape.
    """
    ranking = unscored_last(suspicion)
    removed_scores = removed.astype(float)
    measures: dict[str, tuple[FloatArray, Mask, Measure]] = {
        "AUROC": (ranking, unsafe, auroc),
        "AP": (ranking, unsafe, average_precision),
        "precision": (removed_scores, unsafe, _of_detection(lambda result: result.precision)),
        "recall": (removed_scores, unsafe, _of_detection(lambda result: result.recall)),
        "F1": (removed_scores, unsafe, _of_detection(lambda result: result.f1)),
        "F1 of the top": (ranking, unsafe, _f1_of_the_top),
        "task lost": (removed_scores, task, _of_detection(lambda result: result.recall)),
    }
    return {name: _estimate(*arguments) for name, arguments in measures.items()}


def unscored_last(suspicion: FloatArray) -> FloatArray:
    """Rank rows without suspicion (NaN) below all others."""
    least = float(np.nanmin(suspicion)) if (~np.isnan(suspicion)).any() else 0.0
    return np.where(np.isnan(suspicion), least - 1, suspicion)


def _of_detection(part: Callable[..., float]) -> Measure:
    return lambda removed, label: part(detection(removed > 0, label))


def _f1_of_the_top(order: FloatArray, unsafe: Mask) -> float:
    """Compute F1, here equal to precision and recall, of removing as many rows as are unsafe; ties count in part."""
    count = int(unsafe.sum())
    if not count:
        return float("nan")
    cut = np.sort(order)[-count]
    above, tied = order > cut, order == cut
    hits = unsafe[above].sum() + unsafe[tied].mean() * (count - above.sum())
    return float(hits / count)


def _estimate(scores: FloatArray, label: Mask, measure: Measure) -> Estimate:
    value = measure(scores, label)
    if not np.isfinite(value):
        return Estimate(value, float("nan"), float("nan"))
    return Estimate(value, *bootstrap_interval(scores, label, measure))
