"""Offer the filter in Python, with the same run folder as the command line and results as `datasets.Dataset`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .boundary import refusals_explained
from .console import Console, count_of, printable, table
from .data.containers import from_memory
from .data.records import Container
from .data.splits import DEFAULT
from .errors import InputError, RunError, SettingsError
from .runs.damage import damage_named
from .runs.layout import SCORES, SUMMARY
from .runs.run import Run, decide_command
from .settings.groups import ApplySettings, DecisionSettings, Settings
from .settings.option import (
    NONE,
    default_of,
    from_mapping,
    keyword_parameters,
    options_of,
    settings_help,
    values_of,
    with_options,
)
from .settings.run_folder import TrackingSettings

if TYPE_CHECKING:
    import datasets

    from .applying.apply import Applied
    from .decision.decide import Summary

    # A path, a hub id, or anything that `data.containers.from_memory` accepts. Tables of other packages offer Arrow's
    # interface.
    class ArrowTable(Protocol):
        def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

    DataSets: TypeAlias = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset
    Rows: TypeAlias = Iterable[Mapping[str, Any]] | Mapping[str, Any] | ArrowTable
    RowSource: TypeAlias = str | os.PathLike[str] | DataSets | Rows


# The kept rows in another form, beside "kept" and "removed".
_CONVERSATIONS = "conversations"


class FilterResult:
    """The result in a run folder, as last decided.

    It always shows the present decision: after `decide`, here or on the command line, `summary`, `kept`, `removed` and
    `scores` are those of the new one. Data sets that were read before do not change.

    Example:
        >>> FilterResult("run").decide("top:10%").kept

    Args:
        path: The run folder.

    Attributes:
        path: The run folder.

    Raises:
        RunError: There is no run; or, when its results are read, nothing has been decided in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _path(path, "path").absolute()
        self._run = Run.open(self.path)
        self._seen: tuple[int, ...] = ()
        self._summary: Summary | None = None
        self._loaded: dict[str, datasets.Dataset] = {}

    @property
    def summary(self) -> Summary:
        """Counts, threshold, and the names of the files."""
        from .decision.decide import read_summary

        seen = _stamp(self.path / SUMMARY)
        if not seen:
            # The folder may have been deleted or moved.
            Run.open(self.path)
        if self._summary is None or seen != self._seen:
            self._summary, self._loaded, self._seen = read_summary(self._run), {}, seen
        return self._summary

    @property
    def kept(self) -> datasets.Dataset:
        """The kept rows, with all of their fields, in the order of the input."""
        return self._load("kept")

    @property
    def kept_conversations(self) -> datasets.Dataset:
        """The kept rows as trainers take them, whatever their columns: `prompt` and `completion`, lists of messages.

        They are as the filter read them: in the order of the input, without other columns; of preferences, the chosen
        side. Plain texts have the column `text` instead.

        Example:
            >>> SFTTrainer(model_path("smollm2-135m"), train_dataset=result.kept_conversations)
        """
        return self._load(_CONVERSATIONS)

    @property
    def removed(self) -> datasets.Dataset:
        """The removed rows, with all of their fields, in the order of the input."""
        return self._load("removed")

    @property
    def scores(self) -> datasets.Dataset:
        """One line per row: `id`, `row`, `learned`, `reviewed`, `forgetting`, `decision`, `reason` and more."""
        return self._load(SCORES)

    def _load(self, name: str) -> datasets.Dataset:
        """Load the scores, or rows by role, of the present decision; each is read once."""
        while True:
            summary = self.summary
            if name not in self._loaded:
                with damage_named(self.path):
                    self._loaded[name] = self._read(name, summary)
            # Another process may have decided again in the meantime.
            if self.summary is summary:
                return self._loaded[name]

    def _read(self, name: str, summary: Summary) -> datasets.Dataset:
        if name == SCORES:
            return self._scores()
        return self._conversations(summary) if name == _CONVERSATIONS else self._rows(name, summary)

    def _scores(self) -> datasets.Dataset:
        import datasets

        return datasets.Dataset(self._read_scores())

    def _read_scores(self, *columns: str) -> pa.Table:
        path = self._run.file(SCORES)
        try:
            return pq.read_table(path, columns=list(columns) or None, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            again = decide_command(self.path, {})
            raise RunError(f"{path}: is damaged; decide again, which writes it anew: {again}") from error

    def _rows(self, role: str, summary: Summary) -> datasets.Dataset:
        """Load the rows of the kept or the removed file; those of several files one after the other."""
        from .data.rows import Rows as Snapshot
        from .runs.layout import DATA, ROWS
        from .stages.final_model import kept_rows

        scored = self._read_scores("row").column("row").to_numpy()
        positions = kept_rows(self._run, summary)
        if role == "removed":
            positions = np.setdiff1d(scored, positions)
        rows = Snapshot.open(self._run.folder(ROWS) / DATA)
        return rows.load(self._run.file(summary.files[role]), positions.tolist())

    def _conversations(self, summary: Summary) -> datasets.Dataset:
        from .data.conversational import as_conversations
        from .data.rows import Rows as Snapshot
        from .runs.layout import DATA, ROWS
        from .stages.final_model import kept_rows

        kept = set(kept_rows(self._run, summary).tolist())
        rows = Snapshot.open(self._run.folder(ROWS) / DATA)
        if not kept:
            # For the columns, which no conversations would not have.
            return as_conversations((chat for _, _, chat in islice(rows.usable(), 1)), rows.name).select([])
        return as_conversations((chat for _, row, chat in rows.usable() if row in kept), rows.name)

    def decide(
        self,
        threshold: str | float | None = None,
        *,
        overrides: str | os.PathLike[str] | None = None,
        known_unsafe: RowSource | None = None,
        **settings: Any,
    ) -> FilterResult:
        """Decide again, with another threshold, `signal` or `drop_unscorable`; only `known_unsafe` needs the model.

        The files in the run folder are replaced, and this result shows them. Settings that are not given stay as they
        were in the last decision, or as they were saved with the overrides.

        Args:
            threshold: A number, `top:10%`, `fdr:5%` or `auto`.
            overrides: A file of a person's decisions, as the report saves it. They stay in later decisions until others
                are given, or `"none"`.
            known_unsafe: Rows known to be unsafe that were found since, in any form that `ForgetFilter.run` accepts.
                They stay evidence in later decisions until others are given, or `"none"`.
            **settings: `signal` and `drop_unscorable`.

        Returns:
            This result.

        Raises:
            InputError: The overrides or the known unsafe rows cannot be read.
            SettingsError: The threshold or a setting is invalid, or the signal makes no use of known unsafe rows.
            RunError: The run has no scores for the signal, or the last decision's overrides were changed or lost.
            ModelError: The model, which known unsafe rows need, cannot be found.
        """
        from .decision.overrides import given_overrides
        from .pipeline import run_decide
        from .runs.layout import KNOWN_UNSAFE

        given = overrides if overrides is None or overrides == NONE else _path(overrides, "overrides")
        person = given_overrides(given)
        all_settings = {"threshold": threshold, **settings}
        changed = {name: value for name, value in all_settings.items() if value is not None}
        console, known = Console(quiet=True), known_unsafe
        if isinstance(known, (str, os.PathLike)):
            known = os.fspath(known)
        elif known is not None:
            known = _take_in(known, _name(known, KNOWN_UNSAFE), DEFAULT, console)
        with refusals_explained(self.path):
            run_decide(self.path, changed, console, overrides=person, known_unsafe=known)
        return self

    def push_to_hub(
        self,
        name: str,
        *,
        removed: bool = False,
        model: Literal["adapter", "merged"] | None = None,
        private: bool = False,
    ) -> list[str]:
        """Push the kept rows to the hub, with a card that says what was removed, how, and with what error.

        Args:
            name: Name on the hub, as `user/name`. What is not there yet is created; rows of an earlier push to it are
                replaced.
            removed: Also push the removed rows, as a second config.
            model: Also push the model that was fine-tuned on the kept rows: the `"adapter"`, which is the whole model
                after full fine-tuning, or the adapter `"merged"` into its base.
            private: Whether what is created is private.

        Returns:
            The URLs of the data set and of the model.

        Raises:
            HubError: The hub cannot be reached, or refuses.
            RunError: There is no model of this decision.
        """
        from .publishing.hub import push

        if not isinstance(name, str):
            raise InputError(f"name: expected user/name, found {repr(name)[:60]}")
        if model not in (None, "adapter", "merged"):
            raise SettingsError(f"model: expected 'adapter', 'merged' or None, found {repr(model)[:60]}")
        with refusals_explained(self.path):
            return push(self._run, name, Console(quiet=True), removed=removed, model=model, private=private)

    def __repr__(self) -> str:
        where = f"FilterResult({printable(str(self.path))!r})"
        try:
            summary = self.summary
        except RunError:
            return f"{where}: nothing is decided here"
        cut = "nothing is removed" if summary.cut is None else f"{summary.cut:.3g} {summary.unit}"
        names = ("kept", "removed", *(["bad"] if summary.bad else []))
        rows = [(name, f"{getattr(summary, name):,}", summary.files[name]) for name in names]
        return "\n".join([
            f"{where}: {count_of(summary.rows, 'row')}, signal {summary.signal}, "
            f"threshold {summary.threshold} → {cut}",
            table(("", "rows", "file"), rows),
        ])  # fmt: skip


class ForgetFilter:
    """Filters untrusted fine-tuning data by what a safety review makes the model forget.

    Example:
        >>> result = ForgetFilter(model="smollm2-135m").run("noisy.jsonl", "safe.jsonl")
        >>> result.kept, result.removed, result.scores

    The settings are those of the command line, with underscores. They can be read as attributes, and cannot be changed.

    A loaded model is not changed: a copy of it, as large as its weights, is written into the cache
    (`FORGETFILTER_CACHE`, or `~/.cache/forgetfilter`), once for the same weights. A killed run goes on with the same
    model; delete the folder `loaded` in the cache when no run needs it any more.

    Args:
        model: The aligned model: a hub id, a folder, a GGUF file, `smollm2-135m`, or a model loaded by transformers or
            peft.
        tokenizer: The tokenizer of a loaded model.
        quiet: Show no progress.
        **settings: See below.

    Raises:
        SettingsError: A setting is unknown or out of range.
        ModelError: A loaded model is of an unsupported kind.
    """

    settings: Settings

    def __init__(self, model: Any = "", *, tokenizer: Any = None, quiet: bool = False, **settings: Any) -> None:
        named = isinstance(model, (str, os.PathLike)) or model is None
        # Settings are read first, because a mistyped `model` is reported among them.
        name = os.fspath(model or "") if named else f"<{type(model).__name__} in memory>"
        parsed = from_mapping(Settings, {"model": name, **settings}, "ForgetFilter")
        if not named:
            from .models.from_memory import check_handed_over

            check_handed_over(model, tokenizer)
        elif tokenizer is not None:
            raise SettingsError("tokenizer: goes with a loaded model; a model that is named brings its own")
        elif not name:
            raise SettingsError("model: no model was named; pass a hub id, a folder, a GGUF file, or smollm2-135m")
        vars(self).update(settings=parsed, _quiet=quiet, _loaded=None if named else (model, tokenizer))

    def __getattr__(self, name: str) -> Any:
        if name in options_of(Settings):
            return values_of(self.settings)[name]
        raise AttributeError(f"'ForgetFilter' has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings hold once they are made; make another: ForgetFilter(..., {name}={value!r})")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *options_of(Settings)})

    def __repr__(self) -> str:
        options, values = options_of(Settings), values_of(self.settings)
        set_here = {name: value for name, value in values.items() if value != default_of(options[name])}
        ordered = {"model": set_here.pop("model", "")} | set_here
        return f"ForgetFilter({', '.join(f'{name}={value!r}' for name, value in ordered.items())})"

    def run(
        self,
        noisy: RowSource | Sequence[str | os.PathLike[str]] | None = None,
        safe: RowSource | Sequence[RowSource] | None = None,
        *,
        trusted: RowSource | None = None,
        known_unsafe: RowSource | None = None,
        output: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        report_to: str | Sequence[str] = "",
    ) -> FilterResult:
        """Filter a data set.

        Args:
            noisy: The untrusted data: a file, folder, glob or hub data set, or a list of these; or rows in memory: a
                data set of `datasets`, a table of pandas, polars or Arrow, a dict of columns, or dicts, one per row.
                None stands for the setting `data`.
            safe: Safe examples for the review, likewise; or `"builtin"`, or `"self"`. A list of these is several sets,
                each with a review of its own. None stands for the setting `safe`.
            trusted: Rows known to be harmless, likewise; they are learned along with the data to estimate a threshold's
                errors.
            known_unsafe: Rows known to be unsafe, likewise.
            output: The run folder; a run there goes on where it stopped. A new temporary folder if None.
            overwrite: Start again even if the folder holds a run.
            report_to: Names of experiment trackers, such as `tensorboard`, to report steps and result to.

        Raises:
            ForgetFilterError: Inputs, settings or the folder do not allow the run; the message says what to do.
        """
        from .data.memory import TAKEN
        from .pipeline import run_filter
        from .runs.inputs import find_inputs
        from .runs.layout import DATA, KNOWN_UNSAFE, SAFE, TRUSTED, numbered
        from .tracking import Trackers

        console = Console(quiet=self._quiet)
        safe_sets = dict(zip(numbered(SAFE, sets), sets, strict=True)) if (sets := _sets(safe)) else {SAFE: safe}
        sources = {DATA: noisy, **safe_sets, TRUSTED: trusted, KNOWN_UNSAFE: known_unsafe}
        given_sources = {part: source for part, source in sources.items() if source is not None}
        names: dict[str, Any] = {
            part.replace("-", "_"): _name(given_sources[part], part)
            for part in (TRUSTED, KNOWN_UNSAFE)
            if part in given_sources
        }
        if noisy is not None:
            names["data"] = _names(noisy, DATA)
        if safe is not None:
            names["safe"] = tuple(_name(source, part) for part, source in safe_sets.items())
        settings = with_options(self.settings, **names)
        for argument, named, source in (("noisy", settings.data.data, noisy), ("safe", settings.safe.safe, safe)):
            if not named or "" in named:
                raise InputError(f"{argument}: found {source!r}; {TAKEN}")
        splits = {DATA: settings.data.split, **dict.fromkeys(safe_sets, settings.safe.safe_split)}
        memory = {
            part: _take_in(source, _name(source, part), splits.get(part, DEFAULT), console)
            for part, source in given_sources.items()
            if not isinstance(source, (str, os.PathLike)) and not (part == DATA and _are_paths(source))
        }
        if self._loaded is not None:
            from .models.from_memory import keep_handed_over

            copied = keep_handed_over(*self._loaded)
            console.say(f"the loaded model is read from its copy in {copied}")
            settings = with_options(settings, model=str(copied))
        inputs = find_inputs(settings, memory)
        folder = Path(tempfile.mkdtemp(prefix="forgetfilter-")) if output is None else _path(output, "output")
        tracking = from_mapping(TrackingSettings, {"report_to": report_to}, "run")
        trackers = Trackers(tracking.report_to, folder, settings, console)
        with refusals_explained(folder):
            run, summary = run_filter(settings, inputs, folder, console, overwrite=overwrite)
        trackers.report_summary(summary)
        return FilterResult(run.path)


class AppliedResult:
    """The further rows that a run was applied to, as they lie in a folder.

    Args:
        path: The folder that `apply` or `forgetfilter apply` wrote.

    Attributes:
        path: The folder.
        summary: Counts, the cut, how well the scores agree with the run, and the names of the files.

    Raises:
        RunError: Nothing was applied there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from .applying.apply import read_applied

        self.path = _path(path, "path").absolute()
        self.summary: Applied = read_applied(self.path)

    @property
    def kept(self) -> datasets.Dataset:
        """The kept rows, with all of their fields, in the order of the input."""
        return self._rows("kept")

    @property
    def removed(self) -> datasets.Dataset:
        """The removed rows, with all of their fields, in the order of the input."""
        return self._rows("removed")

    @property
    def scores(self) -> datasets.Dataset:
        """One line per row: `id`, `row`, `suspicion`, `most_suspicious`, `decision` and `reason`."""
        import datasets

        return datasets.Dataset(pq.read_table(self.path / SCORES, memory_map=True))

    def _rows(self, role: str) -> datasets.Dataset:
        from .applying.apply import applied_rows

        return applied_rows(self.path, self.summary, role)

    def __repr__(self) -> str:
        from .applying.apply import applied_table

        return f"AppliedResult({printable(str(self.path))!r}){applied_table(self.path, self.summary)}"


def apply(
    run: str | os.PathLike[str],
    data: RowSource | Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> AppliedResult:
    """Divide further rows into kept and removed ones by what a run has learned; nothing is trained.

    Example:
        >>> forgetfilter.apply("run", "next-week.jsonl").kept

    Args:
        run: The folder of a run that was decided by suspicion.
        data: The rows, in any form that `ForgetFilter.run` accepts.
        output: Where the rows go; a new temporary folder if None.
        quiet: Show no progress.
        **settings: Those of `forgetfilter apply`, with underscores: `evidence`, `threshold`, `layout` and more.

    Raises:
        ForgetFilterError: The run, the rows, settings or the folder do not allow it; the message says what to do.
    """
    from .applying.apply import apply_run
    from .runs.layout import DATA

    console = Console(quiet=quiet)
    parsed = from_mapping(ApplySettings, {"data": _names(data, DATA), **settings}, "apply")
    in_memory = not isinstance(data, (str, os.PathLike)) and not _are_paths(data)
    source = _take_in(data, _name(data, DATA), parsed.data.split, console) if in_memory else None
    folder = Path(tempfile.mkdtemp(prefix="forgetfilter-")) if output is None else _path(output, "output")
    with refusals_explained(folder):
        apply_run(_path(run, "run"), parsed, folder, console, source)
    return AppliedResult(folder)


def model_path(model: str | os.PathLike[str]) -> str:
    """Return what transformers and TRL load for a model that this package has another name for.

    `smollm2-135m` and GGUF files are converted once, with tokenizer and chat template, into a folder of the cache
    (`FORGETFILTER_CACHE`, or `~/.cache/forgetfilter`). A folder or hub id is returned as it is.

    Example:
        >>> AutoModelForCausalLM.from_pretrained(model_path("smollm2-135m"))

    Args:
        model: A hub id, a folder, a GGUF file, or `smollm2-135m`.

    Raises:
        ModelError: There is no such model, it cannot be converted, or it is an adapter.
    """
    from .models.loading import pretrained_path
    from .models.sources import find_model

    if not isinstance(model, (str, os.PathLike)):
        raise InputError(f"model: expected a name or a path, found {repr(model)[:60]}")
    return pretrained_path(find_model(os.fspath(model)))


def _take_in(source: Any, name: str, split: str, console: Console) -> Container:
    # A source without a length may take long, or never end.
    streamed = not hasattr(source, "__len__") and not hasattr(source, "__arrow_c_stream__")
    with console.progress(f"taking in {name}", 0, "rows") if streamed else nullcontext() as progress:
        return from_memory(source, name, split, progress.advance if progress else lambda: None)


def _path(value: Any, name: str) -> Path:
    """Convert the value of the argument `name` to a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name}: expected a path, found {repr(value)[:60]}")
    return Path(value)


def _are_paths(source: Any) -> bool:
    return (
        isinstance(source, (list, tuple))
        and bool(source)
        and all(isinstance(one, (str, os.PathLike)) for one in source)
    )


def _sets(source: Any) -> list[Any]:
    """Return the data sets in a list of several, such as paths; empty for a single one, such as a list of rows."""
    several = isinstance(source, (list, tuple)) and not any(isinstance(one, Mapping) for one in source)
    return list(source) if several else []


def _names(source: Any, role: str) -> tuple[str, ...]:
    return tuple(map(os.fspath, source)) if _are_paths(source) else (_name(source, role),)


def _name(source: Any, role: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"<{role} in memory>"


def _stamp(path: Path) -> tuple[int, ...]:
    """Return values that change when a file is written anew; empty where it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _describe() -> None:
    """Make signatures, help and completion show every setting, though each is declared in `settings` alone."""
    import inspect

    parameters = inspect.signature(ForgetFilter.__init__).parameters
    own = [parameters["model"].replace(default=inspect.Parameter.empty), parameters["tokenizer"], parameters["quiet"]]
    options = [one for one in keyword_parameters(Settings) if one.name != "model"]
    ForgetFilter.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    ForgetFilter.__doc__ = f"{ForgetFilter.__doc__}\nSettings:\n{settings_help(Settings)}"
    decide = inspect.signature(FilterResult.decide)
    decide_parameters = [one for one in decide.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    decide_parameters += [one for one in keyword_parameters(DecisionSettings, optional=True) if one.name != "threshold"]
    apply_parameters = list(inspect.signature(apply).parameters.values())[:-1]
    apply_parameters += [one for one in keyword_parameters(ApplySettings) if one.name != "data"]
    apply.__signature__ = inspect.Signature(apply_parameters)  # type: ignore[attr-defined]
    FilterResult.decide.__signature__ = decide.replace(parameters=decide_parameters)  # type: ignore[attr-defined]


_describe()
