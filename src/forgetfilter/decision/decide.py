"""Decide from a run's scores which rows are kept and which removed, without a model or labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import blake2b
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
from ..forgetting.auto import Auto, AutoOfSuspicion
from ..forgetting.cuts import FalseDiscoveryRate
from ..forgetting.estimates import (
    Doubt,
    Planted,
    covered,
    doubt_about,
    estimate_errors,
    safe_set_is_of_another_kind,
    share_above,
    tells_coverage,
)
from ..forgetting.measuring import CATEGORIES, columns_of, suspicion_column
from ..forgetting.pairs import Pairs, compare_answers
from ..forgetting.signals import GUARD, RIVAL, SIGNALS, Scores, Signal, Suspicion, judged_tokens, learned_tokens
from ..forgetting.thresholds import parse_threshold
from ..rivals.registry import RIVALS
from ..runs.files import read_json, write_json
from ..runs.inputs import planted_parts, read_unshown
from ..runs.layout import (
    ASIDE,
    CHECKSUMS,
    DATA,
    DOUBTS,
    FORGETTING,
    KNOWN_LATER,
    KNOWN_UNSAFE,
    LEARNED,
    OVERRIDES,
    PLANTED_SCORES,
    REASONS,
    REJECTED,
    REPORT,
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
from ..runs.restoring import restoring
from ..runs.run import Run, decide_command
from ..settings.groups import DecisionSettings, SafeSettings
from ..stages.known_later import known_later
from .overrides import KEPT, REMOVED, Overrides, write_overrides
from .reasons import BAD, Decided, GuardOpinion, write_reasons, write_scores
from .suspicion import by_review, rests_on_safe_examples, safe_examples_look_unlike, suspect
from .verdicts import NOBODY, UNSCORABLE, ByHand, Measured, judge

# Of `summary.json`, as other programs read it (docs/reference/summary.md): higher where a key changes or goes.
SUMMARY_VERSION = 1
_NOTHING_KEPT = "no row is kept; another threshold, such as --threshold auto, would keep some"


@dataclass(frozen=True)
class Summary:
    """A run's decision: counts, the cut, estimated errors and the files.

    Attributes:
        rows: Rows of the input, including bad ones; of a sample, those of the sample.
        kept, removed: Rows in the two files.
        unscorable: Rows without a score that no person decided about; in the kept file unless they are to be dropped.
        never_learned: Rows that the learned model does not know, so that their forgetting says little.
        truncated: Rows of which tokens were cut off.
        bad: Rows that could not be used and were set aside.
        unshown: Parts of rows that the model's chat template does not show, by name, with their counts; they are
            neither learned nor scored.
        pairs: Preferences whose answers both have a score.
        swapped: How many of these look swapped: the chosen answer was forgotten much more than the rejected one.
        signal, unit: The signal that decides, and its unit.
        threshold: The threshold as the user gave it.
        drop_unscorable: Whether rows without a score went with the removed ones.
        cut: Rows above this were removed; None where the threshold removes nothing.
        explanation: How the cut was found.
        trusted, known_unsafe: Rows of known kind that were learned along with the data, from which errors are
            estimated; and rows that became known to be unsafe after the run, where they are evidence.
        reviewer: The person who decided about some rows; empty where nobody did.
        overridden: Rows that a person decided about differently from the filter.
        overrides: Key that identifies that person's decisions.
        errors: Estimated `precision`, `recall` and `harmless_removed` (the share of the harmless rows that is
            removed) of the filter alone, each with `value`, `low` and `high` (95%); None where unknown.
        warnings: What a person should know before trusting the decision.
        files: The files written, by role: kept, removed, bad, scores, reasons.
        judged: How many tokens of each answer, from the first on, the decision depends on; None for all.
        judged_in_part: Rows with an answer that is longer than that.
        not_read: Files beside the data that were not read, a line each.
        known_later: How many of the known unsafe rows became known after the run, so that no model was trained on them.
        known_later_key: Key that identifies those rows; empty where there are none.
        scores_key: Key that identifies the suspicion of all rows and what became of them; empty where an earlier
            version decided.
        doubt: Why precision and the share of harmless rows removed cannot be estimated from the trusted rows; empty
            where they can. With the signal `suspicion` both are then None, with other signals unreliable.
        trained: Whether anything was trained, so that forgetting is known.
        planted_unlearned: Whether rows of known kind tell nothing of errors, as M1 was trained elsewhere without them.
        left_out: Rows of the input that `limit` left out of the sample; they are in none of the files.
        by_safe_set: For each of several safe sets, by name: how many of its rows that were set aside have a score,
            `count`, and which share of these would be `removed`, with its 95% interval, `low` and `high`.
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
    scores_key: str = ""
    doubt: str = ""
    trained: bool = True
    planted_unlearned: bool = False
    left_out: int = 0
    by_safe_set: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identify the decision: two decisions with the same key keep the same rows, for the same suspicion."""
        further = [key for key in (self.known_later_key, self.scores_key) if key]
        return json.dumps([self.signal, self.cut, self.kept, self.removed, self.overrides, self.files[KEPT], *further])


def decide(run: Run, settings: DecisionSettings, overrides: Overrides | None = None) -> Summary:
    """Decide about every row from the run's scores, and write the run's files.

    A person's decisions override the filter's; `decided_by` in `scores.parquet` names who made each one.

    Writes `kept.*` and `removed.*` in the input's own layout, `scores.parquet`, `reasons.jsonl` and, last,
    `summary.json`; while that is missing the other files may come from different decisions.

    Raises:
        RunError: The run has no scores yet, none for the signal, or lacks rows that the overrides name.
        SettingsError: The threshold cannot be parsed.
    """
    overrides = overrides or Overrides()
    threshold, signal = parse_threshold(settings.threshold), SIGNALS[settings.signal]
    by_hand = overrides.find(_tokens(run).ids, run.path) if overrides.decisions else NOBODY
    scores = _read_scores(run, signal, by_hand)
    measured, planted = _read_measured(run, signal, scores[DATA]), _planted(scores, run.settings.safe)
    suspicion = measured.scores.suspicion
    unlike, unlearned = safe_examples_look_unlike(run) if signal.fused else None, _planted_unlearned(run, signal)
    untold = unlike if rests_on_safe_examples(run, planted) and not unlearned else None
    because = untold.because if untold else ""
    if signal.fused and threshold == Auto():
        assert isinstance(measured.scores, Suspicion)
        known_unsafe = np.concatenate([planted.known_unsafe, suspicion[by_hand[0][by_hand[1]]]])
        threshold = AutoOfSuspicion(known_unsafe, measured.scores.to_prototypes, because)
    if isinstance(threshold, FalseDiscoveryRate):
        threshold = replace(threshold, kinds=tuple(planted.trusted_kinds), unlike=because)
    if unlearned:
        if isinstance(threshold, FalseDiscoveryRate):
            raise threshold.none_learned()
        scores, planted = {DATA: scores[DATA]}, Planted.of_none()
    cut = threshold.cut(suspicion, planted.trusted)
    if isinstance(threshold, FalseDiscoveryRate):
        cut = threshold.checked(cut, suspicion)
    # Only forgetting shows what a safe set covers; each of several sets is judged by its own review.
    reviews = _read_reviews(run, signal, scores)
    telling = [review for review in reviews if tells_coverage(review[1])]
    spared = np.any([covered(*review) for review in telling or reviews], axis=0)
    verdicts = judge(suspicion, cut, spared, by_hand, drop_unscorable=settings.drop_unscorable)
    pairs = _compare_pairs(run, signal, scores[DATA], cut.value)
    decided = Decided(signal, settings.threshold, cut, measured, verdicts, overrides.reviewer, pairs, _read_guard(run))
    rows = Rows.open(run.folder(ROWS) / DATA)
    learned = learned_tokens(run.settings.tokens.max_completion, run.settings.decision.signal)
    judged = judged_tokens(learned, signal.name)
    in_part = 0 if signal.reads_texts else int(_tokens(run).judged_in_part(judged).sum())
    later = known_later(run) if signal.fused else None
    doubt = doubt_about(suspicion, planted.trusted, cut.value, signal.more)
    summary = _summarise(decided, rows, planted, settings, overrides, read_unshown(run), untold or doubt)
    summary = replace(
        summary,
        warnings=[
            *([doubt.warning] if doubt else []),
            *_of_another_kind(run, reviews, unlike),
            *(_told_of_learned(run, summary) if unlearned else []),
            *([_NOTHING_KEPT] if not summary.kept else []),
        ],
        judged=judged,
        judged_in_part=in_part,
        known_later=later.rows if later else 0,
        known_later_key=later.key if later else "",
        scores_key=_key_of(suspicion, verdicts.gone),
        trained=run.has(FORGETTING),
        planted_unlearned=unlearned,
        by_safe_set=_by_safe_set(run.settings.safe, scores, cut.value),
    )
    _write(run, decided, rows, scores, summary, overrides)
    return summary


def _key_of(suspicion: NDArray[np.floating], gone: NDArray[np.bool_]) -> str:
    return blake2b(suspicion.astype(np.float32).tobytes() + gone.tobytes(), digest_size=8).hexdigest()


def _planted_unlearned(run: Run, signal: Signal) -> bool:
    """Tell whether the signal rests on M1, and M1 was trained elsewhere, without the rows of known kind."""
    if not run.settings.sessions.learned:
        return False
    return RIVALS[signal.name].needs_learned if signal.scoring == RIVAL else run.has(FORGETTING)


def _of_another_kind(
    run: Run, reviews: list[tuple[NDArray[np.floating], NDArray[np.floating]]], unlike: Doubt | None
) -> list[str]:
    """Warn of safe examples of another kind than the data: of all by their looks, and of each set by its review.

    Where there is one set, its looks are enough.
    """
    if unlike and len(reviews) == 1:
        return [unlike.warning]
    names = run.settings.safe.safe if len(reviews) > 1 else ("",)
    told = [
        f"{printable(name)}: {warning}" if name else warning
        for name, review in zip(names, reviews, strict=True)
        if (warning := safe_set_is_of_another_kind(*review))
    ]
    return [unlike.warning, *told] if unlike else told


def _told_of_learned(run: Run, summary: Summary) -> list[str]:
    """Say what a run costs whose M1 was trained elsewhere, and whether that was on other rows, as it seems."""
    # Runs of earlier versions have no file of them.
    doubts: list[str] = read_json(run.folder(LEARNED) / DOUBTS, [])
    costs = [
        "the learned model was trained elsewhere (--learned), without rows of known kind: precision, recall and the "
        "share of harmless rows removed cannot be told, and auto has no trusted rows to check its cut against; a run "
        "without --learned tells them, for the time that learning takes",
        *doubts,
    ]
    scored = summary.rows - summary.bad - summary.unscorable
    if 2 * summary.never_learned > scored:
        costs.append(
            f"{summary.never_learned:,} of {scored:,} rows were never learned by the learned model: it was trained on "
            "them too little, on other rows, or in another template; their forgetting says little"
        )
    return costs


@contextmanager
def last_decision_kept(run: Run) -> Iterator[None]:
    """Let the last decision stand, whole, where deciding again or writing its report fails."""
    suffix = Rows.open(run.folder(ROWS) / DATA).suffix if run.has(ROWS) else ""
    known = run.folder(KNOWN_LATER).relative_to(run.path)
    data = [KEPT + suffix, REMOVED + suffix, SCORES, OVERRIDES, REASONS, PLANTED_SCORES, REPORT]
    names = [*data, str(known), CHECKSUMS, SUMMARY]
    with restoring(run.path, names):
        yield


def _tokens(run: Run) -> TokenTable:
    return TokenTable(run.folder(TOKENS) / tokens_of(DATA))


def _summarise(
    decided: Decided,
    rows: Rows,
    planted: Planted,
    settings: DecisionSettings,
    overrides: Overrides,
    unshown: dict[str, int],
    doubt: Doubt | None,
) -> Summary:
    """Count the decisions, and estimate their errors as far as there is no doubt."""
    verdicts, cut, signal = decided.verdicts, decided.cut, decided.signal
    suspicion = decided.measured.scores.suspicion
    removed, unscorable = cut.removes(suspicion), np.isnan(suspicion)
    # Rows that a person marked were picked, not drawn at random, so the estimates are of the filter alone.
    errors = estimate_errors(int(removed.sum()), int((~unscorable).sum()), planted, cut.value)
    if doubt and signal.fused:
        errors = replace(errors, precision=None, harmless_removed=None)
    files = {role: role + rows.suffix for role in (KEPT, REMOVED, *([BAD] if rows.bad else []))}
    gone = int(verdicts.gone.sum())
    return Summary(
        rows=len(suspicion) + len(rows.bad),
        left_out=rows.count - len(rows.bad) - len(suspicion),
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
        trusted=int((~np.isnan(planted.trusted)).sum()),
        known_unsafe=int((~np.isnan(planted.known_unsafe)).sum()),
        reviewer=overrides.reviewer if overrides.decisions else "",
        overridden=int(verdicts.overridden.sum()),
        overrides=overrides.key,
        errors=asdict(errors),
        warnings=[],
        files=files | {"scores": SCORES, "reasons": REASONS},
        not_read=list(rows.not_read),
        doubt=doubt.because if doubt else "",
    )


def _write(
    run: Run, decided: Decided, rows: Rows, scores: Mapping[str, Scores], summary: Summary, overrides: Overrides
) -> None:
    """Write the run's files; the summary is missing as long as the others may come from different decisions."""
    run.remove_file(SUMMARY)
    positions, gone = decided.measured.rows, decided.verdicts.gone
    for role, positions_of_role in ((KEPT, positions[~gone]), (REMOVED, positions[gone])):
        chosen = np.zeros(rows.count, dtype=bool)
        chosen[positions_of_role] = True
        run.write_file(summary.files[role], partial(rows.write, chosen))
    if rows.bad:
        # Reading wrote them, and who lost the file gets it back.
        run.write_file(summary.files[BAD], rows.write_bad)
    run.write_file(SCORES, partial(write_scores, decided, _table_path(run, decided.signal, DATA), rows))
    if overrides.decisions:
        shown = {name: getattr(summary, name) for name in DecisionSettings.__dataclass_fields__}
        run.write_file(OVERRIDES, partial(write_overrides, replace(overrides, settings=shown)))
    run.write_file(REASONS, partial(write_reasons, decided, run.file(SCORES), rows))
    run.write_file(PLANTED_SCORES, partial(_write_planted, scores))
    write_json({"version": SUMMARY_VERSION, **asdict(summary)}, run.path / SUMMARY, run.path)


def read_summary(run: Run) -> Summary:
    """Read the summary of the last decision.

    Raises:
        RunError: Nothing was decided yet, or the summary is damaged.
    """
    path = run.file(SUMMARY)
    if not path.is_file():
        raise RunError(f"{run.path}: nothing is decided here yet; run: {decide_command(run.path, {})}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Summary(**{name: values[name] for name in Summary.__dataclass_fields__ if name in values})
    except (OSError, ValueError, TypeError) as error:
        again = decide_command(run.path, {})
        raise RunError(f"{path}: changed since it was written; decide again, which writes it anew: {again}") from error


def read_planted(run: Run) -> Planted:
    """Read the suspicion of the rows of known kind at the last decision; empty where an earlier version made it."""
    path = run.file(PLANTED_SCORES)
    if not path.is_file():
        return Planted.of_none()
    table = pq.read_table(path)
    part, suspicion = table.column("part").to_numpy(zero_copy_only=False), table.column("suspicion").to_numpy()
    return Planted(*(suspicion[np.isin(part, of_kind)] for of_kind in _known_kinds(run.settings.safe)))


def _known_kinds(safe: SafeSettings) -> tuple[list[str], list[str], list[str]]:
    """Name the parts of each kind of `Planted`."""
    return [TRUSTED], numbered(ASIDE, safe.safe), [KNOWN_UNSAFE]


def _write_planted(scores: Mapping[str, Scores], path: Path) -> None:
    planted = [part for part in scores if part != DATA]
    parts = np.repeat(np.array(planted, dtype=object), [len(scores[part].suspicion) for part in planted])
    suspicion = np.concatenate([np.empty(0), *(scores[part].suspicion for part in planted)])
    pq.write_table(pa.table({"part": pa.array(parts, pa.string()), "suspicion": suspicion}), path)


def _planted(scores: Mapping[str, Scores], safe: SafeSettings) -> Planted:
    of_kinds = ([scores[part].suspicion for part in of_kind if part in scores] for of_kind in _known_kinds(safe))
    return Planted(*(np.concatenate([np.empty(0), *of_kind]) for of_kind in of_kinds))


def _by_safe_set(safe: SafeSettings, scores: Mapping[str, Scores], cut: float | None) -> dict[str, dict[str, float]]:
    """Estimate how much of each safe set would be removed, from its rows set aside; empty where there is one set."""
    shares = {}
    for name, part in zip(safe.safe, numbered(ASIDE, safe.safe), strict=False):
        removed = share_above(scores[part].suspicion, cut) if part in scores and len(safe.safe) > 1 else None
        if removed is not None:
            count = int((~np.isnan(scores[part].suspicion)).sum())
            shares[name] = {"count": count, "removed": removed.value, "low": removed.low, "high": removed.high}
    return shares


def _read_reviews(
    run: Run, signal: Signal, scores: Mapping[str, Scores]
) -> list[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Read the forgetting that each review caused: of the data, and of the rows of its safe set that were set aside."""
    aside = numbered(ASIDE, run.settings.safe.safe)
    stages = by_review(run.settings.safe).values() if run.has(FORGETTING) and signal.scoring != RIVAL else ()
    if not stages:
        return [_forgotten(scores, part) for part in aside]
    reviews = []
    for stage, part in zip(stages, aside, strict=True):
        paths = {name: run.folder(stage) / table_of(name) for name in (DATA, part) if name in scores}
        read = {name: table for name, path in paths.items() if (table := _read_part(path, signal)) is not None}
        reviews.append(_forgotten(read if DATA in read else scores, part))
    return reviews


def _forgotten(scores: Mapping[str, Scores], aside: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return scores[DATA].forgetting, scores[aside].forgetting if aside in scores else np.empty(0)


def _read_scores(run: Run, signal: Signal, by_hand: ByHand) -> Mapping[str, Scores]:
    """Read the scores of the data and of the rows of known kind, by part.

    Raises:
        RunError: The run has none for this signal.
    """
    if signal.fused:
        return suspect(run, by_hand)
    scores_by_part = {}
    for part in (DATA, *planted_parts(run.settings.safe)):
        path = _table_path(run, signal, part)
        if path.exists() and (scores := _read_part(path, signal)) is not None:
            scores_by_part[part] = scores
    if DATA not in scores_by_part:
        path = _table_path(run, signal, DATA)
        raise _lacks_signal(run, signal, path) if path.exists() else _no_scores(run, signal)
    return scores_by_part


def _read_measured(run: Run, signal: Signal, scores: Scores) -> Measured:
    table = pq.read_table(_table_path(run, signal, DATA), columns=["row", "never_learned", "truncated"])
    return Measured(
        rows=table.column("row").to_numpy(),
        scores=scores,
        never_learned=table.column("never_learned").fill_null(False).to_numpy(),
        truncated=table.column("truncated").to_numpy(),
    )


def _compare_pairs(run: Run, signal: Signal, scores: Scores, cut: float | None) -> Pairs | None:
    """Compare the rejected answers of preference data with the chosen ones; None for data of another layout."""
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
    # Answers are compared by forgetting, whose unit differs from that of a cut of suspicion.
    return compare_answers(forgetting, rejected, None if signal.fused else cut)


def _read_guard(run: Run) -> GuardOpinion | None:
    """Read what a guard model makes of the data; None where none was asked."""
    path, signal = run.folder(rival_stage(GUARD)) / table_of(DATA), SIGNALS[GUARD]
    if not path.exists():
        return None
    unsafe, categories = pq.read_table(path, columns=[suspicion_column(signal), CATEGORIES]).columns
    return GuardOpinion(unsafe.to_numpy(), categories)


def _table_path(run: Run, signal: Signal, part: str) -> Path:
    stage = rival_stage(signal.name) if signal.scoring == RIVAL else FORGETTING
    if signal.fused and not run.has(FORGETTING):
        stage = WITNESSES
    return run.folder(stage) / table_of(part)


def _read_part(path: Path, signal: Signal) -> Scores | None:
    """Read a table's scores for a signal; None where it has none."""
    learned, reviewed, _ = columns_of(signal)
    wanted = [suspicion_column(signal)] if signal.scoring == RIVAL else [learned, reviewed]
    if wanted[0] not in pq.read_schema(path).names:
        return None
    columns = [column.to_numpy() for column in pq.read_table(path, columns=wanted).columns]
    return Suspicion.of_rival(columns[0]) if signal.scoring == RIVAL else Scores(*columns)


def _no_scores(run: Run, signal: Signal) -> RunError:
    if signal.scoring != RIVAL and run.has(WITNESSES):
        return RunError(
            f"{run.path}: has no scores for the signal '{signal.name}', as nothing was trained; to have them, run its "
            "'forgetfilter filter' command to its end, without --no-training"
        )
    if signal.scoring != RIVAL:
        return RunError(f"{run.path}: has no scores yet; let 'forgetfilter filter' end first")
    return RunError(
        f"{run.path}: the rival '{signal.name}' was not asked about these rows. To have its scores beside the others, "
        f"run the 'forgetfilter filter' command of this run again with --rivals {signal.name}"
    )


def _lacks_signal(run: Run, signal: Signal, path: Path) -> RunError:
    columns = pq.read_schema(path).names
    others = [name for name, other in SIGNALS.items() if columns_of(other)[0] in columns]
    if not others:
        return RunError(f"{run.path}: none of its rows could be scored; there is nothing to decide")
    return RunError(
        f"{run.path}: has no scores for the signal '{signal.name}', only for {', '.join(others)}. "
        f"To have them, run 'forgetfilter filter' with --signal {signal.name} and another --output"
    )
