"""Rows known to be unsafe that somebody found after a run: evidence at once, without training.

They are looked at as the rows of the run were, and kept in a stage of their own, so that later decisions need no model
for them. No model learned them, so that they have no forgetting.
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
from ..models.stage_runner import Workbench
from ..runs.files import read_json, start_afresh, write_json
from ..runs.inputs import read_frames, read_part, write_part
from ..runs.layout import KNOWN_LATER, KNOWN_LATER_INFO, ONLY_TOKENS, ROWS, WITNESSES
from ..runs.run import Run
from .witnesses import Witnesses, can_look_further, look_further, no_witnesses, read_witnesses


@dataclass(frozen=True)
class KnownLater:
    """What a run keeps of such rows besides what they are told apart by.

    Attributes:
        name: What they were read from.
        rows: How many there are that have a completion.
        key: Tells them apart from others.
    """

    name: str
    rows: int
    key: str

    def __str__(self) -> str:
        return f"{self.rows:,} row{'s' * (self.rows != 1)} of {printable(self.name)}"


def known_later(run: Run) -> KnownLater | None:
    """The rows that became known after a run; None where there are none."""
    info = read_json(run.folder(KNOWN_LATER) / KNOWN_LATER_INFO)
    return None if info is None else KnownLater(**info)


def with_known_later(run: Run, witnesses: Witnesses) -> Witnesses:
    """What is known of the rows of a run, and then of those that became known later, a part of that name."""
    if not run.has(KNOWN_LATER):
        return witnesses
    return witnesses.followed_by(read_witnesses(run, KNOWN_LATER), run.folder(KNOWN_LATER))


def check_can_look(run: Run) -> None:
    """See that a run keeps what further rows are looked at with.

    Raises:
        RunError: It does not.
    """
    if not run.has(WITNESSES):
        raise no_witnesses(run)
    if not can_look_further(run):
        raise RunError(
            f"{run.path}: does not keep what further rows are looked at with, which earlier versions did not; run its "
            "'forgetfilter filter' command again to add that, which trains nothing anew"
        )


def look_at_known(run: Run, source: str | Container, bench: Workbench, console: Console) -> KnownLater:
    """Read rows known to be unsafe as the data of a run was read, look at them, and keep that in place of others.

    Args:
        run: The run.
        source: The rows, or where they are.
        bench: The run's model, with the encoder that the run was tokenised with.
        console: Where to tell what goes on.

    Raises:
        ForgetFilterError: They cannot be read, none of them has a completion, or the model does not take them.
    """
    settings, folder = run.settings, run.partial(KNOWN_LATER)
    start_afresh(folder)
    try:
        if isinstance(source, str):
            source = open_container(source, DEFAULT, TextOptions(settings.encoding, where_needed=True))
        key = source.fingerprint()
        options = ReadOptions(settings.layout, settings.columns, settings.skip_bad_rows)
        found = _look(run, source, options, bench, console, folder)
        known = KnownLater(source.name, found, key)
        write_json(asdict(known), folder / KNOWN_LATER_INFO)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    run.finish(KNOWN_LATER)
    return known


def _look(
    run: Run, container: Container, options: ReadOptions, bench: Workbench, console: Console, folder: Path
) -> int:
    """Keep what the rows are told apart by, and return how many there are; of their texts nothing stays."""
    read, tokens = folder / ROWS, folder / ONLY_TOKENS
    try:
        rows = read_part(run, KNOWN_LATER, container, options, read, bench.encoder, console)
    except BadRowsError as error:
        # Whether bad rows are skipped was said when the run was started.
        several = "rows" if error.total > 1 else "row"
        raise InputError(
            f"{container.name}: {error.total:,} {several} of it cannot be used: {error.rows[0]}; mend such rows, or "
            "leave them out"
        ) from error
    bench.encoder.own_words.frames = read_frames(run)
    write_part(rows.name, rows.usable(), rows.count - len(rows.bad), bench.encoder, tokens, console)
    bench.check_tokens([tokens])
    table = TokenTable(tokens)
    look_further(bench, KNOWN_LATER, table, (chat.completion for _, _, chat in rows.usable()), folder)
    shutil.rmtree(read)
    tokens.unlink()
    return len(table.scorable)
