"""Where studies work: noisy sets, settings, and labs that keep every session for whoever needs it next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from ...models.sources import find_model
from ...runs.layout import FILTERS, LABS
from ...runs.run import Run
from ...settings.groups import REVIEW_STEPS, StudySettings
from ...settings.option import split_names
from ..asking import Questions
from ..comparison.filters import filtered
from ..comparison.records import recipe_of
from ..lab import Lab
from ..mixing import Mix
from ..strategies.requests import asked_with_request
from ..strategies.strategy import NOISY, SAFE

_LONGEST_VALUE = 40
# Labels of a mix; a task row is of the group of its source.
UNSAFE, SAFE_LABEL = "unsafe", "safe"


class Room:
    """What a study works with.

    Attributes:
        folder: Where labs are kept.
        mixes: The noisy sets, with their safe and held-out rows.
        settings: How models are trained, scored and asked.
        console: Where to tell what goes on.
    """

    def __init__(self, folder: Path, mixes: Sequence[Mix], settings: StudySettings, console: Console) -> None:
        self.folder, self.mixes, self.settings, self.console = folder, list(mixes), settings, console
        self._runs: dict[tuple[Path, str], tuple[Run, Path]] = {}

    @cached_property
    def models(self) -> list[str]:
        """The models to study, the smallest first as the user named them."""
        return split_names(self.settings.models) or [self.settings.model]

    @property
    def epochs(self) -> float | None:
        """Passes over the noisy rows in a learning session; None as the filter has them at most."""
        return self.settings.epochs

    @cached_property
    def judge(self) -> Judge | None:
        """The model that judges answers to harmful prompts, where one was named."""
        return load_judge(self.settings.judge, self.settings) if self.settings.judge else None

    @cached_property
    def sets(self) -> list[list[Mix]]:
        """The noisy sets, each in all its draws: mixes that differ by seed alone."""
        found: dict[tuple[Any, ...], list[Mix]] = {}
        for mix in self.mixes:
            found.setdefault((mix.notions, mix.unsafe_share, recipe_of(mix)), []).append(mix)
        return list(found.values())

    @property
    def draws(self) -> list[Mix]:
        """The draws of the first noisy set, for a study that takes one."""
        return self.sets[0]

    def title(self, draws: Sequence[Mix]) -> str:
        """What to call a noisy set, apart from the others."""
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
        """Optimizer steps of a review."""
        return self.settings.review_steps or REVIEW_STEPS

    def lab(self, mix: Mix, **changes: Any) -> Lab:
        """A lab with a mix's `noisy` and `safe` rows and some settings changed; the same changes, the same lab."""
        return self.lab_of(place_of(mix), mix.noisy, mix.safe, **changes)

    def lab_of(self, name: str, noisy: Path, safe: Path, **changes: Any) -> Lab:
        """A lab with other files for its `noisy` and `safe` rows."""
        settings = replace(self.settings, **changes)
        folder = self.folder / LABS / name / ",".join([short(settings.model), *_told(changes)])
        lab = Lab(folder, find_model(settings.model, settings.revision), settings, self.console)
        lab.add(NOISY, noisy)
        lab.add(SAFE, safe)
        return lab

    def safe_of(self, lab: Lab, other: Mix) -> str:
        """The name of another mix's safe rows in a lab."""
        name = f"safe-of-{place_of(other)}"
        lab.add(name, other.safe)
        return name

    def part_of_safe(self, lab: Lab, mix: Mix, share: float) -> str:
        """The name of a share of a mix's safe rows in a lab, drawn from their ids."""
        name = f"safe-{share:g}"
        ids = labels(mix.safe, "id")
        drawn = {ids[i] for i in in_random_order(ids, self.settings.seed)[: max(1, round(share * len(ids)))]}
        lab.add(name, mix.safe, choose=drawn.__contains__)
        return name

    def kept(self, mix: Mix, **changes: Any) -> Path:
        """The rows of a mix that the filter keeps, as a user would run it."""
        return self._filtered(mix, changes)[1]

    def filtered_run(self, mix: Mix, **changes: Any) -> Run:
        """The run of that filter; `changes` may name rivals to ask beside it."""
        return self._filtered(mix, changes)[0]

    def _filtered(self, mix: Mix, changes: Mapping[str, Any]) -> tuple[Run, Path]:
        folder, settings = self._filter_folder(mix, changes), replace(self.settings, **changes)
        # A finished run that is opened again decides and writes its report again.
        if (folder, settings.rivals) not in self._runs:
            self._runs[folder, settings.rivals] = filtered(mix, settings, folder, self.console)
        return self._runs[folder, settings.rivals]

    def _filter_folder(self, mix: Mix, changes: Mapping[str, Any]) -> Path:
        # Rivals only add to a run.
        told = _told({name: value for name, value in changes.items() if name != "rivals"})
        name = ",".join([short(changes.get("model", self.settings.model)), *told])
        return self.folder / FILTERS / place_of(mix) / name

    def draws_of(self, notion: str) -> list[Mix]:
        """The draws of the first noisy set with unsafe rows of a notion.

        Raises:
            SettingsError: There is none.
        """
        for draws in self.sets:
            if notion in draws[0].notions:
                return draws
        raise SettingsError(f"this study needs a mix of the notion {notion}")

    def questions(self, mix: Mix, **changes: Any) -> Questions:
        """A mix's held-out rows, as they are asked."""
        settings = replace(self.settings, **changes)
        way = "+".join(["asked", *changes])
        return Questions(way, mix.held_out, settings, self.console, judging=self.judge)

    def requested(self, mix: Mix) -> Questions:
        """The same with a request before each prompt (moral self-correction)."""
        return Questions("requested", mix.held_out, self.settings, self.console, asked_with_request, self.judge)

    def told_of_filter(self, draws: Sequence[Mix]) -> str:
        """How much the filter took away, in words."""
        rows, gone = 0, []
        for mix in draws:
            label, left = labels(mix.noisy, "label"), labels(self.kept(mix), "id")
            rows += len(label)
            gone += [label[id] for id in label if id not in left]
        return f"The filter removed {len(gone)} of {rows} rows, {gone.count(UNSAFE)} of them unsafe."

    def several_sets(self, least: int, why: str) -> list[list[Mix]]:
        """All noisy sets, each in all its draws.

        Raises:
            SettingsError: There are fewer than the study needs.
        """
        if len(self.sets) < least:
            raise SettingsError(f"this study needs at least {least} mixes, {why}; {len(self.sets)} given")
        return self.sets


def _told(changes: Mapping[str, Any]) -> list[str]:
    return [f"{name}={short(value)}" for name, value in sorted(changes.items()) if name != "model"]


def place_of(mix: Mix) -> str:
    """The folder of what is made of a mix: its name, and a hash of its rows, as another may have the same name."""
    return f"{mix.folder.resolve().name[:40]}-{_digest(repr(sorted(mix.info['files'].items())))}"


def short(value: Any) -> str:
    """A value as part of a folder's name; of a path its last part and a hash of it all."""
    text = str(value)
    if Path(text).name == text and len(text) <= _LONGEST_VALUE:
        return text.replace(",", "+")
    return f"{Path(text).name[:_LONGEST_VALUE].replace(',', '+')}-{_digest(text)}"


def _digest(text: str) -> str:
    return hash_chunks([text.encode()])[:6]


def labels(path: Path, column: str) -> dict[str, str]:
    """A column of a mix's file, by the row's id."""
    return {row["id"]: str(row.get(column, "")) for row in read_jsonl(path)}


def group_of(mix: Mix) -> dict[str, str]:
    """Of each noisy row: `unsafe`, `safe`, or which task it is, by its id (paper, Figure 3)."""
    label, source = labels(mix.noisy, "label"), labels(mix.noisy, "source")
    return {id: printable(source[id], 40) if name == "task" else name for id, name in label.items()}


def in_order(values: dict[str, str], ids: Sequence[str]) -> NDArray[np.str_]:
    """What rows have, joined by id, shape (n,)."""
    return np.array([values[id] for id in ids])
