"""Open a run folder with all that the stages of the filter need: its rows, its tokens and the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..classifiers.judge import check_guard, check_judge
from ..classifiers.toxicity import check_toxicity_classifier
from ..console import Console
from ..data.tokens import Encoder
from ..errors import SettingsError
from ..forgetting.signals import GUARD, RIVAL, SIGNALS
from ..models.checkpoint import Checkpoint
from ..models.processes import Processes, spreads_the_model
from ..models.sources import ModelSource, find_model
from ..models.stage_runner import StageRunner
from ..runs.inputs import (
    NOT_BOTH,
    NOT_DATA,
    SELF,
    Inputs,
    Material,
    find_learned,
    fingerprints,
    make_encoder,
    own_answers_part,
    read_parts,
    refuse_same,
    resolve,
    tokenize_parts,
)
from ..runs.layout import DATA, KNOWN_UNSAFE, LEARNED, LOG, REVIEWED, numbered
from ..runs.run import Run, drop_previous, locked, replacing
from ..settings.groups import Settings
from ..settings.option import split_names, with_options

# The rival that asks another model.
_JUDGE, _TOXICITY, _BAG_OF_WORDS = "judge", "toxicity", "bag-of-words"


class FilterRun:
    """A run whose rows are read, and the model that its stages train and ask.

    Attributes:
        run: The run folder, with the settings.
        encoder: Turns rows into tokens.
        console: Where to tell what goes on.
        processes: Which of how many processes this one is.
        material: The rows and tokens, by part.
        runner: The model, which is loaded when a stage first needs it.
        learned: M1, where it was trained elsewhere.
    """

    def __init__(
        self,
        run: Run,
        source: ModelSource,
        encoder: Encoder,
        console: Console,
        processes: Processes,
        learned: Checkpoint | None = None,
    ) -> None:
        self.run, self.encoder, self.console, self.processes = run, encoder, console, processes
        self.material, self.learned = Material(run), learned
        self._source = source
        self.runner = self._load(run.settings)

    @classmethod
    def reopen(cls, run: Run, console: Console) -> FilterRun:
        """Open a finished run with its model.

        Raises:
            ModelError: The model is not there.
            RunError: It is not the one that the run was made with.
        """
        source = find_model(run.settings.model.model, run.settings.model.revision)
        learned = find_learned(run.settings)
        encoder = make_encoder(source, run.settings, learned=learned)
        run.check(fingerprints(source, encoder, learned))
        return cls(run, source, encoder, console, Processes(run.settings.model.device), learned)

    def train_all_blocks(self) -> None:
        """Let all blocks learn from now on; the present model is let go before another is loaded."""
        if (self.run.settings.adapter.top_blocks or 1) < 1:
            self.runner = self._load(with_options(self.run.settings, top_blocks=None))

    def drop_states(self) -> None:
        """Delete the cached activations, which no later stage needs."""
        self.runner.drop_states((*self.material.scored, *self.material.safe_parts))

    def _load(self, settings: Settings) -> StageRunner:
        lora, sources = None, {}
        if self.learned is not None:
            lora = self.learned.lora
            # A whole model cannot be a state of M0, so that M1 and what is reviewed from it are of this one.
            states = [LEARNED, *numbered(REVIEWED, settings.safe.safe)] if lora is None else []
            sources = dict.fromkeys(states, self.learned.source)
        return StageRunner(
            self.run, self._source, settings, self.encoder, self.console, self.processes, sources=sources, lora=lora
        )


@contextmanager
def started(
    settings: Settings, inputs: Inputs, output: Path, console: Console, *, overwrite: bool = False
) -> Iterator[FilterRun]:
    """Start a run, or go on with it, and hold its folder meanwhile. All rows are read and checked first.

    Raises:
        ForgetFilterError: Anything the user can mend: inputs, settings, the folder.
    """
    from ..models.fitting import check_fits
    from ..models.loading import check_model

    output = output.absolute()
    processes = Processes(settings.model.device)
    if processes.count > 1:
        parts = ", each with a part of the model" if spreads_the_model() else ""
        console.say(f"{processes.count} processes share the work{parts}")
    with locked(output) if processes.main else nullcontext():
        if not inputs.model.local:
            console.say(f"asking the hub for {inputs.model.location}")
        encoder = make_encoder(inputs.model, settings, learned=inputs.learned)
        check_model(inputs.model, encoder.tokenizer)
        if inputs.learned is not None:
            check_fits(inputs.learned, inputs.model)
            console.say(f"the learned model is {inputs.learned}")
        check_rivals(settings, knows_unsafe=KNOWN_UNSAFE in inputs.parts)
        if processes.main:
            with replacing(output) if overwrite else nullcontext():
                _read(resolve(settings, encoder), inputs, encoder, output, console)
            drop_previous(output)
        processes.wait()
        yield FilterRun(Run.open(output), inputs.model, encoder, console, processes, inputs.learned)


def asked_rivals(settings: Settings) -> list[str]:
    """List the rivals that a run asks: that which decides, and those to compare with."""
    signal = settings.decision.signal
    return [*([signal] if SIGNALS[signal].scoring == RIVAL else []), *split_names(settings.rivals.rivals)]


def check_rivals(settings: Settings, *, knows_unsafe: bool) -> None:
    """Refuse rivals that lack something, before any work.

    Args:
        settings: Which are asked.
        knows_unsafe: Whether there are rows known to be unsafe.

    Raises:
        ModelError: A model that is to judge is not whole, or not what it should be.
        SettingsError: A rival learns from rows known to be unsafe, and there are none.
    """
    if _BAG_OF_WORDS in asked_rivals(settings) and not knows_unsafe:
        raise SettingsError("bag-of-words learns from rows known to be unsafe; name some with --known-unsafe FILE")
    asked, judge, guard = asked_rivals(settings), settings.classifiers.judge, settings.rivals.guard
    if judge and _JUDGE in asked:
        check_judge(judge)
    if _TOXICITY in asked:
        check_toxicity_classifier(settings.classifiers.toxicity_classifier)
    if guard and GUARD in asked:
        check_guard(guard, has_policy=bool(settings.rivals.guard_policy))


def _read(settings: Settings, inputs: Inputs, encoder: Encoder, output: Path, console: Console) -> None:
    """Read all rows and turn them into tokens, unless an earlier attempt did."""
    prints = {part: container.fingerprint() for part, container in inputs.parts.items()}
    for part, container in inputs.parts.items():
        if part != DATA:
            refuse_same(container.name, prints[part], {DATA: prints[DATA]}, NOT_DATA)
    if unsafe := inputs.parts.get(KNOWN_UNSAFE):
        harmless = {part: key for part, key in prints.items() if part not in (DATA, KNOWN_UNSAFE)}
        refuse_same(unsafe.name, prints[KNOWN_UNSAFE], harmless, NOT_BOTH)
    if len(settings.safe.safe) > 1 and (own := own_answers_part(settings.safe)):
        prints[own] = SELF
    run = Run.start(output, settings, prints | fingerprints(inputs.model, encoder, inputs.learned))
    console.log_to(output / LOG)
    read_parts(run, inputs, encoder, console)
    tokenize_parts(run, encoder, console)
