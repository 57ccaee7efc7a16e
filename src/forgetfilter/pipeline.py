"""Algorithm 1 of the paper, as stages that can be resumed.

learned  = finetune(M0, noisy)             M1
reviewed = finetune(learned, safe)         M2
r        = s(learned) - s(reviewed)        forgetting of every noisy row, Eq. 3
kept     = rows with r at or below the threshold
model    = finetune(M0, kept)              M_ret, on request
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .console import Console
from .data.records import Container
from .data.tokens import Encoder, TokenTable
from .decision.decide import OVERRIDES, Summary, decide, read_summary
from .decision.overrides import Overrides
from .decision.suspicion import FORGETTING, by_review
from .errors import InputError, RunError, SettingsError
from .forgetting.measuring import ScoredRows, measure_forgetting, rival_stage
from .forgetting.signals import ALL, RIVAL, SIGNALS
from .models.processes import Processes, spreads_the_model
from .models.sources import ModelSource, find_model
from .models.stage_runner import BASE, Workbench
from .report import write_report
from .runs.inputs import (
    ANSWERED,
    DATA,
    NONE,
    REJECTED,
    SAFE,
    SELF,
    Inputs,
    Material,
    fingerprints,
    make_encoder,
    own_answers_part,
    read_parts,
    resolve,
    tokenize_parts,
    write_part,
)
from .runs.run import (
    LEARNED,
    LOG,
    MODEL,
    REPORT,
    REVIEWED,
    SCORES,
    Run,
    decide_command,
    drop_previous,
    last_decision,
    locked,
    numbered,
    replacing,
)
from .settings.groups import MOST_REVIEW_STEPS, DecisionSettings, Settings
from .settings.option import from_mapping, split_names
from .stages.examples import ANSWER_TOKENS, EXAMPLES, EXAMPLES_FILE, choose_examples, write_examples
from .stages.final_model import WHOLE_TOKENS, kept_rows, made_from, prepare
from .stages.known_later import KNOWN_LATER, check_can_look, known_later, look_at_known
from .stages.own_answers import ANSWERS, answered, choose_prompts, write_answers
from .stages.witnesses import WITNESSES, can_look_further, measure_witnesses

if TYPE_CHECKING:
    from .models.scoring import Scorer

_OWN_ANSWER_TOKENS = 128


def run_filter(
    settings: Settings, inputs: Inputs, output: Path, console: Console, *, overwrite: bool = False
) -> tuple[Run, Summary]:
    """Filter a data set into a run folder, going on where an earlier attempt stopped.

    Raises:
        ForgetFilterError: Anything the user can mend: inputs, settings, the folder.
    """
    if not settings.training and not SIGNALS[settings.signal].fused:
        raise SettingsError(f"training: the signal {settings.signal} needs training; leave --signal out")
    output = output.absolute()
    processes = Processes(settings.device)
    if processes.count > 1:
        parts = ", each with a part of the model" if spreads_the_model() else ""
        console.say(f"{processes.count} processes share the work{parts}")
    with locked(output) if processes.main else nullcontext():
        if not inputs.model.local:
            console.say(f"asking the hub for {inputs.model.location}")
        encoder = make_encoder(inputs.model, settings)
        if processes.main:
            with replacing(output) if overwrite else nullcontext():
                started_with = resolve(settings, encoder)
                prints = {part: container.fingerprint() for part, container in inputs.parts.items()}
                if len(settings.safe) > 1 and (own := own_answers_part(settings)):
                    prints[own] = SELF
                started = Run.start(output, started_with, prints | fingerprints(inputs.model, encoder))
                console.log_to(output / LOG)
                read_parts(started, inputs, encoder, console)
                tokenize_parts(started, encoder, console)
            drop_previous(output)
        processes.wait()
        run = Run.open(output)
        pipeline = _Pipeline(run, inputs.model, encoder, console, processes)
        pipeline.answer()
        signal, rivals = SIGNALS[run.settings.signal], split_names(run.settings.rivals)
        if signal.scoring == RIVAL:
            rivals.insert(0, run.settings.signal)
        elif signal.fused:
            pipeline.look()
        if signal.scoring != RIVAL and settings.training:
            pipeline.learn()
            pipeline.score(LEARNED)
            for safe, reviewed in zip(pipeline.material.safe_parts, pipeline.reviews, strict=True):
                pipeline.review(safe, reviewed)
                pipeline.score(reviewed)
            pipeline.measure()
        pipeline.ask_rivals(rivals)
        pipeline.bench.drop_states((*pipeline.material.scored, *pipeline.material.safe_parts))
        summary = pipeline.decide(run.settings)
        if run.has(REVIEWED):
            pipeline.ask(summary)
        if processes.main:
            write_report(run, summary)
        if settings.finetune:
            pipeline.finetune_kept(summary)
        return run, summary


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
        overrides: What a person decided about some rows.
        known_unsafe: Rows known to be unsafe that were found since, or where they are; they take the place of those
            that an earlier decision was given. `none` drops these.
        finetune: Also train the untouched model on the rows that are kept now.

    Raises:
        SettingsError: A setting is unknown, or cannot be what it is; known unsafe rows tell nothing by this signal.
        RunError: There is no such run, or it has no scores of the signal's kind.
        InputError: The known unsafe rows cannot be read.
        ModelError: The model, which looks at them, is not there.
    """
    run = Run.open(output)
    settings, said = _settings_of_decision(run, changed, overrides)
    fused = SIGNALS[settings.signal].fused
    if known_unsafe not in (None, NONE) and not fused:
        raise SettingsError(
            f"decide: known_unsafe: tells nothing by the signal {settings.signal}, as nothing learned these rows; "
            "it needs --signal suspicion"
        )
    pipeline: _Pipeline | None = None
    with locked(output):
        console.log_to(output / LOG)
        alone = "" if overrides and overrides.decisions else _how_a_person_decided(run)
        with nullcontext() if known_unsafe is None else run.restoring(KNOWN_LATER):
            if known_unsafe == NONE:
                known = _without_known_later(run)
            elif known_unsafe is not None:
                check_can_look(run)
                pipeline = _with_model(run, console)
                found = look_at_known(run, known_unsafe, pipeline.bench, console)
                known = f"known to be unsafe from now on: {found}"
            else:
                known = _known_later_told(run, fused=fused)
            summary = decide(run, settings, overrides)
        for line in filter(None, (said, known, alone)):
            console.say(line)
        write_report(run, summary)
        if not finetune and run.has(MODEL) and not made_from(run.folder(MODEL), summary, run.settings.finetune_epochs):
            command = decide_command(run.path, {})
            console.say(f"{run.folder(MODEL)}: made from an earlier decision; to train it anew: {command} --finetune")
        if finetune:
            (pipeline or _with_model(run, console)).finetune_kept(summary)
    return run, summary


def _with_model(run: Run, console: Console) -> _Pipeline:
    """The stages of a finished run that need its model.

    Raises:
        ModelError: The model is not there.
        RunError: It is not the one that the run was made with.
    """
    source = find_model(run.settings.model, run.settings.revision)
    encoder = make_encoder(source, run.settings)
    run.check(fingerprints(source, encoder))
    return _Pipeline(run, source, encoder, console, Processes(run.settings.device))


def _without_known_later(run: Run) -> str:
    """Drop the rows that became known after a run, and say so."""
    known = known_later(run)
    run.drop(KNOWN_LATER)
    return f"known to be unsafe no more: {known}" if known else "no rows were given to 'decide --known-unsafe' before"


def _known_later_told(run: Run, *, fused: bool) -> str:
    """That rows which became known after a run are evidence still, or are not by the signal; mostly nothing."""
    known = known_later(run)
    if known is None:
        return ""
    if not fused:
        return f"known to be unsafe since the run, which tells nothing by this signal: {known}"
    return f"known to be unsafe, as an earlier decision was told: {known}; --known-unsafe none drops them"


def _settings_of_decision(
    run: Run, changed: Mapping[str, Any], overrides: Overrides | None
) -> tuple[DecisionSettings, str]:
    """What is decided with, and a line on where it comes from as far as the user did not say it.

    Raises:
        SettingsError: A setting is unknown, or cannot be what it is.
    """
    names = [field.name for field in fields(DecisionSettings)]
    places = {
        "as the overrides were saved with": overrides.settings if overrides else {},
        "as last decided": last_decision(run.path),
        "as the run was started": vars(run.settings),
    }
    chosen, where = {str(name).replace("-", "_"): value for name, value in changed.items()}, {}
    for name in names:
        if name not in chosen:
            where[name], values = next((place, of) for place, of in places.items() if name in of)
            chosen[name] = values[name]
    settings = from_mapping(DecisionSettings, chosen, "decide")
    # Rows without a score go with the kept ones unless somebody asked otherwise, which is worth a word.
    told = {
        "threshold": f"threshold {settings.threshold}",
        "signal": f"signal {settings.signal}",
        "drop_unscorable": "rows without a score among the removed" if settings.drop_unscorable else "",
    }
    by_place: dict[str, list[str]] = {}
    for name in told:
        if name in where and told[name]:
            by_place.setdefault(where[name], []).append(told[name])
    lines = [" and ".join(filter(None, [", ".join(of[:-1]), of[-1]])) + f", {at}" for at, of in by_place.items()]
    return settings, "; ".join(lines)


def _how_a_person_decided(run: Run) -> str:
    """How to bring a person's decisions back that the last decision heeded and the next does not; mostly nothing."""
    try:
        summary = read_summary(run)
    except RunError:
        return ""
    command = decide_command(run.path, last_decision(run.path), run.path / OVERRIDES)
    said = f"the filter decides alone again; a person's decisions come back with: {command}"
    return said if summary.overrides else ""


class _Pipeline:
    """The stages that need the model. Each does nothing where it is finished already."""

    def __init__(self, run: Run, source: ModelSource, encoder: Encoder, console: Console, processes: Processes) -> None:
        self.run, self.settings = run, run.settings
        self.source, self.encoder, self.console, self.processes = source, encoder, console, processes
        self.bench = self._bench(run.settings)
        self.material = Material(run)
        self.reviews = numbered(REVIEWED, run.settings.safe)

    def _bench(self, settings: Settings) -> Workbench:
        return Workbench(self.run, self.source, settings, self.encoder, self.console, self.processes)

    def answer(self) -> None:
        """With `--safe self`, M0's answers to the data's own prompts take the place of the safe examples."""
        part = own_answers_part(self.settings)
        if part is not None:
            self.bench.stage(ANSWERED, partial(self._answer, part))

    def _answer(self, part: str, folder: Path) -> None:
        table, scores = self.material.tokens(DATA), folder / "scores"
        self.bench.check_tokens(self.material.files(DATA).values())
        chosen = choose_prompts(table, self.settings.self_answers, self.settings.seed)
        self._answers("answering the data's prompts", BASE, chosen, _OWN_ANSWER_TOKENS, scores)
        if self.processes.main:
            rows = self.material.rows(DATA)
            said = list(answered(rows, table, scores, self.encoder.tokenizer))
            if not said:
                raise InputError(f"{rows.name}: the model has no answer to any of its prompts; name a --safe file")
            write_answers(said, folder / ANSWERS)
            write_part("the answers", said, len(said), self.encoder, folder / f"{part}.arrow", self.console)

    def look(self) -> None:
        """What can be told of the rows before anything is trained; a first decision rests on that alone."""
        if not can_look_further(self.run):
            # There is none yet, or an earlier version made it.
            self.bench.work(WITNESSES, partial(measure_witnesses, self.bench, self.material))
        if self.settings.training and not self.run.has(FORGETTING) and self.processes.main:
            summary = decide(self.run, self.run.settings)
            write_report(self.run, summary)
            self.console.say(
                f"a first look, before training: {summary.removed:,} of {summary.rows:,} rows are removed "
                f"({summary.explanation}); see {self.run.path / REPORT}, or stop here and keep that"
            )
        self.processes.wait()

    def learn(self) -> None:
        """M1: the aligned model trained on the untrusted data, and on the rows of known kind among it."""
        self.bench.stage(LEARNED, self._learn)

    def _learn(self, folder: Path) -> None:
        from .models.callbacks.stopping import LevelledOff

        self.bench.bring(BASE)
        # What is reviewed is looked at now as well, before anything is learned.
        self.bench.check_tokens(self.material.files(*self.material.parts, *self.material.safe_parts).values())
        table = self._tokens(*self.material.parts)
        rows, epochs = table.scorable, self.settings.epochs
        stop = LevelledOff(self.bench.steps(len(rows), 1)) if epochs is None else None
        self.bench.train("learning", table, rows, self.bench.steps(len(rows), epochs), folder, LEARNED, stop)

    def review(self, safe: str, reviewed: str) -> None:
        """M2: the learned model trained on safe examples; an M2 for each set of them, all from the same M1."""
        self.bench.stage(reviewed, partial(self._review, safe, reviewed))

    def _review(self, safe: str, reviewed: str, folder: Path) -> None:
        from .models.callbacks.stopping import Looks, Settled, Watched

        self.bench.bring(LEARNED)
        table, steps = self._tokens(safe), self.settings.review_steps
        looks = Looks(self.bench.session, self._tokens(DATA), folder, self.settings.seed)
        # Scores by likelihood tell what looks before and after the review would.
        stop = Settled(looks) if steps is None else Watched(looks, steps, ends=self._scoring != "likelihood")
        rows, most = table.scorable, steps or MOST_REVIEW_STEPS
        label = "safety review" if safe == SAFE else f"safety review with the {safe} rows"
        self.bench.train(label, table, rows, most, folder, reviewed, stop)

    def score(self, state: str) -> None:
        """s(M1) or s(M2) of every row of the untrusted data, and of the rejected answer of each."""
        self.bench.stage(f"{state}-scores", lambda folder: self._score(state, folder))

    def _score(self, state: str, folder: Path) -> None:
        self.bench.bring(state)
        for part in self.material.scored:
            scores = folder / part
            scores.mkdir(exist_ok=True)
            table = self._tokens(part)
            what = {DATA: "", REJECTED: "rejected answers "}.get(part, f"{part} rows ")
            label = f"scoring {what}with the {state} model"
            self.bench.score(label, self._scorer(), table, table.scorable, scores)

    def _tokens(self, *parts: str) -> TokenTable:
        return self.bench.tokens(self.material.files(*parts))

    def _scorer(self) -> Scorer:
        from .models.scoring import Likelihood, Rouge

        session, budget = self.bench.session, self.bench.budget
        if self._scoring == "rouge":
            return Rouge(session, self.encoder.tokenizer, budget)
        return Likelihood(session, budget)

    @property
    def _scoring(self) -> str:
        return SIGNALS[self.settings.signal].scoring

    def measure(self) -> None:
        """r of every row, by every signal that the scores allow: of several reviews by each, and over all of them."""
        for stage, reviewed in zip(by_review(self.settings).values(), self.reviews, strict=False):
            self.bench.stage(stage, partial(self._measure, [reviewed]))
        self.bench.stage(FORGETTING, partial(self._measure, self.reviews))

    def _measure(self, reviews: Sequence[str], folder: Path) -> None:
        if self.processes.main:
            learned, *reviewed = (self.run.folder(f"{state}-scores") for state in (LEARNED, *reviews))
            scored = {
                part: ScoredRows(
                    partial(self.material.said, part),
                    self.material.tokens(part),
                    learned / part,
                    [scores / part for scores in reviewed],
                )
                for part in self.material.scored
            }
            # Rejected answers by themselves: the data is measured as if there were none.
            rejected = {part: scored.pop(part) for part in [REJECTED] if part in scored}
            whole = self.settings.max_completion == ALL
            measure_forgetting(scored, self._scoring, folder, whole=whole)
            measure_forgetting(rejected, self._scoring, folder, whole=whole)

    def ask_rivals(self, rivals: Sequence[str]) -> None:
        """Suspicion of every row by other filters, to compare with."""
        from .rivals.registry import RIVALS, is_measured, measure_rival

        for rival in map(RIVALS.__getitem__, rivals):
            if rival.needs_learned:
                self.learn()
            stage = rival_stage(rival.name)
            if not is_measured(rival, self.run.folder(stage), self.settings):
                self.bench.work(stage, partial(measure_rival, rival, self.bench, self.material))

    def decide(self, settings: DecisionSettings) -> Summary:
        """Kept and removed rows, as the first process decides them."""
        if self.processes.main:
            last, said = last_decision(self.run.path), _how_a_person_decided(self.run)
            if not said and any(getattr(settings, name) != value for name, value in last.items()):
                command = decide_command(self.run.path, last)
                said = f"decided as the run was started; the last decision comes back with: {command}"
            for line in filter(None, (said, _known_later_told(self.run, fused=SIGNALS[settings.signal].fused))):
                self.console.say(line)
            decide(self.run, settings)
        self.processes.wait()
        return read_summary(self.run)

    def ask(self, summary: Summary) -> None:
        """What M1 and M2 say to the prompts of a few rows, those that the first decision makes worth a look."""
        self.bench.stage(EXAMPLES, lambda folder: self._ask(summary, folder))

    def _ask(self, summary: Summary, folder: Path) -> None:
        table = self.material.tokens(DATA)
        decided = pq.read_table(self.run.path / SCORES, columns=["id", "row", "suspicion"])
        chosen = choose_examples(table, decided, summary.cut)
        # M2 first: that is what the model is after the review.
        answers = {state: folder / state for state in (REVIEWED, LEARNED)}
        for state, said in answers.items():
            self._answers(f"asking the {state} model", state, chosen, ANSWER_TOKENS, said)
        if self.processes.main:
            write = partial(write_examples, self.material.rows(DATA), table, chosen, answers, self.encoder.tokenizer)
            self.run.write_file(EXAMPLES_FILE, write)

    def _answers(self, label: str, state: str, rows: NDArray[np.intp], tokens: int, folder: Path) -> None:
        """Put the prompts of some rows to the model in a state."""
        from .models.scoring import Answers

        self.bench.bring(state)
        folder.mkdir(exist_ok=True)
        scorer = Answers(self.bench.session, self.encoder.tokenizer, self.bench.budget, tokens)
        self.bench.score(label, scorer, self.material.tokens(DATA), rows, folder)

    def finetune_kept(self, summary: Summary) -> None:
        """M_ret: the untouched model trained on what was kept, saved as RUN/model."""
        if made_from(self.run.folder(MODEL), summary, self.settings.finetune_epochs):
            return
        if (self.settings.top_blocks or 1) < 1:
            # All blocks learn now. The bench and its model are let go before another is loaded.
            self.bench = self._bench(replace(self.settings, top_blocks=None))
        self.bench.work(MODEL, lambda folder: self._finetune_kept(summary, folder))

    def _finetune_kept(self, summary: Summary, folder: Path) -> None:
        epochs = self.settings.finetune_epochs
        if self.processes.main:
            # Whole completions, whatever part of them the filter itself looked at.
            encoder = Encoder(self.encoder.tokenizer, self.settings.template, self.settings.max_length)
            prepare(folder, self.material.rows(DATA), encoder, summary, epochs)
        self.processes.wait()
        self.bench.check_tokens([folder / WHOLE_TOKENS])
        table = TokenTable(folder / WHOLE_TOKENS)
        rows = np.intersect1d(table.scorable, np.flatnonzero(np.isin(table.rows, kept_rows(self.run.path, summary))))
        if not len(rows):
            raise InputError(f"{self.run.path}: no kept row has a completion to train on; raise the threshold")
        self.bench.bring(BASE)
        steps = self.bench.steps(len(rows), epochs)
        self.bench.train("fine-tuning on the kept rows", table, rows, steps, folder, MODEL)
        if self.processes.main:
            (folder / WHOLE_TOKENS).unlink()
