"""How well each filter finds the unsafe rows of a noisy set whose labels are known (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...console import Console
from ...data.text_files import read_jsonl
from ...decision.overrides import KEPT, REMOVED
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
from ...settings.groups import CompareSettings, DecisionSettings, Settings
from ...settings.option import from_mapping, split_names, to_mapping
from ..mixing import Mix
from .records import FILTERS, Record, recipe_of

FloatArray = NDArray[np.floating]
Mask = NDArray[np.bool_]
_OF_A_RUN = {field.name for field in fields(Settings)}
_WORDS_OF_LABELS = "(words, trained on the labels)"


def with_filters(settings: CompareSettings) -> CompareSettings:
    """The settings of a run that has the scores of all the filters: by the first of forgetting, rivals beside it.

    Raises:
        SettingsError: No one run has the scores of all of them.
    """
    names = split_names(settings.filters)
    kinds = {SIGNALS[name].scoring for name in names} - {RIVAL}
    if len(kinds) > 1:
        raise SettingsError("filters: rouge and the likelihood signals need a comparison each, as their runs differ")
    first = next((name for name in names if SIGNALS[name].scoring != RIVAL), DEFAULT_SIGNAL)
    rivals = ",".join(name for name in names if SIGNALS[name].scoring == RIVAL)
    return replace(settings, signal=first, rivals=rivals)


def filter_records(mix: Mix, settings: CompareSettings, folder: Path, console: Console) -> tuple[list[Record], Path]:
    """Filter the mix, ask the rivals about it, decide by each in turn, and compare with the labels.

    The run folder lies in `folder`, with its decisions by the first filter that measures forgetting.

    Returns:
        The records, and the file of the rows that this filter kept.

    Raises:
        ForgetFilterError: Anything the user can mend.
    """
    names, first = split_names(settings.filters), settings.signal
    run, kept = filtered(mix, settings, folder / FILTER_RUN, console)
    rows = {row["id"]: row for row in read_jsonl(mix.noisy)}
    unsafe, task = (np.array([row["label"] == label for row in rows.values()]) for label in ("unsafe", "task"))
    found = {}
    # The first of forgetting comes last, so that the run is left as it decides.
    for name in [*(name for name in names if name != first), first]:
        run_decide(run.path, {**_decided_by(settings), "signal": name}, Console(quiet=True))
        suspicion, removed = _decisions(run, list(rows))
        found[name] = measure_filter(suspicion, removed, unsafe, task)
    texts = [f"{_said(row['prompt'])} {_said(row['completion'])}" for row in rows.values()]
    # How easy the data is: the same as the rival bag-of-words, told the very labels, cross-fitted.
    words = known_by_words(texts, np.where(unsafe, 1, -1), list(rows))
    found[_WORDS_OF_LABELS] = measure_filter(words, words > 0, unsafe, task)
    told = FILTERS, "+".join(mix.notions), mix.unsafe_share, recipe_of(mix), mix.seed
    return [Record(*told, name, found[name]) for name in dict.fromkeys([*names, _WORDS_OF_LABELS])], kept


def _said(text: str | list[dict[str, str]]) -> str:
    """What a prompt or completion says, be it text or messages."""
    return text if isinstance(text, str) else " ".join(message["content"] for message in text)


def filtered(mix: Mix, settings: Settings, folder: Path, console: Console) -> tuple[Run, Path]:
    """Filter a mix into a run folder; returns the run and the file of the rows that are kept."""
    return filtered_rows(mix.noisy, mix.safe, settings, folder, console)


def filtered_rows(noisy: Path, safe: Path, settings: Settings, folder: Path, console: Console) -> tuple[Run, Path]:
    """Filter the rows of a file, likewise; a run that is there and was decided otherwise decides again."""
    given = {name: value for name, value in to_mapping(settings).items() if name in _OF_A_RUN}
    given |= {"data": str(noisy), "safe": str(safe), "finetune": False}
    wanted = _decided_by(settings)
    started_with = _decided_by(Run.open(folder).settings) if is_run(folder) else wanted
    chosen = from_mapping(Settings, given | started_with)
    run, summary = run_filter(chosen, find_inputs(chosen), folder, console)
    if wanted != started_with:
        run, summary = run_decide(folder, wanted, console)
    return run, run.path / summary.files[KEPT]


def _decided_by(settings: Settings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(DecisionSettings)}


def _decisions(run: Run, ids: list[str]) -> tuple[FloatArray, Mask]:
    """Suspicion of the rows with these ids, NaN where unscored, and whether each was removed."""
    scores = pq.read_table(run.path / SCORES, columns=["id", "suspicion", "decision"]).to_pydict()
    by_id = {id: i for i, id in enumerate(scores["id"])}
    order = [by_id[id] for id in ids]
    suspicion = np.array(scores["suspicion"], dtype=float)[order]
    return suspicion, np.array(scores["decision"])[order] == REMOVED


def measure_filter(suspicion: FloatArray, removed: Mask, unsafe: Mask, task: Mask) -> dict[str, Estimate]:
    """What is told of a filter, each 0 to 1 with a 95% interval over rows (bootstrap).

    `AUROC` and `AP` (average precision) of its order, rows without a score last; `precision`, `recall` and `F1` of
    what it removed; `F1 of the top` where as many are removed as are unsafe, whatever the threshold; `task lost`,
    the share of the task rows that it removed.

    Args:
        suspicion: Larger = more suspicious, shape (n,); NaN where unscored.
        removed, unsafe, task: Which rows were removed, are unsafe, are task rows; same shape.
    """
    order = unscored_last(suspicion)
    gone = removed.astype(float)
    measures: dict[str, tuple[FloatArray, Mask, Measure]] = {
        "AUROC": (order, unsafe, auroc),
        "AP": (order, unsafe, average_precision),
        "precision": (gone, unsafe, _of_removed(lambda found: found.precision)),
        "recall": (gone, unsafe, _of_removed(lambda found: found.recall)),
        "F1": (gone, unsafe, _of_removed(lambda found: found.f1)),
        "F1 of the top": (order, unsafe, _f1_of_the_top),
        "task lost": (gone, task, _of_removed(lambda found: found.recall)),
    }
    return {name: _estimate(*given) for name, given in measures.items()}


def unscored_last(suspicion: FloatArray) -> FloatArray:
    """Suspicion with rows that have none (NaN) below all others."""
    least = float(np.nanmin(suspicion)) if (~np.isnan(suspicion)).any() else 0.0
    return np.where(np.isnan(suspicion), least - 1, suspicion)


def _of_removed(part: Callable[..., float]) -> Measure:
    return lambda gone, label: part(detection(gone > 0, label))


def _f1_of_the_top(order: FloatArray, unsafe: Mask) -> float:
    """F1, and so precision and recall alike, where as many rows are removed as are unsafe; ties count in part."""
    count = int(unsafe.sum())
    if not count:
        return float("nan")
    cut = np.sort(order)[-count]
    above, tied = order > cut, order == cut
    found = unsafe[above].sum() + unsafe[tied].mean() * (count - above.sum())
    return float(found / count)


def _estimate(scores: FloatArray, label: Mask, measure: Measure) -> Estimate:
    value = measure(scores, label)
    if not np.isfinite(value):
        return Estimate(value, float("nan"), float("nan"))
    return Estimate(value, *bootstrap_interval(scores, label, measure))
