"""Gives studies what they work with: noisy sets, settings, and experiments that share their training sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...classifiers.judge import Judge, load_judge
from ...console import Console, printable
from ...data.draw import in_random_order
from ...data.records import hash_chunks
from ...data.text_files import read_jsonl
from ...errors import SettingsError
from ...evaluation.held_out import HARMFULNESS
from ...models.sources import find_model
from ...runs.layout import EXPERIMENTS, FILTERS
from ...runs.run import Run
from ...settings.experiments import StudySettings
from ...settings.groups import REVIEW_STEPS
from ...settings.option import split_names, with_options
from ..comparison.filters import filtered
from ..comparison.records import recipe_of
from ..evaluating import EvaluationSpec
from ..experiment import Experiment
from ..mixing import Mix
from ..strategies.requests import prepend_request
from ..strategies.strategy import NOISY, SAFE

_LONGEST_VALUE = 40
# Labels of a mix; the group of a task row is its source.
UNSAFE, SAFE_LABEL = "unsafe", "safe"


class StudyContext:
    """The data, settings and experiments that a study works with.

    Attributes:
        folder: The folder that keeps experiments and filter runs.
        mixes: The noisy sets, with their safe and held-out rows.
        settings: How to train, score and evaluate models.
        console: Where to report progress.
    """

    def __init__(self, folder: Path, mixes: Sequence[Mix], settings: StudySettings, console: Console) -> None:
        self.folder, self.mixes, self.settings, self.console = folder, list(mixes), settings, console
        self._runs: dict[tuple[Path, str], tuple[Run, Path]] = {}

    @cached_property
    def models(self) -> list[str]:
        """The models to study, in the order in which the user named them: smallest first."""
        return split_names(self.settings.models) or [self.settings.model.model]

    @property
    def epochs(self) -> float | None:
        """The number of epochs over the noisy rows when learning; None for the filter's maximum."""
        return self.settings.sessions.epochs

    @cached_property
    def judge(self) -> Judge | None:
        """The model that judges answers to harmful prompts, if one was named and there are such prompts."""
        name, asks = self.settings.classifiers.judge, any(HARMFULNESS in mix.notions for mix in self.mixes)
        return load_judge(name, self.settings.model) if name and asks else None

    @cached_property
    def sets(self) -> list[list[Mix]]:
        """The noisy sets, each as the list of its draws: mixes that differ by seed alone."""
        sets: dict[tuple[Any, ...], list[Mix]] = {}
        for mix in self.mixes:
            sets.setdefault((mix.notions, mix.unsafe_share, recipe_of(mix)), []).append(mix)
        return list(sets.values())

    @property
    def draws(self) -> list[Mix]:
        """The draws of the first noisy set, for studies that use a single set."""
        return self.sets[0]

    def title(self, draws: Sequence[Mix]) -> str:
        """Name a noisy set, so that it differs from the others."""
        mix = draws[0]
        name = f"{'+'.join(mix.notions)} {mix.unsafe_share:.0%}"
        alike = [
            one[0] for one in self.sets if (one[0].notions, one[0].unsafe_share) == (mix.notions, mix.unsafe_share)
        ]
        if len(alike) > 1:
            name = f"{name}, {printable(mix.folder.resolve().name, 20)}"
        return name if len(draws) == 1 else f"{name}, {len(draws)} draws"

    @property
    def review_steps(self) -> int:
        """The number of optimizer steps of a review."""
        return self.settings.sessions.review_steps or REVIEW_STEPS

    def experiment(self, mix: Mix, **changes: Any) -> Experiment:
        """Open the experiment on a mix's `noisy` and `safe` rows with some settings changed."""
        return self.experiment_on(folder_name(mix), mix.noisy, mix.safe, **changes)

    def experiment_on(self, name: str, noisy: Path, safe: Path, **changes: Any) -> Experiment:
        """Open the experiment on other files of `noisy` and `safe` rows."""
        settings = with_options(self.settings, **changes)
        model, revision = settings.model.model, settings.model.revision
        folder = self.folder / EXPERIMENTS / name / ",".join([short_name(model), *_change_names(changes)])
        experiment = Experiment(folder, find_model(model, revision), settings, self.console)
        experiment.add(NOISY, noisy)
        experiment.add(SAFE, safe)
        return experiment

    def safe_of(self, experiment: Experiment, other: Mix) -> str:
        """Add another mix's safe rows to an experiment, and return their name."""
        name = f"safe-of-{folder_name(other)}"
        experiment.add(name, other.safe)
        return name

    def part_of_safe(self, experiment: Experiment, mix: Mix, share: float) -> str:
        """Add a share of a mix's safe rows, drawn from their ids, to an experiment, and return its name."""
        name = f"safe-{share:g}"
        ids = list(column_by_id(mix.safe, "id"))
        drawn = {ids[i] for i in in_random_order(ids, self.settings.training.seed)[: max(1, round(share * len(ids)))]}
        experiment.add(name, mix.safe, choose=drawn.__contains__)
        return name

    def kept(self, mix: Mix, **changes: Any) -> Path:
        """Filter a mix as a user would, and return the file of the kept rows."""
        return self._filtered(mix, changes)[1]

    def filtered_run(self, mix: Mix, **changes: Any) -> Run:
        """Filter a mix likewise, and return the run; `changes` may name rivals to score besides."""
        return self._filtered(mix, changes)[0]

    def _filtered(self, mix: Mix, changes: Mapping[str, Any]) -> tuple[Run, Path]:
        folder, settings = self._filter_folder(mix, changes), with_options(self.settings, **changes)
        # Opening a finished run would decide and write its report again.
        key = folder, settings.rivals.rivals
        if key not in self._runs:
            self._runs[key] = filtered(mix, settings, folder, self.console)
        return self._runs[key]

    def _filter_folder(self, mix: Mix, changes: Mapping[str, Any]) -> Path:
        # Rivals only add to a run.
        names = _change_names({name: value for name, value in changes.items() if name != "rivals"})
        name = ",".join([short_name(changes.get("model", self.settings.model.model)), *names])
        return self.folder / FILTERS / folder_name(mix) / name

    def draws_of(self, notion: str) -> list[Mix]:
        """Find the draws of the first noisy set with unsafe rows of a notion.

        Raises:
            SettingsError: There is no such set.
        """
        for draws in self.sets:
            if notion in draws[0].notions:
                return draws
        raise SettingsError(f"this study needs a mix of the notion {notion}")

    def evaluation(self, mix: Mix, **changes: Any) -> EvaluationSpec:
        """Specify the evaluation on a mix's held-out rows, with some settings changed."""
        settings = with_options(self.settings, **changes)
        label = "+".join(["asked", *changes])
        return EvaluationSpec(label, mix.held_out, settings, self.console, judge=self.judge)

    def evaluation_with_requests(self, mix: Mix) -> EvaluationSpec:
        """Specify the same evaluation with a request before each prompt (moral self-correction)."""
        return EvaluationSpec("requested", mix.held_out, self.settings, self.console, prepend_request, self.judge)

    def describe_filter(self, draws: Sequence[Mix]) -> str:
        """Say how many rows the filter removed."""
        rows, removed = 0, []
        for mix in draws:
            label, kept = column_by_id(mix.noisy, "label"), column_by_id(self.kept(mix), "id")
            rows += len(label)
            removed += [label[id] for id in label if id not in kept]
        return f"The filter removed {len(removed)} of {rows} rows, {removed.count(UNSAFE)} of them unsafe."

    def require_sets(self, least: int, why: str) -> list[list[Mix]]:
        """Return all noisy sets, and check that there are enough.

        Raises:
            SettingsError: There are fewer than the study needs.
        """
        if len(self.sets) < least:
            raise SettingsError(f"this study needs at least {least} mixes, {why}; {len(self.sets)} given")
        return self.sets


def _change_names(changes: Mapping[str, Any]) -> list[str]:
    return [f"{name}={short_name(value)}" for name, value in sorted(changes.items()) if name != "model"]


def folder_name(mix: Mix) -> str:
    """Name the folder for results on a mix; a hash of the rows tells mixes of the same name apart."""
    return f"{mix.folder.resolve().name[:40]}-{_digest(repr(sorted(mix.info['files'].items())))}"


def short_name(value: Any) -> str:
    """Format a value as part of a folder's name; a path becomes its last part and a hash of the whole."""
    text = str(value)
    if Path(text).name == text and len(text) <= _LONGEST_VALUE:
        return text.replace(",", "+")
    return f"{Path(text).name[:_LONGEST_VALUE].replace(',', '+')}-{_digest(text)}"


def _digest(text: str) -> str:
    return hash_chunks([text.encode()])[:6]


def column_by_id(path: Path, column: str) -> dict[str, str]:
    """Read a column of a mix's file, by the row's id."""
    return {row["id"]: str(row.get(column, "")) for row in read_jsonl(path)}


def groups_by_id(mix: Mix) -> dict[str, str]:
    """Assign each noisy row its group, by id: `unsafe`, `safe`, or the name of its task (paper, Figure 3)."""
    label, source = column_by_id(mix.noisy, "label"), column_by_id(mix.noisy, "source")
    return {id: printable(source[id], 40) if name == "task" else name for id, name in label.items()}


def align(values: dict[str, str], ids: Sequence[str]) -> NDArray[np.str_]:
    """Join values to rows by id, shape (n,)."""
    return np.array([values[id] for id in ids])
