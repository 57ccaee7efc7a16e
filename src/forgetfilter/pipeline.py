"""Algorithm 1 of the paper, as stages that can be resumed; and deciding again, without the model.

learned  = finetune(M0, noisy)             M1
reviewed = finetune(learned, safe)         M2
r        = s(learned) - s(reviewed)        forgetting of every noisy row, Eq. 3
kept     = rows with r at or below the threshold
model    = finetune(M0, kept)              M_ret, on request
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Console, count_of
from .data.records import Container
from .decision.again import (
    Standing,
    drop_known_later,
    how_a_person_decided,
    known_later_told,
    last_overrides,
    settings_of_decision,
    standing_decision,
    still_hold,
)
from .decision.decide import Summary, decide, last_decision_kept, read_summary
from .decision.overrides import KEPT, REMOVED, Overrides
from .errors import SettingsError
from .forgetting.signals import RIVAL, SIGNALS
from .report import unsure, write_report
from .runs.inputs import NONE, Inputs
from .runs.layout import EXAMPLES, FORGETTING, LEARNED, LOG, MODEL, REPORT, REVIEWED, WITNESSES, rival_stage
from .runs.run import Run, decide_command, locked
from .settings.groups import Settings
from .stages.answers import answer_prompts, ask_examples
from .stages.filter_run import FilterRun, asked_rivals, started
from .stages.final_model import finetune_kept, made_from
from .stages.known_later import check_can_look, look_at_known
from .stages.planning import plan_run
from .stages.sessions import learn, measure, review, reviews, score
from .stages.witnesses import can_look_further, measure_witnesses

if TYPE_CHECKING:
    from .rivals.registry import Rival


def run_filter(
    settings: Settings,
    inputs: Inputs,
    output: Path,
    console: Console,
    *,
    overwrite: bool = False,
    show: Callable[[Run, Summary], None] = lambda *_: None,
) -> tuple[Run, Summary]:
    """Filter a data set into a run folder, going on where an earlier attempt stopped.

    Args:
        settings, inputs: What is filtered, and how.
        output: The run folder.
        console: Where to tell what goes on.
        overwrite: Start again even if the folder holds a run.
        show: Called with the decision in the first process, before the model is asked for examples or fine-tuned.

    Raises:
        ForgetFilterError: Anything the user can mend: inputs, settings, the folder.
    """
    signal = SIGNALS[settings.decision.signal]
    if not settings.sessions.training and not signal.fused:
        raise SettingsError(f"training: the signal {settings.decision.signal} needs training; leave --signal out")
    for rival in _rivals(settings):
        # A rival that lacks something says so before anything is trained.
        rival.told_by(settings)
    with started(settings, inputs, output, console, overwrite=overwrite) as work:
        standing = _stand(work)
        console.follow(plan_run(work))
        answer_prompts(work)
        if signal.fused:
            _first_look(work, standing)
        if settings.sessions.training and signal.scoring != RIVAL:
            learn(work)
            score(work, LEARNED)
            for safe, reviewed in reviews(work):
                review(work, safe, reviewed)
                score(work, reviewed)
            measure(work)
        _ask_rivals(work)
        work.drop_states()
        summary = _decide(work, standing)
        if work.processes.main:
            write_report(work.run, summary)
            show(work.run, summary)
        if work.run.has(REVIEWED) and not work.run.has(EXAMPLES) and settings.report.examples:
            ask_examples(work, summary.cut)
            if work.processes.main:
                write_report(work.run, summary)
        if settings.final.finetune:
            finetune_kept(work, summary)
        return work.run, summary


def _stand(work: FilterRun) -> Standing:
    """Find what stays of the last decision, and say so."""
    standing = standing_decision(work.run)
    if work.processes.main:
        for line in standing.told:
            work.console.say(line)
    # No process decides while another reads what was decided.
    work.processes.wait()
    return standing


def _first_look(work: FilterRun, standing: Standing) -> None:
    """Measure what can be told of the rows before anything is trained; a first decision rests on that alone."""
    run = work.run
    if not can_look_further(run):
        # There is none yet, or an earlier version made it.
        work.runner.work(WITNESSES, partial(measure_witnesses, work.run, work.runner, work.material))
    if run.settings.sessions.training and not run.has(FORGETTING) and work.processes.main:
        with last_decision_kept(run):
            summary = decide(run, standing.settings, standing.overrides)
            write_report(run, summary)
        rows, page = count_of(summary.rows, "row"), run.path / REPORT
        told = f"{summary.removed:,} of {rows} would be removed; see {page}, or stop here and keep that"
        if unsure(run.path, summary):
            told = f"not sure of any of {rows}, so that none would be removed; {page} has the most suspicious ones"
        files = f"{summary.files[KEPT]} and {summary.files[REMOVED]} are provisional until the run ends"
        work.console.say(f"a first look, before training: {told}; {files}")
    work.processes.wait()


def _ask_rivals(work: FilterRun) -> None:
    """Measure suspicion of every row by other filters: that which decides, and those to compare with."""
    from .rivals.registry import is_measured, measure_rival

    settings = work.run.settings
    for rival in _rivals(settings):
        stage = rival_stage(rival.name)
        if rival.needs_learned:
            learn(work)
        if not is_measured(rival, work.run.folder(stage), settings):
            work.runner.work(stage, partial(measure_rival, rival, work.runner, work.material))


def _rivals(settings: Settings) -> list[Rival]:
    from .rivals.registry import RIVALS

    return [RIVALS[name] for name in asked_rivals(settings)]


def _decide(work: FilterRun, standing: Standing) -> Summary:
    """Write the kept and the removed rows, as the first process decides them."""
    run = work.run
    if work.processes.main:
        if known := known_later_told(run, fused=SIGNALS[standing.settings.signal].fused):
            work.console.say(known)
        with last_decision_kept(run):
            decide(run, standing.settings, standing.overrides)
    work.processes.wait()
    return read_summary(run)


def run_decide(
    output: Path,
    changed: Mapping[str, Any],
    console: Console,
    *,
    overrides: Overrides | None = None,
    known_unsafe: str | Container | None = None,
    finetune: bool = False,
) -> tuple[Run, Summary]:
    """Decide again from a run's scores, and fine-tune on what is kept now if asked to.

    Where this fails, the last decision stands.

    Args:
        output: The run folder.
        changed: Decision settings by name. The others are those that the overrides were saved with, or else those
            of the last decision.
        console: Where to tell what goes on.
        overrides: What a person decided about some rows; those of the last decision if None.
        known_unsafe: Rows known to be unsafe that were found since, or where they are; they take the place of those
            that an earlier decision was given. `none` drops these.
        finetune: Also train the untouched model on the rows that are kept now.

    Raises:
        SettingsError: A setting is unknown, or cannot be what it is; known unsafe rows tell nothing by this signal.
        RunError: There is no such run, it has no scores of the signal's kind, or a person's decisions that the last
            decision heeded were changed or lost.
        InputError: The known unsafe rows cannot be read.
        ModelError: The model, which looks at them, is not there.
    """
    run = Run.open(output)
    work: FilterRun | None = None
    with locked(output):
        settings, said = settings_of_decision(run, changed, overrides)
        fused = SIGNALS[settings.signal].fused
        if known_unsafe not in (None, NONE) and not fused:
            raise SettingsError(
                f"decide: known_unsafe: tells nothing by the signal {settings.signal}, as no model was trained on "
                "these rows; it needs --signal suspicion"
            )
        console.log_to(output / LOG)
        person = how_a_person_decided(run) if overrides and not overrides.decisions else ""
        if overrides is None and (overrides := last_overrides(run)):
            person = still_hold(overrides)
        with last_decision_kept(run):
            if known_unsafe == NONE:
                known = drop_known_later(run)
            elif known_unsafe is not None:
                check_can_look(run)
                work = FilterRun.reopen(run, console)
                found = look_at_known(run, known_unsafe, work.runner, console)
                known = f"known to be unsafe from now on: {found}"
            else:
                known = known_later_told(run, fused=fused)
            summary = decide(run, settings, overrides)
            write_report(run, summary)
        for line in filter(None, (said, known, person)):
            console.say(line)
        epochs = run.settings.final.finetune_epochs
        if not finetune and run.has(MODEL) and not made_from(run.folder(MODEL), summary, epochs):
            command = decide_command(run.path, {})
            console.say(f"{run.folder(MODEL)}: made from an earlier decision; to train it anew: {command} --finetune")
        if finetune:
            finetune_kept(work or FilterRun.reopen(run, console), summary)
    return run, summary
