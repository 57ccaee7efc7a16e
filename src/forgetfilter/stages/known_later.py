"""Add rows that became known to be unsafe after a run as evidence, without training.

Their features are computed as those of the run's rows were, and kept in a stage of their own, so that later decisions
need no model for them. No model learned them, so they have no forgetting.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..console import Console, printable
from ..data.containers import open_container
from ..data.records import Container
from ..data.rows import ReadOptions
from ..data.splits import DEFAULT
from ..data.text_files import TextOptions
from ..data.tokens import TokenTable
from ..errors import BadRowsError, InputError, RunError
from ..models.stage_runner import StageRunner
from ..runs.files import read_json, start_afresh, write_json
from ..runs.inputs import NOT_BOTH, NOT_DATA, read_frames, read_part, refuse_changed, refuse_same, write_part
from ..runs.layout import DATA, KNOWN_LATER, KNOWN_LATER_INFO, ONLY_TOKENS, ROWS, SAFE, TRUSTED, WITNESSES, numbered
from ..runs.run import Run
from .witnesses import Witnesses, can_look_further, measure_further, no_witnesses, read_witnesses


@dataclass(frozen=True)
class KnownLater:
    """What a run records about such rows, apart from their features.

    Attributes:
        name: The source that they were read from.
        rows: How many of them have a completion.
        key: The source's fingerprint.
    """

    name: str
    rows: int
    key: str

    def __str__(self) -> str:
        return f"{self.rows:,} row{'s' * (self.rows != 1)} of {printable(self.name)}"


def known_later(run: Run) -> KnownLater | None:
    """Read the record of the rows that became known after a run; None where there are none."""
    path = run.folder(KNOWN_LATER) / KNOWN_LATER_INFO
    try:
        info = read_json(path)
        return None if info is None else KnownLater(**info)
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{path}: damaged, or another version of forgetfilter wrote it; delete {path.parent} and run "
            "'forgetfilter decide' with --known-unsafe again"
        ) from error


def with_known_later(run: Run, witnesses: Witnesses) -> Witnesses:
    """Append the rows that became known later to a run's witnesses, as a part of their own."""
    if not run.has(KNOWN_LATER):
        return witnesses
    return witnesses.followed_by(read_witnesses(run, KNOWN_LATER), run.folder(KNOWN_LATER))


def check_can_look(run: Run) -> None:
    """Check that a run keeps the basis and vocabulary from which features of further rows are computed.

    Raises:
        RunError: The run lacks them.
    """
    if not run.has(WITNESSES):
        raise no_witnesses(run)
    if not can_look_further(run):
        raise RunError(
            f"{run.path}: was written by an earlier version and lacks the files to look at further rows with; run its "
            "'forgetfilter filter' command again to add them, which trains nothing anew"
        )


def look_at_known(run: Run, source: str | Container, runner: StageRunner, console: Console) -> KnownLater:
    """Read rows known to be unsafe as the run's data was read, and keep their features in place of earlier ones.

    Args:
        run: The run.
        source: The rows, or their location.
        runner: The run's model, with the encoder that the run was tokenised with.
        console: Shows progress.

    Raises:
        ForgetFilterError: The rows cannot be read, none has a completion, or they do not fit the model.
    """
    settings, folder = run.settings, run.partial(KNOWN_LATER)
    start_afresh(folder)
    try:
        if isinstance(source, str):
            source = open_container(source, DEFAULT, TextOptions(settings.data.encoding, where_needed=True))
        key = source.fingerprint()
        harmless = (TRUSTED, *numbered(SAFE, settings.safe.safe))
        refuse_same(source.name, key, {DATA: run.fingerprint(DATA)}, NOT_DATA)
        refuse_same(source.name, key, {part: run.fingerprint(part) for part in harmless}, NOT_BOTH)
        options = ReadOptions(settings.data.layout, settings.data.columns, settings.data.skip_bad_rows)
        count = _measure_rows(run, source, options, runner, console, folder)
        refuse_changed(source, key)
        known = KnownLater(source.name, count, key)
        write_json(asdict(known), folder / KNOWN_LATER_INFO)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    run.finish(KNOWN_LATER)
    return known


def _measure_rows(
    run: Run, container: Container, options: ReadOptions, runner: StageRunner, console: Console, folder: Path
) -> int:
    """Write the features of the rows and return how many have a completion; none of their text is kept."""
    rows_folder, tokens = folder / ROWS, folder / ONLY_TOKENS
    try:
        rows = read_part(run, KNOWN_LATER, container, options, rows_folder, runner.encoder.check, console)
    except BadRowsError as error:
        # The run's own setting decides whether bad rows are skipped, so no option is suggested here.
        noun = "rows" if error.total > 1 else "row"
        raise InputError(
            f"{container.name}: {error.total:,} {noun} of it cannot be used: {error.rows[0]}; mend such rows, or "
            "leave them out"
        ) from error
    runner.encoder.own_words.frames = read_frames(run)
    write_part(rows.name, rows.usable(), rows.count - len(rows.bad), runner.encoder, tokens, console)
    runner.check_tokens([tokens])
    table = TokenTable(tokens)
    measure_further(runner, KNOWN_LATER, table, (chat.completion for _, _, chat in rows.usable()), folder)
    shutil.rmtree(rows_folder)
    tokens.unlink()
    return len(table.scorable)
