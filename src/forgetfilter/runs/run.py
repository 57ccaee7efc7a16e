"""A run folder: finished stages, resolved settings, and what the run was made from.

A stage is a folder. It is written beside its place, flushed to disk and renamed, so that a folder which
is there is whole, whenever the process was killed.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..forgetting.signals import LIKELIHOOD, RIVALS, SIGNALS, SUSPICION
from ..settings.groups import Settings
from ..settings.option import from_mapping, read_config, values_of, with_options, write_config
from .files import commit, folder_lock, read_json, remove, written_whole
from .layout import CONFIG, HISTORY, LOCK, MANIFEST, MODEL, POINTS, PREVIOUS, ROWS, STAGES, SUMMARY, TOKENS, UNFINISHED
from .manifest import Manifest, is_run, refuse_others

# Settings that say where something lies, or that only add to a run. What lies there is compared by content.
_NOT_COMPARED = {
    *("data", "split", "safe", "safe_split", "trusted", "known_unsafe", "model", "revision"),
    *("finetune", "finetune_epochs", "rivals", "judge", "toxicity_classifier", "training", "examples"),
    # It changes speed and memory alone.
    "tokens_per_batch",
}
_DECIDED = ("threshold", "signal", "drop_unscorable")
# Stages that are done again in moments.
_QUICK = (ROWS, TOKENS)


class Stages:
    """The finished stages of a folder, and the way to finish another.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return self.folder(stage).is_dir()

    def folder(self, stage: str) -> Path:
        """Where a finished stage lies; the final model stands beside the other results."""
        return self.path / MODEL if stage == MODEL else self.path / STAGES / stage

    def partial(self, stage: str) -> Path:
        """A folder to write an unfinished stage into; what an earlier, killed attempt left is still there."""
        partial = self._unfinished(stage)
        partial.mkdir(parents=True, exist_ok=True)
        for left in partial.rglob(f"*{UNFINISHED}"):
            remove(left)
        return partial

    def _unfinished(self, stage: str) -> Path:
        return self.folder(stage).with_name(f"{stage}{UNFINISHED}")

    def finish(self, stage: str) -> None:
        """Put a stage that was written whole in its place."""
        commit(self._unfinished(stage), self.folder(stage))

    def drop(self, stage: str) -> None:
        """Delete a stage, finished or not, that nothing needs any more."""
        remove(self.folder(stage))
        remove(self._unfinished(stage))

    @contextmanager
    def restoring(self, stage: str) -> Iterator[None]:
        """Put a finished stage, or that there is none, back as it was where what is done meanwhile fails."""
        before = self.folder(stage).with_name(f"{stage}.before")
        remove(before)
        if self.has(stage):
            shutil.copytree(self.folder(stage), before)
        try:
            yield
        except BaseException:
            self.drop(stage)
            if before.is_dir():
                before.rename(self.folder(stage))
            raise
        remove(before)

    def write_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Write one file of the folder: whole, or not at all."""
        with written_whole(self.path / name) as beside:
            write(beside)

    def history(self, stage: str) -> list[dict[str, Any]]:
        """The optimizer steps of a session, as `models.training.Step` has them; none where it is not finished."""
        steps: list[dict[str, Any]] = read_json(self.folder(stage) / HISTORY, [])
        return steps


class Run(Stages):
    """One run folder, held by one process at a time.

    Attributes:
        settings: The settings that the run was started with.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(path)
        self.settings = settings

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run that is there already.

        Raises:
            RunError: There is none.
        """
        if Manifest.find(path / MANIFEST) is None or not (path / CONFIG).is_file():
            raise RunError(f"{path}: not a run folder; expected one that 'forgetfilter filter' wrote")
        return cls(path, from_mapping(Settings, read_config(path / CONFIG), str(path / CONFIG)))

    @classmethod
    def start(cls, path: Path, settings: Settings, fingerprints: Mapping[str, str]) -> Run:
        """Create the run, or open it where it was made from the same inputs and settings.

        Raises:
            RunError: The folder holds work of a run with other inputs or settings; names what differs.
        """
        path = path.absolute()
        manifest = Manifest.now(fingerprints, _compared(settings))
        if (path / MANIFEST).is_file():
            earlier = Manifest.read(path / MANIFEST)
            if _holds_work(path) and _began_with_whole_answers(earlier.settings, settings):
                # What was learned was learned so; to look for frames now would be to start again.
                settings = with_options(settings, own_words="")
                as_it_was = {"own_words": earlier.settings.get("own_words")}
                manifest = replace(manifest, settings={**manifest.settings, **as_it_was})
            if _lacks_evidence_alone(earlier.settings, settings):
                # What was trained is what all evidence together needs of it; the rest is added.
                earlier = replace(earlier, settings={**earlier.settings, "signal": settings.decision.signal})
            differences = earlier.differences(manifest)
            if differences and _holds_work(path):
                raise RunError(_refusal(path, differences, earlier.settings, settings))
            if differences:
                # Nothing was trained yet, for instance because the data was refused: there is nothing to lose.
                _clear(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, settings)
        manifest.write(path / MANIFEST)
        run.write_file(CONFIG, lambda file: write_config(file, settings))
        return run

    def check(self, fingerprints: Mapping[str, str]) -> None:
        """Refuse to go on with a model, tokenizer or template that the run was not made with.

        Raises:
            RunError: One of them has changed.
        """
        made_from = Manifest.read(self.path / MANIFEST).fingerprints
        changed = [name for name, value in fingerprints.items() if made_from.get(name) != value]
        if changed:
            raise RunError(f"{self.path}: {', '.join(changed)} changed since this run was made; start a new one")

    def fingerprint(self, part: str) -> str:
        """Of an input that the run was made from."""
        return str(Manifest.read(self.path / MANIFEST).fingerprints.get(part, ""))

    def points(self, stage: str) -> dict[str, Any]:
        """Read what `RankingProbe` measured along a session: `rows`, and by step `mean_logprob`; empty if nothing."""
        points: dict[str, Any] = read_json(self.folder(stage) / POINTS, {})
        return points


def last_decision(path: Path) -> dict[str, Any]:
    """The decision settings that the files in a run folder were last decided with, by name; empty where none were."""
    try:
        values = read_json(path / SUMMARY)
    except (OSError, ValueError):
        # Deciding was cut short, or somebody changed the file: the next decision writes it anew.
        return {}
    return {name: values[name] for name in _DECIDED if name in values} if isinstance(values, dict) else {}


def decide_command(path: Path, settings: Mapping[str, Any], overrides: Path | None = None) -> str:
    """The command that decides about a run again, for a shell.

    Args:
        path: The run folder.
        settings: Decision settings that it names; the others stay as they were last decided.
        overrides: A file of a person's decisions.
    """
    words = ["forgetfilter decide", shlex.quote(str(path)), *_as_options(settings)]
    if overrides is not None:
        words.append(f"--overrides {shlex.quote(str(overrides))}")
    return " ".join(words)


def _as_options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in _DECIDED:
        value, flag = settings.get(name), name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{flag}"
        elif value is not None:
            # A threshold below zero would be taken for an option.
            yield f"--{flag}{'=' if str(value).startswith('-') else ' '}{shlex.quote(str(value))}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a run folder.

    Raises:
        RunError: Another process works in it, it holds something that is no run, or it cannot be written to.
    """
    refuse_others(path, "not a run", ours=is_run(path))
    with folder_lock(path):
        yield


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Set the run in a folder aside while its successor checks its inputs; bring it back if that fails."""
    previous = path / PREVIOUS
    try:
        if _holds_work(path) or not (previous / MANIFEST).is_file():
            # What lies aside from an attempt that was killed is older than the work that is here.
            remove(previous)
        if not previous.is_dir() and (path / MANIFEST).is_file():
            _move_entries(path, previous)
        yield
    except BaseException:
        if previous.is_dir():
            _clear(path)
            _move_entries(previous, path)
            previous.rmdir()
        raise
    drop_previous(path)


def drop_previous(path: Path) -> None:
    """Delete a run that was set aside, now that its successor has read its inputs."""
    remove(path / PREVIOUS)


def _entries(path: Path) -> list[Path]:
    """What a run wrote, its manifest last, so that a folder which is half emptied is still known as a run."""
    entries = [entry for entry in path.iterdir() if entry.name not in (LOCK, PREVIOUS)]
    return sorted(entries, key=lambda entry: entry.name == MANIFEST)


def _clear(path: Path) -> None:
    for entry in _entries(path):
        remove(entry)


def _move_entries(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in _entries(source):
        entry.replace(target / entry.name)


def _holds_work(path: Path) -> bool:
    """Whether a stage that takes long is there, finished or begun."""
    stages = path / STAGES
    return stages.is_dir() and any(
        stage.name.removesuffix(UNFINISHED) not in _QUICK and any(stage.iterdir())
        for stage in stages.iterdir()
        if stage.is_dir()
    )


def _compared(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in values_of(settings).items() if name not in _NOT_COMPARED}


def _began_with_whole_answers(earlier: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a run is of before frames were looked for, and is not to have them taken out by an expression now."""
    return earlier.get("own_words", "") == "" and settings.tokens.own_words in ("auto", "none")


def _lacks_evidence_alone(earlier: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a run was to be decided by forgetting alone, once the default, and is to be by all evidence now."""
    return earlier.get("signal") == LIKELIHOOD.name and settings.decision.signal == SUSPICION.name


def _refusal(path: Path, differences: dict[str, str], earlier: Mapping[str, Any], settings: Settings) -> str:
    advice = "Name another --output, or pass --overwrite to start again"
    wanted, started = ({name: of[name] for name in _DECIDED} for of in (vars(settings.decision), earlier))
    # What was decided since may be different from both.
    stays, before, signal = started | last_decision(path), started["signal"], settings.decision.signal
    command = decide_command(path, {n: v for n, v in wanted.items() if n in differences or v != stays[n]})
    decided_alone = set(differences) <= set(_DECIDED)
    if decided_alone and (before == signal or _are_there(before, signal)):
        advice = f"To decide again from the scores that are there: {command}"
    elif decided_alone and signal in RIVALS:
        beside = " ".join([*_as_options({name: started[name] for name in differences}), f"--rivals {signal}"])
        advice = f"To ask this rival beside the signal of the run: {beside}; and to decide by it then: {command}"
    return f"{path}: this run was started differently. {'; '.join(differences.values())}. {advice}"


def _are_there(before: str, signal: str) -> bool:
    """Whether a run that was measured by one signal has the scores of another."""
    return SIGNALS[before].scoring == SIGNALS[signal].scoring and signal not in RIVALS
