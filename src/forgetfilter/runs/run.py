"""A run folder: finished stages, resolved settings, and what the run was made from.

A stage is a folder. It is written beside its place, flushed to disk and renamed, so that a folder which
is there is whole, whenever the process was killed. It carries the checksums of its files, which are checked when it is
opened; so does the run folder for the files that stand in it. Those of earlier versions have none, and are used as they
are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..console import shell_word
from ..errors import RunError
from ..forgetting.signals import LIKELIHOOD, RIVALS, SIGNALS, SUSPICION
from ..settings.groups import Settings
from ..settings.option import from_mapping, read_config, values_of, with_options, write_config
from .checksums import difference, differences, is_of, read_checksums
from .files import commit, commit_noted, folder_lock, forget, read_json, refuse_moved, remove, seal, written_whole
from .layout import (
    BEFORE,
    CHECKSUMS,
    CONFIG,
    EXAMPLES_FILE,
    HISTORY,
    KNOWN_LATER,
    LOG,
    MANIFEST,
    MODEL,
    OVERRIDES,
    PARTIAL,
    PLANTED_SCORES,
    POINTS,
    PREVIOUS,
    REASONS,
    REPORT,
    ROWS,
    SCORES,
    STAGES,
    SUMMARY,
    TOKENS,
    TRACKED,
    UNFINISHED,
)
from .manifest import Manifest, is_run, refuse_others, was_run
from .restoring import restore

# Settings that say where something lies, or that only add to a run. What lies there is compared by content.
_NOT_COMPARED = {
    *("data", "split", "safe", "safe_split", "trusted", "known_unsafe", "model", "revision", "learned"),
    *("finetune", "finetune_epochs", "rivals", "judge", "guard", "guard_policy", "toxicity_classifier", "training"),
    # What people are shown besides the decision.
    "examples",
    # It changes speed and memory alone.
    "tokens_per_batch",
}
# What may stand in a run folder without a checksum: what is written to in place, what a killed process or an earlier
# version left. Kept, removed and bad rows are named like the data.
_WRITTEN = {CHECKSUMS, MANIFEST, CONFIG, LOG, STAGES, MODEL, f"{MODEL}{UNFINISHED}", TRACKED, BEFORE}
_WRITTEN |= {SUMMARY, SCORES, REASONS, OVERRIDES, PLANTED_SCORES, REPORT, EXAMPLES_FILE}
_ROWS_WRITTEN = re.compile(r"(kept|removed|bad(-[a-z0-9-]+)?)(\.[a-z]+)?(\.(gz|bz2|xz|zst))?")
_DECIDED = ("threshold", "signal", "drop_unscorable")
# Stages that are done again in moments.
_QUICK = (ROWS, TOKENS)


class Stages:
    """The finished stages of a folder, and the way to finish another.

    Attributes:
        path: The folder.
    """

    # What to do once a damaged stage is deleted; and where another command made it, what else.
    _again = "run the same command again"
    _again_of: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        # What was found to be whole: stages by the sizes of their files, and by what is in these.
        self._whole: set[tuple[str, bool]] = set()

    def has(self, stage: str) -> bool:
        """Whether a stage is finished.

        Raises:
            RunError: It is, but files of it are missing now, or have another size.
        """
        self._check(stage, contents=False)
        return self._finished(stage).is_dir()

    def folder(self, stage: str) -> Path:
        """Return where a finished stage lies, once its files were read and are as they were written.

        Raises:
            RunError: They are not; names one, and how the stage is made again.
        """
        self._check(stage, contents=True)
        return self._finished(stage)

    def partial(self, stage: str) -> Path:
        """Make a folder to write an unfinished stage into; what an earlier, killed attempt left is still there.

        Raises:
            RunError: It is not as it was left; names what is damaged.
        """
        partial = self._unfinished(stage)
        refuse_moved(partial)
        if stage != MODEL:
            # Not the folder itself, which may be gone.
            partial.parent.mkdir(exist_ok=True)
        partial.mkdir(exist_ok=True)
        for left in partial.rglob(f"*{UNFINISHED}"):
            remove(left)
        for name, problem in differences(partial, contents=True):
            # What is missing is written again.
            if (partial / name).exists():
                raise RunError(f"{partial / name}: {problem}; delete {partial}, which is work that has not ended yet")
        if CHECKSUMS in read_checksums(partial):
            # A process was killed between sealing and finishing it. What is written anew now need not be the same.
            (partial / CHECKSUMS).unlink(missing_ok=True)
        return partial

    def _finished(self, stage: str) -> Path:
        # The final model stands beside the other results.
        return self.path / MODEL if stage == MODEL else self.path / STAGES / stage

    def _unfinished(self, stage: str) -> Path:
        return self._finished(stage).with_name(f"{stage}{UNFINISHED}")

    def _check(self, stage: str, *, contents: bool) -> None:
        if (stage, contents) in self._whole:
            return
        folder = self._finished(stage)
        if not folder.is_dir():
            return
        # The final model is for others as well, who need no file of ours in it.
        keeper, of = (self.path, MODEL) if stage == MODEL else (folder, "")
        again = self._again_of.get(stage, self._again)
        for name, problem in differences(keeper, of, contents=contents):
            raise RunError(f"{keeper / name}: {problem}; delete {folder} and {again}")
        self._whole |= {(stage, contents), (stage, False)}

    def finish(self, stage: str) -> None:
        """Put a stage that was written whole in its place, with the checksums of its files."""
        partial = self._unfinished(stage)
        refuse_moved(partial)
        if stage == MODEL:
            remove(partial / CHECKSUMS)
            commit_noted(partial, self._finished(stage), self.path)
        else:
            seal(partial)
            commit(partial, self._finished(stage))
        self._whole |= {(stage, True), (stage, False)}

    def drop(self, stage: str) -> None:
        """Delete a stage, finished or not, that nothing needs any more."""
        refuse_moved(self._finished(stage))
        self._whole -= {(stage, True), (stage, False)}
        remove(self._finished(stage))
        remove(self._unfinished(stage))

    def write_file(self, name: str, write: Callable[[Path], None]) -> None:
        """Write one file of the folder: whole, or not at all."""
        with written_whole(self.path / name, self.path) as beside:
            write(beside)

    def remove_file(self, name: str) -> None:
        """Delete one file of the folder, if it is there."""
        forget(self.path, name)
        (self.path / name).unlink(missing_ok=True)

    def history(self, stage: str) -> list[dict[str, Any]]:
        """The optimizer steps of a session, as `models.training.Step` has them; none where it is not finished."""
        steps: list[dict[str, Any]] = read_json(self.folder(stage) / HISTORY, [])
        return steps


class Run(Stages):
    """One run folder, held by one process at a time.

    Attributes:
        settings: The settings that the run was started with.
    """

    _again = "run the 'forgetfilter filter' command of this run again, or pass --overwrite to start anew"
    _again_of: Mapping[str, str] = {KNOWN_LATER: "run 'forgetfilter decide' with --known-unsafe again"}

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(path)
        self.settings = settings

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run that is there already.

        Raises:
            RunError: There is none, or its settings are not as they were written.
        """
        _check_manifest(path)
        check_file(path, CONFIG, _WRITTEN_AT_START)
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
        _check_manifest(path)
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
        manifest.write(path / MANIFEST, path)
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

    def file(self, name: str) -> Path:
        """Return where a file that a decision wrote lies, or a folder of them, once checked to be as it was written.

        Raises:
            RunError: They are not; names the command that writes them anew.
        """
        return check_file(self.path, name, f"decide again, which writes it anew: {decide_command(self.path, {})}")

    def fingerprint(self, part: str) -> str:
        """Of an input that the run was made from."""
        return str(Manifest.read(self.path / MANIFEST).fingerprints.get(part, ""))

    def points(self, stage: str) -> dict[str, Any]:
        """Read what `RankingProbe` measured along a session: `rows`, and by step `mean_logprob`; empty if nothing."""
        points: dict[str, Any] = read_json(self.folder(stage) / POINTS, {})
        return points


_WRITTEN_AT_START = "run the 'forgetfilter filter' command of this run again, which writes it anew"


def check_file(path: Path, name: str, mend: str) -> Path:
    """Check that a file of a folder is as it was written, or all files of a folder in it.

    Args:
        path: The folder, which keeps the checksums.
        name: Of the file or folder.
        mend: What to do where it is not.

    Returns:
        Where it is.

    Raises:
        RunError: It is missing or damaged.
    """
    for other, expected in read_checksums(path).items():
        if not is_of(other, name):
            continue
        problem = difference(path / other, expected)
        # Another process may have replaced it meanwhile.
        if problem and read_checksums(path).get(other) == expected:
            raise RunError(f"{path / other}: {problem}; {mend}")
    return path / name


def _check_manifest(path: Path) -> None:
    if was_run(path):
        check_file(path, MANIFEST, "name another --output, or pass --overwrite to start again")


def last_decision(path: Path) -> dict[str, Any]:
    """The decision settings that the files in a run folder were last decided with, by name; empty where none were."""
    try:
        values = read_json(path / SUMMARY)
    except (OSError, ValueError):
        # Deciding was cut short, or somebody changed the file: the next decision writes it anew.
        return {}
    if summary_problem(path):
        return {}
    return {name: values[name] for name in _DECIDED if name in values} if isinstance(values, dict) else {}


def summary_problem(path: Path) -> str:
    """Say what is wrong with the summary of the last decision; empty where nothing is, or there is none."""
    expected = read_checksums(path).get(SUMMARY)
    return difference(path / SUMMARY, expected) if expected and (path / SUMMARY).is_file() else ""


def decide_command(path: Path, settings: Mapping[str, Any], overrides: Path | str | None = None) -> str:
    """The command that decides about a run again, for a shell.

    Args:
        path: The run folder.
        settings: Decision settings that it names; the others stay as they were last decided.
        overrides: A file of a person's decisions, or `none` to drop them; the last ones stay otherwise.
    """
    words = ["forgetfilter decide", shell_word(str(path)), *_as_options(settings)]
    if overrides is not None:
        words.append(f"--overrides {shell_word(str(overrides))}")
    return " ".join(words)


def _as_options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in _DECIDED:
        value, flag = settings.get(name), name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{flag}"
        elif value is not None:
            # A threshold below zero would be taken for an option.
            yield f"--{flag}{'=' if str(value).startswith('-') else ' '}{shell_word(str(value))}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; a decision that was cut short there is taken back first.

    Raises:
        RunError: Another process works in it, it holds something that is no run, or it cannot be written to.
    """
    refuse_others(path, "not a run", ours=is_run(path))
    with folder_lock(path):
        restore(path)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Set the run in a folder aside while its successor checks its inputs; bring it back if that fails."""
    previous = path / PREVIOUS
    try:
        if _holds_work(path) or not (previous / MANIFEST).is_file():
            # What lies aside from an attempt that was killed is older than the work that is here.
            remove(previous)
        if not previous.is_dir() and ((path / MANIFEST).is_file() or was_run(path)):
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
    """What a run wrote, its manifest last, so that a folder which is half emptied is still known as a run.

    What a person put beside it is not of these.
    """
    written = {name.partition("/")[0] for name in read_checksums(path)} | _WRITTEN
    entries = [
        entry
        for entry in path.iterdir()
        if entry.name in written or entry.name.startswith(PARTIAL) or _ROWS_WRITTEN.fullmatch(entry.name)
    ]
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
        also = " --finetune" if settings.final.finetune else ""
        advice = f"To decide again from the scores that are there: {command}{also}"
    elif decided_alone and signal in RIVALS:
        beside = " ".join([*_as_options({name: started[name] for name in differences}), f"--rivals {signal}"])
        advice = f"To ask this rival beside the signal of the run: {beside}; and to decide by it then: {command}"
    elif (path / OVERRIDES).is_file():
        # Starting again drops what a person decided.
        overrides = shell_word(str(path / OVERRIDES))
        advice += (
            f". Your decisions are taken over by another run with: forgetfilter decide OTHER --overrides {overrides}"
        )
    return f"{path}: this run was started differently. {'; '.join(differences.values())}. {advice}"


def _are_there(before: str, signal: str) -> bool:
    """Whether a run that was measured by one signal has the scores of another."""
    return SIGNALS[before].scoring == SIGNALS[signal].scoring and signal not in RIVALS
