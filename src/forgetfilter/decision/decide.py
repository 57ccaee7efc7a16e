"""From the table of forgetting to kept and removed rows. Needs no model, and no labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..console import printable
from ..data.columns import PREFERENCE
from ..data.rows import Rows
from ..data.tokens import TokenTable
from ..errors import RunError
from ..forgetting.estimates import (
    Planted,
    covered,
    estimate_errors,
    safe_set_is_of_another_kind,
    share_above,
    trusted_are_above,
    trusted_are_different,
)
from ..forgetting.measuring import columns_of, suspicion_column
from ..forgetting.pairs import Pairs, compare_answers
from ..forgetting.signals import RIVAL, SIGNALS, Scores, Signal, Suspicion, judged_tokens, learned_tokens
from ..forgetting.thresholds import Auto, AutoOfSuspicion, parse_threshold
from ..runs.files import write_json
from ..runs.inputs import planted_parts, read_unshown
from ..runs.layout import (
    ASIDE,
    DATA,
    FORGETTING,
    KNOWN_UNSAFE,
    OVERRIDES,
    PLANTED_SCORES,
    REASONS,
    REJECTED,
    ROWS,
    SCORES,
    SUMMARY,
    TOKENS,
    TRUSTED,
    WITNESSES,
    numbered,
    rival_stage,
    table_of,
    tokens_of,
)
from ..runs.run import Run, decide_command
from ..settings.groups import DecisionSettings, Settings
from ..stages.known_later import known_later
from .overrides import KEPT, REMOVED, Overrides, write_overrides
from .reasons import BAD, Decided, write_reasons, write_scores
from .suspicion import by_review, suspect
from .verdicts import NOBODY, UNSCORABLE, ByHand, Measured, judge


@dataclass(frozen=True)
class Summary:
    """What a run decided.

    Attributes:
        rows: Rows of the input, bad ones included.
        kept, removed: Rows in the two files.
        unscorable: Rows without a score, about which nobody decided; in the kept file unless they were to be dropped.
        never_learned: Rows that the learned model does not know, so that their forgetting says little.
        truncated: Rows of which tokens were cut off.
        bad: Rows that could not be used and were set aside.
        unshown: What the model's chat template does not show of the rows, by name, and how often; neither learned nor
            scored.
        pairs: Preferences both of whose answers have a score.
        swapped: Of these, how many look swapped: the chosen answer was forgotten much more than the rejected one.
        signal, unit: What decides, and what one unit of it is.
        threshold: As it was asked for.
        drop_unscorable: Whether rows without a score went with the removed.
        cut: Rows above this were removed; None where the threshold removes nothing.
        explanation: How the cut was found.
        trusted, known_unsafe: Rows of known kind that were learned along with the data, to tell the errors by; and
            rows that became known to be unsafe after the run, where they are evidence.
        reviewer: The person who decided about some rows; empty where nobody did.
        overridden: Rows that a person decided about otherwise than the filter.
        overrides: Tells that person's decisions apart from others.
        errors: Estimated `precision`, `recall` and `harmless_removed` (the share of the harmless rows that is
            removed), each with `value`, `low` and `high` (95%); None where unknown.
        warnings: What a person should know before trusting the decision.
        files: What was written, by role: kept, removed, bad, scores, reasons.
        judged: How many tokens of each answer have a say in the decision, from the first on; None for all.
        judged_in_part: Rows of which an answer goes on beyond what has a say.
        not_read: What lay where the data is and was not read, a line each.
        known_later: How many of the known unsafe rows became known after the run, so that nothing learned them.
        known_later_key: Tells those apart from others; empty where there are none.
        doubt: Why the trusted rows do not tell precision and the share of harmless rows removed; empty where they do.
            By the signal `suspicion` both are then None, by others not to be relied on.
        trained: Whether anything was trained, so that forgetting is known.
        by_safe_set: Of several safe sets, by name, how many of its rows that were set aside have a score, `count`, and
            which share of these would be `removed`, with the bounds of its interval, `low` and `high` (95%).
    """

    rows: int
    kept: int
    removed: int
    unscorable: int
    never_learned: int
    truncated: int
    bad: int
    unshown: dict[str, int]
    pairs: int
    swapped: int
    signal: str
    unit: str
    threshold: str
    drop_unscorable: bool
    cut: float | None
    explanation: str
    trusted: int
    known_unsafe: int
    reviewer: str
    overridden: int
    overrides: str
    errors: dict[str, dict[str, float] | None]
    warnings: list[str]
    files: dict[str, str]
    not_read: list[str]
    judged: int | None = None
    judged_in_part: int = 0
    known_later: int = 0
    known_later_key: str = ""
    doubt: str = ""
    trained: bool = True
    by_safe_set: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Tells decisions apart: the same key, the same rows kept."""
        later = [self.known_later_key] if self.known_later_key else []
        return json.dumps([self.signal, self.cut, self.kept, self.removed, self.overrides, self.files[KEPT], *later])


def decide(run: Run, settings: DecisionSettings, overrides: Overrides | None = None) -> Summary:
    """Decide about every row from the scores that are there, and write the run's files.

    A person's decisions stand against the filter's; `decided_by` in `scores.parquet` tells whose each one is.

    Writes `kept.*` and `removed.*` in the input's own layout, `scores.parquet`, `reasons.jsonl` and, last,
    `summary.json`; while that is missing the others may be of different decisions.

    Raises:
        RunError: The run has no scores yet, none of the signal's kind, or not the rows of the overrides.
        SettingsError: The threshold cannot be read.
    """
    overrides = overrides or Overrides()
    threshold, signal = parse_threshold(settings.threshold), SIGNALS[settings.signal]
    by_hand = overrides.find(_tokens(run).ids, run.path) if overrides.decisions else NOBODY
    scores = _read_scores(run, signal, by_hand)
    measured, planted = _read_measured(run, signal, scores[DATA]), _planted(scores, run.settings)
    suspicion = measured.scores.suspicion
    if signal.fused and threshold == Auto():
        threshold = AutoOfSuspicion(np.concatenate([planted.known_unsafe, suspicion[by_hand[0][by_hand[1]]]]))
    cut = threshold.cut(suspicion, planted.trusted)
    # What a safe set covers is seen by forgetting alone: of several, by what its own review made the model forget.
    reviews = _reviews(run, signal, scores)
    spared = np.any([covered(*of_review) for of_review in reviews], axis=0)
    verdicts = judge(suspicion, cut, spared, by_hand, drop_unscorable=settings.drop_unscorable)
    decided = Decided(
        signal, cut, measured, verdicts, overrides.reviewer, _compare(run, signal, scores[DATA], cut.value)
    )
    rows = Rows.open(run.folder(ROWS) / DATA)
    judged = judged_tokens(learned_tokens(run.settings.max_completion, run.settings.signal), signal.name)
    in_part = 0 if signal.reads_texts else int(_tokens(run).judged_in_part(judged).sum())
    later = known_later(run) if signal.fused else None
    of_another_kind = (safe_set_is_of_another_kind(*of_review) for of_review in reviews)
    names = run.settings.safe if len(reviews) > 1 else ("",)
    told = [
        f"{printable(name)}: {said}" if name else said
        for name, said in zip(names, of_another_kind, strict=True)
        if said
    ]
    summary = _summarise(decided, rows, planted, settings, overrides, read_unshown(run))
    summary = replace(
        summary,
        warnings=[*summary.warnings, *told],
        judged=judged,
        judged_in_part=in_part,
        known_later=later.rows if later else 0,
        known_later_key=later.key if later else "",
        trained=run.has(FORGETTING),
        by_safe_set=_by_safe_set(run.settings, scores, cut.value),
    )
    _write(run, decided, rows, scores, summary, overrides)
    return summary


def _tokens(run: Run) -> TokenTable:
    return TokenTable(run.folder(TOKENS) / tokens_of(DATA))


def _summarise(
    decided: Decided,
    rows: Rows,
    planted: Planted,
    settings: DecisionSettings,
    overrides: Overrides,
    unshown: dict[str, int],
) -> Summary:
    """Count what was decided, and estimate how far it can be trusted."""
    verdicts, cut, signal = decided.verdicts, decided.cut, decided.signal
    suspicion = decided.measured.scores.suspicion
    removed, unscorable = cut.removes(suspicion), np.isnan(suspicion)
    errors = estimate_errors(int(removed.sum()), int((~unscorable).sum()), planted, cut.value)
    kept, trusted = suspicion[~removed], planted.trusted
    doubt = trusted_are_different(kept, trusted, signal.more) or trusted_are_above(
        kept, trusted, cut.value, signal.more
    )
    if doubt and signal.fused:
        errors = replace(errors, precision=None, harmless_removed=None)
    files = {role: role + rows.suffix for role in (KEPT, REMOVED, *([BAD] if rows.bad else []))}
    gone = int(verdicts.gone.sum())
    return Summary(
        rows=rows.count,
        kept=len(suspicion) - gone,
        removed=gone,
        unscorable=int(verdicts.are(UNSCORABLE).sum()),
        never_learned=int(decided.measured.never_learned.sum()),
        truncated=int(decided.measured.truncated.sum()),
        bad=len(rows.bad),
        unshown=unshown,
        pairs=decided.pairs.scored if decided.pairs else 0,
        swapped=int(decided.pairs.swapped.sum()) if decided.pairs else 0,
        signal=signal.name,
        unit=signal.unit,
        threshold=settings.threshold,
        drop_unscorable=settings.drop_unscorable,
        cut=cut.value,
        explanation=cut.explanation,
        trusted=len(planted.trusted),
        known_unsafe=len(planted.known_unsafe),
        reviewer=overrides.reviewer if overrides.decisions else "",
        overridden=int(verdicts.overridden.sum()),
        overrides=overrides.key,
        errors=asdict(errors),
        warnings=[doubt.warning] if doubt else [],
        files=files | {"scores": SCORES, "reasons": REASONS},
        not_read=list(rows.not_read),
        doubt=doubt.because if doubt else "",
    )


def _write(
    run: Run, decided: Decided, rows: Rows, scores: Mapping[str, Scores], summary: Summary, overrides: Overrides
) -> None:
    """Write the run's files; the summary is missing as long as the others may be of different decisions."""
    (run.path / SUMMARY).unlink(missing_ok=True)
    positions, gone = decided.measured.rows, decided.verdicts.gone
    for role, places in ((KEPT, positions[~gone]), (REMOVED, positions[gone])):
        chosen = np.zeros(rows.count, dtype=bool)
        chosen[places] = True
        run.write_file(summary.files[role], partial(rows.write, chosen))
    run.write_file(SCORES, partial(write_scores, decided, _table_path(run, decided.signal, DATA), rows))
    if overrides.decisions:
        shown = {name: getattr(summary, name) for name in DecisionSettings.__dataclass_fields__}
        run.write_file(OVERRIDES, partial(write_overrides, replace(overrides, settings=shown)))
    run.write_file(REASONS, partial(write_reasons, decided, run.path / SCORES, rows))
    run.write_file(PLANTED_SCORES, partial(_write_planted, scores))
    write_json(asdict(summary), run.path / SUMMARY)


def read_summary(run: Run) -> Summary:
    """The summary of the last decision.

    Raises:
        RunError: There is none, or another version wrote it.
    """
    path = run.path / SUMMARY
    if not path.is_file():
        raise RunError(f"{run.path}: nothing is decided here yet; run: {decide_command(run.path, {})}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Summary(**{name: values[name] for name in Summary.__dataclass_fields__ if name in values})
    except (OSError, ValueError, TypeError) as error:
        again = decide_command(run.path, {})
        raise RunError(f"{path}: changed since it was written; decide again, which writes it anew: {again}") from error


def read_planted(run: Run) -> Planted:
    """Suspicion of the rows of known kind, as the last decision had it; none where that was of an earlier version."""
    if not (run.path / PLANTED_SCORES).is_file():
        return Planted(np.empty(0), np.empty(0), np.empty(0))
    table = pq.read_table(run.path / PLANTED_SCORES)
    part, suspicion = table.column("part").to_numpy(zero_copy_only=False), table.column("suspicion").to_numpy()
    kinds = [TRUSTED], numbered(ASIDE, run.settings.safe), [KNOWN_UNSAFE]
    return Planted(*(suspicion[np.isin(part, of_kind)] for of_kind in kinds))


def _write_planted(scores: Mapping[str, Scores], path: Path) -> None:
    there = [part for part in scores if part != DATA]
    parts = np.repeat(np.array(there, dtype=object), [len(scores[part].suspicion) for part in there])
    suspicion = np.concatenate([np.empty(0), *(scores[part].suspicion for part in there)])
    pq.write_table(pa.table({"part": pa.array(parts, pa.string()), "suspicion": suspicion}), path)


def _planted(scores: Mapping[str, Scores], settings: Settings) -> Planted:
    kinds = [TRUSTED], numbered(ASIDE, settings.safe), [KNOWN_UNSAFE]
    of_kinds = ([scores[part].suspicion for part in of_kind if part in scores] for of_kind in kinds)
    return Planted(*(np.concatenate([np.empty(0), *of_kind]) for of_kind in of_kinds))


def _by_safe_set(settings: Settings, scores: Mapping[str, Scores], cut: float | None) -> dict[str, dict[str, float]]:
    """What of each safe set would be removed, going by its rows that were set aside; nothing where there is one set."""
    found = {}
    for name, part in zip(settings.safe, numbered(ASIDE, settings.safe), strict=False):
        removed = share_above(scores[part].suspicion, cut) if part in scores and len(settings.safe) > 1 else None
        if removed is not None:
            count = int((~np.isnan(scores[part].suspicion)).sum())
            found[name] = {"count": count, "removed": removed.value, "low": removed.low, "high": removed.high}
    return found


def _reviews(
    run: Run, signal: Signal, scores: Mapping[str, Scores]
) -> list[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """What each review made the model forget: of the data, and of the rows of its safe set that were set aside."""
    aside = numbered(ASIDE, run.settings.safe)
    stages = by_review(run.settings).values() if run.has(FORGETTING) and signal.scoring != RIVAL else ()
    if not stages:
        return [_forgotten(scores, part) for part in aside]
    found = []
    for stage, part in zip(stages, aside, strict=True):
        paths = {name: run.folder(stage) / table_of(name) for name in (DATA, part) if name in scores}
        read = {name: of for name, path in paths.items() if (of := _read_part(path, signal)) is not None}
        found.append(_forgotten(read if DATA in read else scores, part))
    return found


def _forgotten(scores: Mapping[str, Scores], aside: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return scores[DATA].forgetting, scores[aside].forgetting if aside in scores else np.empty(0)


def _read_scores(run: Run, signal: Signal, by_hand: ByHand) -> Mapping[str, Scores]:
    """Scores of the data and of the rows of known kind that this run has, by part.

    Raises:
        RunError: It has none of this kind.
    """
    if signal.fused:
        return suspect(run, by_hand)
    found = {}
    for part in (DATA, *planted_parts(run.settings)):
        path = _table_path(run, signal, part)
        if path.exists() and (scores := _read_part(path, signal)) is not None:
            found[part] = scores
    if DATA not in found:
        path = _table_path(run, signal, DATA)
        raise _not_of_this_kind(run, signal, path) if path.exists() else _no_scores(run, signal)
    return found


def _read_measured(run: Run, signal: Signal, scores: Scores) -> Measured:
    table = pq.read_table(_table_path(run, signal, DATA), columns=["row", "never_learned", "truncated"])
    return Measured(
        rows=table.column("row").to_numpy(),
        scores=scores,
        never_learned=table.column("never_learned").fill_null(False).to_numpy(),
        truncated=table.column("truncated").to_numpy(),
    )


def _compare(run: Run, signal: Signal, scores: Scores, cut: float | None) -> Pairs | None:
    """The rejected answers of preference data beside the chosen ones; None where the data is of another kind."""
    if Rows.open(run.folder(ROWS) / DATA).layout != PREFERENCE:
        return None
    # Rivals are not asked about rejected answers.
    path, forgetting = _table_path(run, signal, REJECTED), scores.forgetting
    rejected = np.full(len(forgetting), np.nan)
    of_rejected = _read_part(path, signal) if path.exists() else None
    if of_rejected is not None:
        ids = pq.read_table(path, columns=["id"]).column("id").combine_chunks()
        places = pc.index_in(_tokens(run).ids, value_set=ids)
        rejected[places.is_valid().to_numpy()] = of_rejected.forgetting[places.drop_null().to_numpy()]
    # Both answers are compared by forgetting, which has another unit than a cut of suspicion.
    return compare_answers(forgetting, rejected, None if signal.fused else cut)


def _table_path(run: Run, signal: Signal, part: str) -> Path:
    stage = rival_stage(signal.name) if signal.scoring == RIVAL else FORGETTING
    if signal.fused and not run.has(FORGETTING):
        stage = WITNESSES
    return run.folder(stage) / table_of(part)


def _read_part(path: Path, signal: Signal) -> Scores | None:
    """The scores that a table has for a signal, None where it has none."""
    learned, reviewed, _ = columns_of(signal)
    wanted = [suspicion_column(signal)] if signal.scoring == RIVAL else [learned, reviewed]
    if wanted[0] not in pq.read_schema(path).names:
        return None
    columns = [column.to_numpy() for column in pq.read_table(path, columns=wanted).columns]
    return Suspicion.of_rival(columns[0]) if signal.scoring == RIVAL else Scores(*columns)


def _no_scores(run: Run, signal: Signal) -> RunError:
    if signal.scoring != RIVAL:
        return RunError(f"{run.path}: has no scores yet; let 'forgetfilter filter' end first")
    return RunError(
        f"{run.path}: the rival '{signal.name}' was not asked about these rows. To have its scores beside the others, "
        f"run the 'forgetfilter filter' command of this run again with --rivals {signal.name}"
    )


def _not_of_this_kind(run: Run, signal: Signal, path: Path) -> RunError:
    there = pq.read_schema(path).names
    others = [name for name, other in SIGNALS.items() if columns_of(other)[0] in there]
    if not others:
        return RunError(f"{run.path}: none of its rows could be scored; there is nothing to decide")
    return RunError(
        f"{run.path}: has no scores for the signal '{signal.name}', only for {', '.join(others)}. "
        f"To have them, run 'forgetfilter filter' with --signal {signal.name} and another --output"
    )
