"""Fit a rule to the rows of a decided run once, keep it in the run folder, and tell how well it agrees with the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.draw import ranks_of_copies
from ..data.tokens import TokenTable
from ..decision.decide import Summary, read_summary
from ..decision.overrides import read_overrides
from ..decision.suspicion import fuse_all, places_by_hand, rests_on_safe_examples, safe_examples_look_unlike
from ..decision.verdicts import NOBODY, ByHand
from ..errors import RunError
from ..forgetting.auto import Auto
from ..forgetting.cuts import NO_ROWS, Cut, FalseDiscoveryRate
from ..forgetting.estimates import Planted
from ..forgetting.signals import SIGNALS, SUSPICION
from ..forgetting.thresholds import parse_threshold
from ..runs.checksums import differences
from ..runs.damage import damage_named
from ..runs.files import seal, written_whole
from ..runs.layout import (
    ASIDE,
    DATA,
    DISTILLED_FOR,
    DISTILLED_RULE,
    HELD_OUT,
    OVERRIDES,
    SCORES,
    STAGES,
    TOKENS,
    TRUSTED,
    distilled_stage,
    numbered,
    tokens_of,
)
from ..runs.manifest import made_of, note_made_of
from ..runs.run import Run, decide_command
from ..stages.known_later import check_can_look
from ..suspicion.distilled import Agreement, DistilledRule, as_strict, compare_with_run, distil
from ..suspicion.fusing import WORDS
from ..suspicion.likeness import choose_fitted

FloatArray = NDArray[np.floating]
# Relative and absolute differences of suspicion between machines.
_SAME = 1e-3, 1e-3


@dataclass(frozen=True)
class FittedRule:
    """A rule, and what it says of the run's own rows, each of which it predicts without having seen it.

    Attributes:
        rule: The rule.
        key: Identifies the decision that it was fitted to.
        unit: The unit of suspicion.
        predicted: Suspicion of n of the run's rows by the rule, shape (n,).
        suspicion: Suspicion of the same rows by the run, shape (n,).
        removed: Whether the run removed them, by the filter or by a person, shape (n,).
        trusted: Suspicion of the rows known to be harmless by the rule, shape (m,).
        set_aside: Which of these are safe examples, shape (m,).
        untold: Why these tell nothing of errors; empty where they may.
        unlearned: Whether M1 was trained elsewhere, without them.
    """

    rule: DistilledRule
    key: str
    unit: str
    predicted: FloatArray
    suspicion: FloatArray
    removed: NDArray[np.bool_]
    trusted: FloatArray
    set_aside: NDArray[np.bool_]
    untold: str
    unlearned: bool

    @property
    def planted(self) -> Planted:
        """Tell the rows known to be harmless apart."""
        return Planted(self.trusted[~self.set_aside], self.trusted[self.set_aside], NO_ROWS)

    def cut(self, threshold: str) -> Cut:
        """Find the cut for further rows; `auto` removes as large a share of the run's rows as the run removed.

        Raises:
            SettingsError: The threshold cannot be parsed, or there are no trusted rows for it.
        """
        parsed = parse_threshold(threshold)
        if parsed == Auto():
            value = as_strict(self.predicted, int(self.removed.sum()))
            return Cut(value, "as strict as the run" if value is not None else "the run removed nothing")
        if not isinstance(parsed, FalseDiscoveryRate):
            return parsed.cut(self.predicted, self.trusted)
        if self.unlearned:
            raise parsed.none_learned()
        rate = replace(parsed, kinds=tuple(self.planted.trusted_kinds), unlike=self.untold)
        return rate.checked(rate.cut(self.predicted, self.trusted), self.predicted)

    def agreement(self, cut: Cut) -> Agreement:
        """Compare what the rule predicts with what the run decided, at a cut."""
        return compare_with_run(self.predicted, self.suspicion, self.removed, cut.value)


def fitted_rule(run: Run, evidence: str) -> FittedRule:
    """Read the rule that was fitted to a run's present decision, or fit it.

    Args:
        run: A run that was decided by suspicion.
        evidence: What the rule may look at: `words`, or `states` for words and hidden states.

    Raises:
        RunError: Nothing was decided yet, another signal decided, or an earlier version wrote the run.
    """
    summary = read_summary(run)
    if not SIGNALS[summary.signal].fused:
        command = decide_command(run.path, {"signal": SUSPICION.name})
        raise RunError(
            f"{run.path}: was decided by the signal '{summary.signal}', and further rows are ranked by suspicion; "
            f"decide again first: {command}"
        )
    check_can_look(run)
    stage = distilled_stage(evidence)
    folder = run.path / STAGES / stage
    # A run that has the rule may lie where nothing can be written.
    if not _is_fitted(folder, summary):
        with filelock.FileLock(run.path / STAGES / f".{stage}.lock"):
            # Another process may have fitted it while this one waited.
            if not _is_fitted(folder, summary):
                run.drop(stage)
                with written_whole(folder) as beside:
                    _fit(run, summary, evidence, beside)
    with damage_named(run.path):
        with (folder / HELD_OUT).open("rb") as file, np.load(file) as kept:
            arrays = {name: kept[name] for name in ("predicted", "suspicion", "removed", "trusted", "set_aside")}
        rule = DistilledRule.load(folder / DISTILLED_RULE)
    fitted = FittedRule(rule, summary.key, summary.unit, **arrays, untold="", unlearned=summary.planted_unlearned)
    untold = safe_examples_look_unlike(run) if rests_on_safe_examples(run, fitted.planted) else None
    return replace(fitted, untold=untold.because if untold else "")


def _is_fitted(folder: Path, summary: Summary) -> bool:
    """Tell whether the rule was fitted to this decision, and is as it was written; fitting it again takes seconds."""
    return made_of(folder / DISTILLED_FOR, _made_for(summary)) and not any(differences(folder, contents=True))


def _made_for(summary: Summary) -> str:
    """Identify what a rule was fitted to, and what is kept of it: earlier versions left out what a person removed."""
    return f"{summary.key} by kind and hand"


def _fit(run: Run, summary: Summary, evidence: str, folder: Path) -> None:
    by_hand = _by_hand(run, summary)
    witnesses, fused, tables = fuse_all(run, by_hand)
    removed = Cut(summary.cut, "").removes(fused.suspicion)
    places, removed_by_hand = places_by_hand(witnesses.of(DATA), tables[DATA], by_hand)
    removed[places] = removed_by_hand
    ranks = ranks_of_copies(witnesses.ids)
    fitted = choose_fitted(witnesses.part == DATA, ranks)
    part, features = witnesses.part[fitted], witnesses.features.take(fitted)
    if evidence == WORDS:
        features = features.without_states()
    suspicion = fused.suspicion[fitted]
    _check_decided_by(run, fused.suspicion[witnesses.of(DATA)])
    rule, predicted = distil(suspicion, features, ranks[fitted])
    data, harmless = part == DATA, np.isin(part, [TRUSTED, *numbered(ASIDE, run.settings.safe.safe)])
    folder.mkdir()
    rule.save(folder / DISTILLED_RULE)
    np.savez(
        folder / HELD_OUT,
        predicted=predicted[data],
        suspicion=suspicion[data],
        removed=removed[fitted][data],
        trusted=predicted[harmless],
        set_aside=part[harmless] != TRUSTED,
    )
    note_made_of(folder / DISTILLED_FOR, _made_for(summary))
    seal(folder)


def _check_decided_by(run: Run, suspicion: FloatArray) -> None:
    """Check that this is the suspicion that decided: other versions weigh the evidence otherwise."""
    decided = pq.read_table(run.file(SCORES), columns=["suspicion"]).column(0).to_numpy()
    decided = decided[~np.isnan(decided)]
    if len(decided) != len(suspicion) or not np.allclose(np.sort(decided), np.sort(suspicion), *_SAME):
        again = decide_command(run.path, {})
        raise RunError(
            f"{run.path}: was decided by an earlier version, which weighed the evidence otherwise; decide again: "
            f"{again}"
        )


def _by_hand(run: Run, summary: Summary) -> ByHand:
    """Read which rows of the run a person decided about."""
    if not summary.overrides:
        return NOBODY
    overrides = read_overrides(run.file(OVERRIDES))
    return overrides.find(TokenTable(run.folder(TOKENS) / tokens_of(DATA)).ids, run.path)
