"""A run folder: finished stages, resolved settings, and what the run was made from.

A stage is a folder. It is written beside its place, flushed to disk and renamed, so that a folder which
is there is whole, whenever the process was killed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from .. import __version__
from ..errors import RunError
from ..forgetting.signals import LIKELIHOOD, RIVALS, SIGNALS, SUSPICION
from ..settings.groups import Settings
from ..settings.option import from_mapping, read_config, write_config

HISTORY, POINTS = "history.json", "points.json"
MANIFEST, CONFIG, LOG, SUMMARY = "manifest.json", "config.yaml", "log.txt", "summary.json"
SCORES, REPORT, MODEL = "scores.parquet", "report.html", "model"
# The states of the model that the method names M1 and M2, each the stage that saves it.
LEARNED, REVIEWED = "learned", "reviewed"
_STAGES, _LOCK, _PREVIOUS, _PARTIAL = "stages", ".lock", ".previous", ".partial."

# Settings that say where something lies, or that only add to a run. What lies there is compared by content.
_NOT_COMPARED = {
    *("data", "split", "safe", "safe_split", "trusted", "known_unsafe", "model", "revision"),
    *("finetune", "finetune_epochs", "rivals", "judge", "toxicity_classifier", "training"),
    # It changes speed and memory alone.
    "tokens_per_batch",
}
_DECIDED = ("threshold", "signal", "drop_unscorable")
# Stages that are done again in moments.
_QUICK = ("rows", "tokens")


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
        return self.path / MODEL if stage == MODEL else self.path / _STAGES / stage

    def partial(self, stage: str) -> Path:
        """A folder to write an unfinished stage into; what an earlier, killed attempt left is still there."""
        partial = self._unfinished(stage)
        partial.mkdir(parents=True, exist_ok=True)
        return partial

    def _unfinished(self, stage: str) -> Path:
        return self.folder(stage).with_name(f"{stage}.partial")

    def finish(self, stage: str) -> None:
        """Put a stage that was written whole in its place."""
        commit(self.partial(stage), self.folder(stage))

    def drop(self, stage: str) -> None:
        """Delete a stage, finished or not, that nothing needs any more."""
        _remove(self.folder(stage))
        _remove(self._unfinished(stage))

    @contextmanager
    def restoring(self, stage: str) -> Iterator[None]:
        """Put a finished stage, or that there is none, back as it was where what is done meanwhile fails."""
        before = self.folder(stage).with_name(f"{stage}.before")
        _remove(before)
        if self.has(stage):
            shutil.copytree(self.folder(stage), before)
        try:
            yield
        except BaseException:
            self.drop(stage)
            if before.is_dir():
                before.rename(self.folder(stage))
            raise
        _remove(before)

    def write_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Write one file of the folder: whole, or not at all."""
        beside = self.path / f"{_PARTIAL}{name}"
        _remove(beside)
        write(beside)
        commit(beside, self.path / name)

    def history(self, stage: str) -> list[dict[str, Any]]:
        """The optimizer steps of a session, as `models.training.Step` has them; none where it is not finished."""
        path = self.folder(stage) / HISTORY
        steps: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
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
        if not _is_manifest(path / MANIFEST) or not (path / CONFIG).is_file():
            raise RunError(f"{path}: not a run folder; expected one that 'forgetfilter filter' wrote")
        return cls(path, from_mapping(Settings, read_config(path / CONFIG), str(path / CONFIG)))

    @classmethod
    def start(cls, path: Path, settings: Settings, fingerprints: Mapping[str, str]) -> Run:
        """Create the run, or open it where it was made from the same inputs and settings.

        Raises:
            RunError: The folder holds work of a run with other inputs or settings; names what differs.
        """
        path = path.absolute()
        manifest: dict[str, Any] = {
            "version": __version__,
            "fingerprints": dict(fingerprints),
            "settings": {k: v for k, v in vars(settings).items() if k not in _NOT_COMPARED},
        }
        if (path / MANIFEST).is_file():
            earlier = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if _holds_work(path) and _began_with_whole_answers(earlier["settings"], settings):
                # What was learned was learned so; to look for frames now would be to start again.
                settings = replace(settings, own_words="")
                manifest["settings"]["own_words"] = earlier["settings"].get("own_words")
            if _lacks_evidence_alone(earlier["settings"], settings):
                # What was trained is what all evidence together needs of it; the rest is added.
                earlier["settings"]["signal"] = settings.signal
            differences = differences_between(earlier, json.loads(json.dumps(manifest)))
            if differences and _holds_work(path):
                raise RunError(_refusal(path, differences, earlier["settings"], settings))
            if differences:
                # Nothing was trained yet, for instance because the data was refused: there is nothing to lose.
                _clear(path)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, settings)
        run.write_file(MANIFEST, lambda file: write_json(manifest, file))
        run.write_file(CONFIG, lambda file: write_config(file, settings))
        return run

    def check(self, fingerprints: Mapping[str, str]) -> None:
        """Refuse to go on with a model, tokenizer or template that the run was not made with.

        Raises:
            RunError: One of them has changed.
        """
        made_from = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["fingerprints"]
        changed = [name for name, value in fingerprints.items() if made_from.get(name) != value]
        if changed:
            raise RunError(f"{self.path}: {', '.join(changed)} changed since this run was made; start a new one")

    def fingerprint(self, part: str) -> str:
        """Of an input that the run was made from."""
        return str(json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["fingerprints"].get(part, ""))

    def points(self, stage: str) -> dict[str, Any]:
        """Read what `RankingProbe` measured along a session: `rows`, and by step `mean_logprob`; empty if nothing."""
        path = self.folder(stage) / POINTS
        points: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return points


def numbered(name: str, safe: Sequence[object]) -> list[str]:
    """A name for each of some safe sets: `safe`, `safe-2`, `safe-3`; that of a single one is the name itself."""
    return [name, *(f"{name}-{number}" for number in range(2, len(safe) + 1))]


def last_decision(path: Path) -> dict[str, Any]:
    """The decision settings that the files in a run folder were last decided with, by name; empty where none were."""
    try:
        values = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
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


def write_json(value: Any, path: Path) -> None:
    """Write readable JSON, of finite numbers only."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a run folder.

    Raises:
        RunError: Another process works in it, it holds something that is no run, or it cannot be written to.
    """
    if path.exists() and not is_run(path) and not _is_empty(path):
        raise RunError(f"{path}: there is something here already, and it is not a run; name another folder")
    with folder_lock(path):
        yield


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Make a folder if need be, and keep other processes out of it.

    Raises:
        RunError: Another process works in it, or it cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / _LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise RunError(f"{path}: another forgetfilter process is working in this folder; let it end first") from None
    except OSError as error:
        raise RunError(f"{path}: cannot write here: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or what is left of one that was to be replaced."""
    return any(_is_manifest(folder / MANIFEST) for folder in (path, path / _PREVIOUS))


def _is_manifest(path: Path) -> bool:
    """Whether a file is a manifest of ours; many a folder of other things has a file of that name."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("fingerprints", "settings"))


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Set the run in a folder aside while its successor checks its inputs; bring it back if that fails."""
    previous = path / _PREVIOUS
    try:
        if _holds_work(path) or not (previous / MANIFEST).is_file():
            # What lies aside from an attempt that was killed is older than the work that is here.
            _remove(previous)
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
    _remove(path / _PREVIOUS)


def _is_empty(path: Path) -> bool:
    """Whether nothing is in a folder but what a run may leave that was killed at its very start."""
    return path.is_dir() and not any(
        entry.name != _LOCK and not entry.name.startswith(_PARTIAL) for entry in path.iterdir()
    )


def _entries(path: Path) -> list[Path]:
    """What a run wrote, its manifest last, so that a folder which is half emptied is still known as a run."""
    entries = [entry for entry in path.iterdir() if entry.name not in (_LOCK, _PREVIOUS)]
    return sorted(entries, key=lambda entry: entry.name == MANIFEST)


def _clear(path: Path) -> None:
    for entry in _entries(path):
        _remove(entry)


def _move_entries(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in _entries(source):
        entry.replace(target / entry.name)


def commit(partial: Path, final: Path) -> None:
    """Flush a file or folder to disk and give it its final name, replacing what had it."""
    for file in sorted(partial.rglob("*")) if partial.is_dir() else [partial]:
        if file.is_file():
            _flush(file)
    replaced = final.with_name(final.name + ".replaced")
    _remove(replaced)
    if final.is_dir():
        final.rename(replaced)
    partial.replace(final)
    _flush(final.parent)
    _remove(replaced)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _holds_work(path: Path) -> bool:
    """Whether a stage that takes long is there, finished or begun."""
    stages = path / _STAGES
    return stages.is_dir() and any(
        stage.name.removesuffix(".partial") not in _QUICK and any(stage.iterdir())
        for stage in stages.iterdir()
        if stage.is_dir()
    )


def _began_with_whole_answers(earlier: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a run is of before frames were looked for, and is not to have them taken out by an expression now."""
    return earlier.get("own_words", "") == "" and settings.own_words in ("auto", "none")


def _lacks_evidence_alone(earlier: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a run was to be decided by forgetting alone, once the default, and is to be by all evidence now."""
    return earlier.get("signal") == LIKELIHOOD.name and settings.signal == SUSPICION.name


def differences_between(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What a folder was started with that is not so now: name to description.

    Args:
        earlier: Its manifest, with `version`, `fingerprints` and `settings`.
        now: What the manifest would be now, as JSON reads it back.
    """
    before, after = earlier["fingerprints"], now["fingerprints"]
    differences = {
        name: f"{name}: its content is not what the run was made from"
        for name in [*after, *(name for name in before if name not in after)]
        if before.get(name) != after.get(name)
    }
    for name, value in now["settings"].items():
        if value != earlier["settings"].get(name):
            differences[name] = f"{name}: was {earlier['settings'].get(name)!r}, is now {value!r}"
    if now["version"] != earlier["version"]:
        differences["version"] = f"forgetfilter: was {earlier['version']}, is now {now['version']}"
    return differences


def _refusal(path: Path, differences: dict[str, str], earlier: Mapping[str, Any], settings: Settings) -> str:
    advice = "Name another --output, or pass --overwrite to start again"
    wanted, started = ({name: of[name] for name in _DECIDED} for of in (vars(settings), earlier))
    # What was decided since may be different from both.
    stays, before, signal = started | last_decision(path), started["signal"], settings.signal
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
