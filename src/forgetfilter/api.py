"""The filter in Python: the same run folder as from the command line, and results as `datasets.Dataset`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq

from .console import Console
from .data.containers import from_memory
from .data.rows import Rows
from .data.splits import DEFAULT
from .inputs import DATA, KNOWN_UNSAFE, ROWS, SAFE, TRUSTED, find_inputs
from .options import from_mapping
from .run import SCORES, Run
from .settings import Settings

if TYPE_CHECKING:
    import datasets

    from .decision import Summary

    RowSource: TypeAlias = str | Path | datasets.Dataset | datasets.DatasetDict | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class FilterResult:
    """What a run decided, read from its folder when asked for.

    Attributes:
        path: The run folder.
        summary: Counts, threshold, and the names of the files.
    """

    path: Path
    summary: Summary

    @cached_property
    def kept(self) -> datasets.Dataset:
        """The kept rows, with all of their fields, in the order of the input."""
        return self._load("kept")

    @cached_property
    def removed(self) -> datasets.Dataset:
        """The removed rows, with all of their fields, in the order of the input."""
        return self._load("removed")

    @cached_property
    def scores(self) -> datasets.Dataset:
        """One line a row: `id`, `row`, `learned`, `reviewed`, `forgetting`, `decision`, `reason` and more."""
        import datasets

        return datasets.Dataset(pq.read_table(self.path / SCORES, memory_map=True))

    def _load(self, role: str) -> datasets.Dataset:
        """The rows of the kept or the removed file; those of several files one after the other."""
        from .final_model import kept_rows

        positions = kept_rows(self.path, self.summary)
        if role == "removed":
            scored = pq.read_table(self.path / SCORES, columns=["row"]).column("row").to_numpy()
            positions = np.setdiff1d(scored, positions)
        rows = Rows.open(Run.open(self.path).folder(ROWS) / DATA)
        return rows.load(self.path / self.summary.files[role], positions.tolist())

    def decide(self, threshold: str | float, *, overrides: str | Path | None = None, **settings: Any) -> FilterResult:
        """Decide again with another threshold (or `signal`, `drop_unscorable`); takes no model.

        The files in the run folder are replaced. `overrides` names a file of a person's decisions, which the
        report saves.

        Raises:
            InputError: The overrides cannot be read.
            SettingsError: The threshold or a setting cannot be read.
            RunError: The run has no scores for the signal.
        """
        from .overrides import read_overrides
        from .pipeline import run_decide

        person = read_overrides(Path(overrides)) if overrides is not None else None
        changed = {"threshold": str(threshold), **settings}
        _, summary = run_decide(self.path, changed, Console(quiet=True), overrides=person)
        return FilterResult(self.path, summary)


class ForgetFilter:
    """Filters untrusted fine-tuning data by what a safety review makes the model forget.

    Example:
        >>> result = ForgetFilter(model="smollm2-135m").run("noisy.jsonl", "safe.jsonl")
        >>> result.kept, result.removed, result.scores

    Args:
        model: The aligned model: a hub id, a folder, a GGUF file, or `smollm2-135m`.
        quiet: Show no progress.
        **settings: Any setting of the command line, with underscores: `threshold="top:10%"`, `epochs=3`.

    Raises:
        SettingsError: A setting is unknown or out of range.
    """

    def __init__(self, model: str, *, quiet: bool = False, **settings: Any) -> None:
        self.settings = from_mapping(Settings, {"model": model, **settings}, "ForgetFilter")
        self._console = Console(quiet=quiet)

    def run(
        self,
        noisy: RowSource | Sequence[str | Path],
        safe: RowSource,
        *,
        trusted: RowSource | None = None,
        known_unsafe: RowSource | None = None,
        output: str | Path | None = None,
        overwrite: bool = False,
    ) -> FilterResult:
        """Filter a data set.

        Args:
            noisy: The untrusted data: a file, folder, glob or hub data set, a list of such, or rows in memory.
            safe: Safe examples for the review, likewise; or `"builtin"`, or `"self"`.
            trusted: Rows known to be harmless, likewise; learned along with the data, they tell a threshold's errors.
            known_unsafe: Rows known to be unsafe, likewise.
            output: The run folder; a run there goes on where it stopped. A new temporary folder if None.
            overwrite: Start again even if the folder holds a run.

        Raises:
            ForgetFilterError: Inputs, settings or the folder do not allow it; the message says what to do.
        """
        from .pipeline import run_filter

        sources = {DATA: noisy, SAFE: safe, TRUSTED: trusted, KNOWN_UNSAFE: known_unsafe}
        given = {part: source for part, source in sources.items() if source is not None}
        names: dict[str, Any] = {
            part.replace("-", "_"): _name(source, part) for part, source in given.items() if part != DATA
        }
        settings = replace(self.settings, **names, data=_names(noisy))
        splits = {DATA: settings.split, SAFE: settings.safe_split}
        memory = {
            part: from_memory(source, _name(source, part), splits.get(part, DEFAULT))
            for part, source in given.items()
            if not isinstance(source, (str, Path)) and not (part == DATA and _are_paths(source))
        }
        inputs = find_inputs(settings, memory)
        folder = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="forgetfilter-"))
        run, summary = run_filter(settings, inputs, folder, self._console, overwrite=overwrite)
        return FilterResult(run.path, summary)


def _are_paths(source: Any) -> bool:
    return isinstance(source, (list, tuple)) and bool(source) and all(isinstance(one, (str, Path)) for one in source)


def _names(source: Any) -> tuple[str, ...]:
    return tuple(map(str, source)) if _are_paths(source) else (_name(source, "data"),)


def _name(source: Any, role: str) -> str:
    return str(source) if isinstance(source, (str, Path)) else f"<{role} in memory>"
