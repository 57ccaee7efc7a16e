"""Divide further rows into kept and removed ones by what a run has learned: `forgetfilter apply`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..console import Console, count_of, escaped, table
from ..data.chats import Chat
from ..data.containers import open_container
from ..data.records import Container, in_batches
from ..data.rows import ReadOptions, Rows, Said
from ..data.tables import write_parquet
from ..data.text_files import TextOptions
from ..decision.decide import read_summary
from ..decision.overrides import KEPT, REMOVED
from ..decision.reasons import BAD
from ..decision.verdicts import UNSCORABLE
from ..errors import RunError
from ..runs.files import folder_lock, read_json, start_afresh, write_json, written_whole
from ..runs.inputs import read_part, refuse_changed
from ..runs.layout import (
    APPLIED,
    APPLIED_MANIFEST,
    DATA,
    DISTILLED_FOR,
    FURTHER_SCORES,
    LOG,
    ROWS,
    SCORES,
    SHARDS,
    shard_name,
)
from ..runs.manifest import Manifest, made_of, note_made_of, refuse_others
from ..runs.run import Run, Stages
from ..settings.groups import ApplySettings
from ..settings.option import values_of
from ..suspicion.distilled import Agreement
from ..suspicion.fusing import STATES
from .scorer import RowScorer, Scored

if TYPE_CHECKING:
    import datasets

_COMPARED = ("layout", "columns", "skip_bad_rows", "evidence")
_SCORED = pa.schema([
    ("id", pa.string()),
    ("row", pa.int64()),
    ("suspicion", pa.float64()),
    ("by_words", pa.float64()),
    ("by_states", pa.float64()),
    ("most_suspicious", pa.list_(pa.string())),
])  # fmt: skip
_DECIDED = _SCORED.append(pa.field("decision", pa.string())).append(pa.field("reason", pa.string()))


@dataclass(frozen=True)
class Applied:
    """What became of further rows: counts, the cut and the files.

    Attributes:
        run: The run folder.
        rows: Rows of the input, including bad ones.
        kept, removed: Rows in the two files.
        unscorable: Rows without a score.
        drop_unscorable: Whether these went with the removed ones, as they do in the run.
        bad: Rows that could not be used and were set aside.
        evidence: What rows were scored by.
        threshold: The threshold as the user gave it.
        cut: Rows above this were removed; None where nothing is.
        unit: The unit of suspicion.
        explanation: How the cut was found.
        agreement: How well scores of this kind agree with the run about its own rows.
        files: The files written, by role: kept, removed, bad, scores.
        of_the_run: How many rows have the id of a row that the run decided about.
    """

    run: str
    rows: int
    kept: int
    removed: int
    unscorable: int
    drop_unscorable: bool
    bad: int
    evidence: str
    threshold: str
    cut: float | None
    unit: str
    explanation: str
    agreement: Agreement
    files: dict[str, str]
    of_the_run: int = 0


def apply_run(
    run: Path, settings: ApplySettings, output: Path, console: Console, source: Container | None = None
) -> Applied:
    """Score the rows of a data set and write kept and removed ones to a folder, going on where an attempt was killed.

    With another threshold, the same folder is decided again from the scores that are there.

    Args:
        run: The folder of a run that was decided by suspicion.
        settings: How the rows are read and scored.
        output: The folder.
        console: Shows progress.
        source: The rows, where they are in memory.

    Raises:
        ForgetFilterError: Anything that the user can mend: the run, the rows, settings, the folder.
    """
    data = settings.data
    if source is None:
        source = open_container(data.data, data.split, TextOptions(data.encoding, data.delimiter))
    stages = Stages(output.absolute())
    _check_folder(stages)
    console.say("fitting a rule to what the run decided, unless that was done before")
    scorer = RowScorer.load(run, settings.evidence, threshold=settings.threshold, device=settings.device)
    with folder_lock(stages.path):
        console.log_to(stages.path / LOG)
        _claim(stages, source, settings, run)
        if not stages.has(ROWS):
            options = ReadOptions(data.layout, data.columns, data.skip_bad_rows)
            check = scorer.runner.encoder.check if settings.evidence == STATES else _takes_any
            read_part(stages, DATA, source, options, stages.partial(ROWS) / DATA, check, console)
            refuse_changed(source, Manifest.read(stages.path / APPLIED_MANIFEST).fingerprints[DATA])
            stages.finish(ROWS)
        rows = Rows.open(stages.folder(ROWS) / DATA)
        _score(stages, rows, scorer, console)
        return _decide(stages, rows, scorer, run, settings)


def read_applied(output: Path) -> Applied:
    """Read what `apply_run` wrote last.

    Raises:
        RunError: The folder holds nothing of the kind.
    """
    try:
        values = read_json(output / APPLIED)
        return Applied(**values | {"agreement": Agreement.of(values["agreement"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{output}: nothing was applied here; expected what 'forgetfilter apply' wrote") from error


def applied_rows(output: Path, applied: Applied, role: str) -> datasets.Dataset:
    """Load the kept or the removed rows, by role, with all of their fields."""
    decided = pq.read_table(output / SCORES, columns=["row", "decision"])
    decisions = [role, UNSCORABLE] if applied.drop_unscorable == (role == REMOVED) else [role]
    chosen = np.isin(decided.column("decision").to_numpy().astype(str), decisions)
    rows = Rows.open(Stages(output).folder(ROWS) / DATA)
    return rows.load(output / applied.files[role], decided.column("row").to_numpy()[chosen].tolist())


def applied_table(output: Path, applied: Applied) -> str:
    """Summarise the decision and the files for a terminal."""
    cut = "nothing is removed" if applied.cut is None else f"{applied.cut:.3g} {applied.unit}"
    counts = [(role, f"{getattr(applied, role):,}", applied.files[role]) for role in (KEPT, REMOVED)]
    counts += [("unusable", f"{applied.bad:,}", applied.files[BAD])] if applied.bad else []
    lines = [
        "",
        f"{count_of(applied.rows, 'row')}, scored by {applied.evidence}, threshold {applied.threshold} → {cut}",
        f"  ({applied.explanation})",
        "",
        table(("", "rows", f"file in {escaped(str(output))}"), counts),
        f"agreement with the run, {applied.agreement}",
    ]
    if applied.unscorable:
        where = REMOVED if applied.drop_unscorable else KEPT
        lines.append(f"{count_of(applied.unscorable, 'row')} could not be scored; see the {where} file")
    if applied.of_the_run:
        rows, have = count_of(applied.of_the_run, "row"), "has" if applied.of_the_run == 1 else "have"
        lines.append(
            f"WARNING: {rows} of these {have} the id of a row of the run. If they are the same rows, the run's "
            "decisions about them, and yours, are the better ones; here they were judged as new "
            f"rows. See {escaped(str(Path(applied.run) / SCORES))}"
        )
    if applied.agreement.doubt:
        lines.append(f"WARNING: {applied.agreement.doubt}")
    return "\n".join([*lines, f"Every row's score and reason: {escaped(str(output / SCORES))}"])


def _takes_any(chat: Chat) -> None:
    """Accept every row: words need no chat template."""


def _check_folder(stages: Stages) -> None:
    ours = (stages.path / APPLIED_MANIFEST).is_file()
    refuse_others(stages.path, "not rows that 'forgetfilter apply' divided", ours=ours)


def _claim(stages: Stages, container: Container, settings: ApplySettings, run: Path) -> None:
    """Record in the folder what is divided, or check that an earlier attempt divided the same."""
    if not stages.has(ROWS):
        # Nothing was read whole, for instance because the data was refused: there is nothing to lose.
        (stages.path / APPLIED_MANIFEST).unlink(missing_ok=True)
    values = values_of(settings)
    compared = {name: values[name] for name in _COMPARED} | {"run": str(run.absolute())}
    manifest = Manifest.now({DATA: container.fingerprint()}, compared)
    manifest.claim(stages.path / APPLIED_MANIFEST, "this was started differently")


def _score(stages: Stages, rows: Rows, scorer: RowScorer, console: Console) -> None:
    """Score all rows, some at a time; what a killed attempt scored by the same rule is kept."""
    if made_of(stages.folder(FURTHER_SCORES) / DISTILLED_FOR, scorer.key):
        return
    if stages.has(FURTHER_SCORES):
        stages.drop(FURTHER_SCORES)
    folder = stages.partial(FURTHER_SCORES)
    if not made_of(folder / DISTILLED_FOR, scorer.key):
        start_afresh(folder)
        note_made_of(folder / DISTILLED_FOR, scorer.key)
    batches = in_batches(rows.usable(), lambda row: row[2].size)
    with console.progress("scoring", rows.count - len(rows.bad), "rows") as progress:
        for number, batch in enumerate(batches):
            path = folder / shard_name(number)
            if path.exists():
                progress.skip(len(batch))
                continue
            scored = scorer.score([chat for *_, chat in batch])
            # Checksums of all of them are written once they are there; to write them after each would take long.
            with written_whole(path, changes=True) as beside:
                pq.write_table(_scored_table(batch, scored), beside)
            progress.advance(len(batch))
    stages.finish(FURTHER_SCORES)


def _scored_table(batch: Sequence[Said], scored: Scored) -> pa.Table:
    ids, rows = [id for id, _, _ in batch], [row for _, row, _ in batch]
    columns = [ids, rows, scored.suspicion, scored.by_words, scored.by_states, scored.words]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCORED, strict=True)], schema=_SCORED)


def _decide(stages: Stages, rows: Rows, scorer: RowScorer, run: Path, settings: ApplySettings) -> Applied:
    """Write the kept and the removed rows, and the table of scores; what became of them is written last."""
    files = sorted(stages.folder(FURTHER_SCORES).glob(SHARDS))
    own = pc.field("id").isin(pq.read_table(run / SCORES, columns=["id"]).column("id").combine_chunks())
    drop_unscorable = read_summary(Run.open(run)).drop_unscorable
    removed, kept, unscorable = np.zeros(rows.count, dtype=bool), np.zeros(rows.count, dtype=bool), 0
    for file in files:
        scores = pq.read_table(file, columns=["row", "suspicion"])
        row, suspicion = scores.column("row").to_numpy(), scores.column("suspicion").to_numpy()
        unscored = np.isnan(suspicion)
        gone = scorer.cut.removes(suspicion) | (unscored & drop_unscorable)
        removed[row], kept[row], unscorable = gone, ~gone, unscorable + int(unscored.sum())
    names = {role: role + rows.suffix for role in (KEPT, REMOVED, *([BAD] if rows.bad else []))} | {"scores": SCORES}
    applied = Applied(
        run=str(run),
        rows=rows.count,
        kept=int(kept.sum()),
        removed=int(removed.sum()),
        unscorable=unscorable,
        drop_unscorable=drop_unscorable,
        bad=len(rows.bad),
        evidence=settings.evidence,
        threshold=settings.threshold,
        cut=scorer.cut.value,
        unit=scorer.unit,
        explanation=scorer.cut.explanation,
        agreement=scorer.agreement,
        files=names,
        of_the_run=ds.dataset(files, schema=_SCORED).count_rows(filter=own),
    )
    stages.remove_file(APPLIED)
    stages.write_file(names[KEPT], partial(rows.write, kept))
    stages.write_file(names[REMOVED], partial(rows.write, removed))
    stages.write_file(SCORES, partial(write_parquet, _decided(files, removed, scorer), _DECIDED))
    write_json(asdict(applied), stages.path / APPLIED, stages.path)
    return applied


def _decided(files: Sequence[Path], removed: NDArray[np.bool_], scorer: RowScorer) -> Iterator[pa.RecordBatch]:
    """Yield the scores with each row's decision, and the reason why a removed row is removed."""
    for file in files:
        scores = pq.read_table(file).combine_chunks()
        suspicion, gone = scores.column("suspicion").to_numpy(), removed[scores.column("row").to_numpy()]
        decisions = np.where(np.isnan(suspicion), UNSCORABLE, np.where(gone, REMOVED, KEPT))
        reasons: list[str | None] = [None] * len(scores)
        for i in np.flatnonzero(gone & ~np.isnan(suspicion)).tolist():
            reasons[i] = scorer.reason(suspicion[i], scores.column("most_suspicious")[i].as_py())
        columns = [*scores.columns, pa.array(decisions, pa.string()), pa.array(reasons, pa.string())]
        yield from pa.table(columns, schema=_DECIDED).to_batches()
