"""Train and score a model in stages, each done once; the filter, its rivals and the studies are built on this.

The model is loaded once. Its states are known by name: `base` is the aligned model as it came (M0), any other name is
that of the stage that saved it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from ..console import Console
from ..data.tokens import Encoder, TokenTable
from ..errors import SettingsError
from ..progress import Effort
from ..runs.files import write_json
from ..runs.layout import CHECKPOINT, HISTORY, activations_of
from ..runs.run import Stages
from ..settings.groups import Settings
from .checkpoint import Checkpoint, LoraShape
from .processes import Processes
from .sources import ModelSource

if TYPE_CHECKING:
    import numpy as np

    from .scoring import Scorer
    from .trainable_model import TrainableModel
    from .training import Callback, Step

BASE = "base"
# What the names of activations begin with that are not of the model that is M0.
_OF_ANOTHER = "other-"
# Of a forward pass: what a training step costs, and what writing a token costs, which goes one by one.
_TRAINING, _WRITING = 3, 4


class StageRunner:
    """Loads a model and brings it from state to state, stage by stage.

    Every process makes the same calls; only the first writes.

    Attributes:
        stages: The folder of the stages.
        settings: How the model is loaded and trained.
        encoder: Turns rows into its tokens.
        console: Where progress is shown.
        processes: Which process this is, and of how many.
    """

    def __init__(
        self,
        stages: Stages,
        source: ModelSource,
        settings: Settings,
        encoder: Encoder,
        console: Console,
        processes: Processes,
        *,
        sources: Mapping[str, ModelSource] | None = None,
        lora: LoraShape | None = None,
    ) -> None:
        """Prepare for a model, which is loaded when a stage first needs it.

        Args:
            stages, settings, encoder, console, processes: See above.
            source: Where the model comes from.
            sources: Other models by the names of states that belong to them; one is in memory at a time.
            lora: The layers and the form of the adapter, where it is to be like one that exists.
        """
        self.stages, self.settings, self.encoder = stages, settings, encoder
        self.console, self.processes = console, processes
        self._source, self._sources, self._lora = source, sources or {}, lora
        self._loaded: TrainableModel | None = None
        self._loaded_from = source
        self._state = BASE
        # Stages with activations that this process wrote itself, or found to be whole.
        self._cached: set[str] = set()

    @property
    def model(self) -> TrainableModel:
        """Return the model that the present state belongs to; it is loaded when a stage first needs it."""
        if self._loaded is None:
            self._loaded = self._load(self._loaded_from)
        return self._loaded

    def _load(self, source: ModelSource) -> TrainableModel:
        from .trainable_model import TrainableModel
        from .vocabulary import doubt_about

        self.console.say("loading the model")
        # A trainable model that nobody uses any more is a cycle of references.
        gc.collect()
        settings = self.settings
        model = TrainableModel(source, settings.model, settings.adapter, settings.training.seed, self._lora)
        if settings.tokens.max_length > model.longest:
            raise SettingsError(f"max_length: this model takes at most {model.longest} tokens")
        doubt = doubt_about(model, self.encoder.tokenizer)
        if doubt:
            self.console.say(doubt)
        return model

    @property
    def budget(self) -> int:
        """Return the most tokens of a micro-batch without gradients, into which more rows fit than in training."""
        return 2 * self.model.token_budget(self.settings.passes.tokens_per_batch)

    def stage(self, name: str, work: Callable[[Path], None]) -> None:
        """Do a stage unless it is finished already."""
        if not self.stages.has(name):
            self.work(name, work)

    def work(self, name: str, work: Callable[[Path], None]) -> None:
        """Do a stage with all processes; it is finished once all are through with it."""
        self.processes.wait()
        folder = self.stages.partial(name)
        # No process may still be about to make the folder while another works in it, or empties it.
        self.processes.wait()
        with self.console.step(name):
            work(folder)
        self.processes.wait()
        if self.processes.main:
            self.stages.finish(name)
        self.processes.wait()

    def check_tokens(self, files: Iterable[Path]) -> None:
        """Refuse files of tokens that the model does not have; see `models.vocabulary.check_vocabulary`."""
        from .vocabulary import check_vocabulary

        check_vocabulary(files, self.model.vocabulary)

    def tokens(self, named: Mapping[str, Path]) -> TokenTable:
        """Open files of tokens, given by name, with the frozen blocks' activations where they can be cached.

        Each file goes through these blocks once, in a stage of its own, which stays until `drop_states`.
        """
        from .activation_cache import known_table

        files = list(named.values())
        self.check_tokens(files)
        if not self.model.scorer.skips:
            return TokenTable(*files)
        stages = [self._activations_of(name) for name in named]
        # Machines that share a folder do not share what of it is mapped into memory: each computes what it needs.
        if not self.processes.several_machines:
            for name, stage, file in zip(named, stages, files, strict=True):
                self._cache_states(name, stage, file)
        return known_table(self.model, files, [self.stages.folder(stage) for stage in stages])

    def _activations_of(self, name: str) -> str:
        """Name the stage of a file's activations, which differ from model to model."""
        return activations_of(name if self._loaded_from == self._source else f"{_OF_ANOTHER}{name}")

    def _cache_states(self, name: str, stage: str, file: Path) -> None:
        """Cache the activations of a file, or check once that those which an earlier process cached are whole."""
        from .activation_cache import check_states

        if stage in self._cached:
            return
        if not self.stages.has(stage):
            self.work(stage, partial(self._keep_states, name, file))
        elif self.processes.main:
            check_states(self.stages.folder(stage))
        self._cached.add(stage)

    def _keep_states(self, name: str, file: Path, folder: Path) -> None:
        from .activation_cache import keep_states

        table = TokenTable(file)
        label, rows, cost = f"preparing the {name} rows", len(table.scorable), self.preparing(table).cost
        with self._memory_explained(), self.console.progress(label, rows, "rows", cost, counts=False) as progress:
            if not keep_states(self.model, file, folder, self.budget, progress.advance, progress.skip):
                self.console.say(
                    f"activations of the {name} rows: not kept, as the disk has too little room; every pass computes "
                    "them anew"
                )

    def drop_states(self, names: Sequence[str]) -> None:
        """Delete the activations that `tokens` cached for files with these names."""
        cached = [activations_of(f"{of}{name}") for of in ("", _OF_ANOTHER) for name in names]
        self._cached -= set(cached)
        if self.processes.main:
            for stage in cached:
                self.stages.drop(stage)

    def bring(self, state: str) -> None:
        """Put the model into a state: `base`, or one that a stage saved."""
        self._change_model(state)
        if self._state == state:
            return
        if state == BASE:
            self.model.reset()
        else:
            self.model.load(self.stages.folder(state))
        self._state = state

    def _change_model(self, state: str) -> None:
        """Load the model that a state belongs to, unless it is in memory."""
        source = self._sources.get(state, self._source)
        if source != self._loaded_from:
            self._loaded, self._loaded_from, self._state = None, source, BASE
        if self._loaded is None:
            self._loaded = self._load(source)

    def take_over(self, checkpoint: Checkpoint, folder: Path, becomes: str) -> None:
        """Save a model that was trained elsewhere as the state of a stage.

        Args:
            checkpoint: Its adapter is loaded; a whole model is one of `sources`, and begins as it came.
            folder: The folder of the stage that is being worked on.
            becomes: The name of the stage, and so of the model's state afterwards.
        """
        self._change_model(becomes)
        self._state = f"{becomes}, being loaded"
        if checkpoint.lora is None:
            self.model.reset()
        else:
            self.model.load(checkpoint.folder)
        self.model.save(folder, self.encoder.tokenizer)
        self._state = becomes

    def train(
        self,
        label: str,
        table: TokenTable,
        rows: NDArray[np.intp],
        steps: int,
        folder: Path,
        becomes: str,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Train the model from its present state and save it in a stage's folder; see `models.training.finetune`.

        Args:
            label: Name of the session on the screen.
            table, rows, steps, callbacks: As `finetune` takes them.
            folder: The folder of the stage that is being worked on.
            becomes: The name of the stage, and so of the model's state afterwards.
        """
        from .training import finetune

        self._state = f"{becomes}, in training"
        cost = self.training(table, rows, steps).cost
        with self._memory_explained(), self.console.progress(label, steps, "steps", cost) as progress:

            def on_step(step: Step) -> None:
                progress.advance(note=f"loss {step.loss:.3f}")
                speed = step.tokens / step.seconds
                values = {"loss": step.loss, "learning_rate": step.learning_rate, "tokens_per_second": speed}
                self.console.report_step(becomes, step.step, values)

            training, most = self.settings.training, self.settings.passes.tokens_per_batch
            history = finetune(
                self.model, table, rows, steps, training, folder, on_step, progress.skip, callbacks, most
            )
            if len(history) < steps:
                progress.total = progress.done
                progress.note += f", {steps - len(history)} steps fewer than planned"
        self.model.save(folder, self.encoder.tokenizer)
        if self.processes.main:
            (folder / CHECKPOINT).unlink(missing_ok=True)
            write_json([asdict(step) for step in history], folder / HISTORY)
        self._state = becomes

    def score(
        self,
        label: str,
        scorer: Scorer,
        table: TokenTable,
        rows: NDArray[np.intp],
        folder: Path,
        *,
        new_tokens: int = 0,
    ) -> None:
        """Score some rows in the present state; see `models.scoring.score`.

        Args:
            label: What is done, for the screen.
            scorer, table, rows, folder: As `score` takes them.
            new_tokens: How many tokens the model writes for each row.
        """
        from .scoring import score

        cost = self.scoring(int(table.lengths[rows].sum()), len(rows) * new_tokens).cost
        with self._memory_explained(), self.console.progress(label, len(rows), "rows", cost) as progress:
            score(self.model, scorer, table, rows, folder, progress.advance, progress.skip)

    def preparing(self, table: TokenTable) -> Effort:
        """Estimate what it costs to cache the activations of the frozen blocks."""
        return Effort(preparing=(1 - self._learned_blocks) * float(table.lengths.sum()))

    def scoring(self, tokens: int, new_tokens: int = 0) -> Effort:
        """Estimate what it costs to score so many tokens, and to write so many new ones."""
        return Effort(scoring=self._learned_blocks * tokens, writing=_WRITING * new_tokens)

    def training(self, table: TokenTable, rows: NDArray[np.intp], steps: int) -> Effort:
        """Estimate what so many optimizer steps with some rows cost."""
        rows_of_step = min(self.settings.training.batch_size, len(rows))
        tokens = steps * rows_of_step * float(table.lengths[rows].mean())
        return Effort(training=_TRAINING * self._learned_blocks * tokens)

    @property
    def _learned_blocks(self) -> float:
        # An adapter that exists is taken for one on all blocks.
        return 1.0 if self._lora is not None else self.settings.adapter.top_blocks or 1.0

    def steps(self, rows: int, epochs: float | None) -> int:
        """Compute the optimizer steps of so many epochs over so many rows."""
        from .training import steps_for

        return steps_for(rows, epochs, self.settings.training.batch_size)

    def _memory_explained(self) -> AbstractContextManager[None]:
        from .trainable_model import memory_explained

        return memory_explained(self.model.token_budget(self.settings.passes.tokens_per_batch))
