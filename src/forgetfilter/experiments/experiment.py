"""Keeps the training sessions that strategies and studies share, so that each is trained once.

Data sets go by name, and states of the model by what they were trained on: a state is named by its path from the
aligned model, `base`. For example, `base.noisy-75.safe-30` was trained on `noisy` for 75 steps, then on `safe` for 30.
Whatever needs the same path shares the same sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..console import Console
from ..data.chats import Chat
from ..data.containers import open_container
from ..data.records import hash_chunks
from ..data.rows import ReadOptions, Rows, read_rows
from ..data.tokens import Encoder, TokenTable
from ..errors import InputError, RunError
from ..models.processes import Processes
from ..models.sources import ModelSource
from ..models.stage_runner import BASE, StageRunner
from ..models.token_scores import FloatArray, TokenScores, read_vectors
from ..runs.files import start_afresh
from ..runs.inputs import fingerprints, make_encoder, refuse_changed, write_part
from ..runs.layout import MADE_OF, MANIFEST, ONLY_TOKENS, ROWS, WATCHED, data_of
from ..runs.manifest import Manifest, made_of, note_made_of
from ..runs.run import Stages
from ..settings.groups import AdapterSettings, Settings, TokenSettings, TrainingSettings
from ..settings.option import options_of, to_mapping

if TYPE_CHECKING:
    from ..models.training import Callback


# Turns a row's id and chat into another chat.
Rewrite = Callable[[str, Chat], Chat]
# Settings that sessions depend on, without those that change speed alone. What is trained on, and for how long, is in
# the names of the states.
_COMPARED = {*options_of(TrainingSettings), *options_of(TokenSettings), *options_of(AdapterSettings)} - {
    # Here models always learn whole answers.
    "own_words",
}
# File systems allow names of at most 255 bytes, and the names of stages go on after the state's.
_LONGEST_STATE = 120


class Watcher(Protocol):
    """Makes a callback that looks at the model during a session.

    Attributes:
        name: Distinguishes its sessions from unwatched ones, and from those of other watchers.
    """

    @property
    def name(self) -> str: ...

    def begin(self, experiment: Experiment, folder: Path) -> Callback:
        """Make the callback of the session in this folder."""


@dataclass(frozen=True)
class ScoreAlong:
    """Scores the rows of a data set at some steps of a session; a watcher for `Experiment.train`.

    Attributes:
        data: The name of the data set.
        points: The optimizer steps after which to score.
    """

    data: str
    points: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.data}@{hash_chunks([repr(self.points).encode()])[:6]}"

    def begin(self, experiment: Experiment, folder: Path) -> Callback:
        from ..models.callbacks.results_along import scores_along

        table, runner = experiment.tokens(self.data), experiment.runner
        return scores_along(runner.model, table, table.scorable, folder, self.points.__contains__, runner.budget)


@dataclass(frozen=True)
class TrainingPlan:
    """Describes one training session.

    Attributes:
        data: The names of the data sets that are trained on together.
        epochs: The number of epochs over them.
        steps: The number of optimizer steps, instead of epochs.
        balanced: Whether to take from each further data set at most as many rows as the first has, drawn by the seed.
    """

    data: tuple[str, ...]
    epochs: float | None = None
    steps: int | None = None
    balanced: bool = False


class Experiment:
    """A model and data sets, in a folder that keeps every training session.

    Attributes:
        runner: Runs the stages, and holds the model.
        stages: The stages of the folder.
    """

    def __init__(self, folder: Path, source: ModelSource, settings: Settings, console: Console) -> None:
        self.stages = Stages(folder)
        self.settings, self.console = settings, console
        self.processes = Processes(settings.model.device)
        encoder = make_encoder(source, settings, whole=True)
        if self.processes.main:
            self._claim(fingerprints(source, encoder))
        self.processes.wait()
        self.runner = StageRunner(self.stages, source, settings, encoder, console, self.processes)

    def _claim(self, inputs: dict[str, str]) -> None:
        """Refuse a folder whose sessions trained another model, or trained it differently."""
        from ..models.loading import choose_hardware

        settings = {name: value for name, value in to_mapping(self.settings).items() if name in _COMPARED}
        hardware = choose_hardware(self.settings.model, trained_fully=self.settings.adapter.full_finetuning)
        settings["dtype"] = str(hardware.dtype).removeprefix("torch.")
        manifest = Manifest.now(inputs, settings)
        manifest.claim(self.stages.path / MANIFEST, "its sessions were trained differently")

    @property
    def encoder(self) -> Encoder:
        """The encoder that turns rows into tokens, with their whole completions."""
        return self.runner.encoder

    def add(
        self, name: str, path: Path, rewrite: Rewrite | None = None, choose: Callable[[str], bool] | None = None
    ) -> None:
        """Read a data set and turn it into tokens, once.

        Args:
            name: The name of the data set in the names of states.
            path: A file in any layout that the filter reads.
            rewrite: Turns a row's id and chat into the chat to train on.
            choose: Tells whether to take the row with this id; all are taken by default.

        Raises:
            InputError: The file cannot be read.
            RunError: The experiment has another data set of this name.
        """
        container = open_container(str(path), "train")
        key = container.fingerprint()

        def work(folder: Path) -> None:
            if not self.processes.main:
                return
            start_afresh(folder)
            (folder / ROWS).mkdir()
            rows = read_rows(container, ReadOptions(), folder / ROWS, check=self.encoder.check)
            refuse_changed(container, key)
            chosen = [row for row in rows.usable() if choose is None or choose(row[0])]
            if rewrite is not None:
                chosen = [(id, row, rewrite(id, chat)) for id, row, chat in chosen]
            if not chosen:
                raise InputError(f"{path}: no row of it is left to train on as '{name}'")
            write_part(rows.name, chosen, len(chosen), self.encoder, folder / ONLY_TOKENS, self.console)
            note_made_of(folder / MADE_OF, key)

        self.runner.stage(data_of(name), work)
        if not made_of(self.stages.folder(data_of(name)) / MADE_OF, key):
            raise RunError(
                f"{path}: its content is not what the sessions in {self.stages.path} were trained on; "
                "name another --output"
            )

    def rows(self, name: str) -> Rows:
        """Open the rows of a data set."""
        return Rows.open(self.stages.folder(data_of(name)) / ROWS)

    def tokens(self, *names: str) -> TokenTable:
        """Open the tokens of some data sets, one after the other."""
        return TokenTable(*(self.stages.folder(data_of(name)) / ONLY_TOKENS for name in names))

    def ids(self, name: str) -> list[str]:
        """List the ids of a data set's rows that have a completion token, in order."""
        ids: list[str] = self._ids(name).to_pylist()
        return ids

    def _ids(self, name: str) -> pa.ChunkedArray:
        table = self.tokens(name)
        return table.ids.take(pa.array(table.scorable))

    def train(self, plan: TrainingPlan, start: str = BASE, watch: Watcher | None = None) -> str:
        """Run a session that starts from some state, unless that was done before.

        Args:
            plan: The session.
            start: The state to start from.
            watch: Looks at the model during the session.

        Returns:
            The name of the state after the session.
        """
        table = self.tokens(*plan.data)
        rows = self._balanced(table, plan.data) if plan.balanced else table.scorable
        steps = plan.steps or self.runner.steps(len(rows), plan.epochs)
        state = _stage_name(f"{start}.{'+'.join(plan.data)}-{steps}{f'~{watch.name}' if watch else ''}")

        def work(folder: Path) -> None:
            self.runner.bring(start)
            callbacks = [watch.begin(self, folder)] if watch else []
            self.runner.train(f"training on {' and '.join(plan.data)}", table, rows, steps, folder, state, callbacks)

        self.runner.stage(state, work)
        return state

    def score(self, state: str, name: str) -> TokenScores:
        """Score the rows of a data set under a state, unless that was done before; in the order of `ids`."""
        stage = f"{state}!{name}"

        def work(folder: Path) -> None:
            from ..models.scoring import Likelihood

            self.runner.bring(state)
            table, scorer = self.tokens(name), Likelihood(self.runner.model, self.runner.budget)
            self.runner.score(f"scoring {name}", scorer, table, table.scorable, folder)

        self.runner.stage(stage, work)
        return TokenScores.read(self.stages.folder(stage), self._ids(name))

    def hidden_states(self, state: str, name: str, depths: Sequence[float]) -> FloatArray:
        """Compute hidden states of a data set's completions, shape (depths, n, width); see `models.hidden_states`."""
        stage = f"{state}!{name}-hidden-{'-'.join(f'{depth:g}' for depth in depths)}"

        def work(folder: Path) -> None:
            from ..models.hidden_states import HiddenStates, View

            self.runner.bring(state)
            views = [View("answer", depth) for depth in depths]
            table, scorer = self.tokens(name), HiddenStates(self.runner.model, self.runner.budget, views)
            self.runner.score(f"hidden states of {name}", scorer, table, table.scorable, folder)

        self.runner.stage(stage, work)
        states = read_vectors(self.stages.folder(stage), "states")
        return states.reshape(len(states), len(depths), -1).transpose(1, 0, 2)

    def scores_along(self, state: str, name: str) -> list[TokenScores]:
        """Read the scores that a `ScoreAlong` took during the session that ended in a state, in step order."""
        from ..models.callbacks.results_along import results_by_step

        folders = results_by_step(self.stages.folder(state), WATCHED).values()
        return [TokenScores.read(folder, self._ids(name)) for folder in folders]

    def _balanced(self, table: TokenTable, names: tuple[str, ...]) -> NDArray[np.intp]:
        """Take all rows of the first data set, and of each other at most as many, drawn from the order of their ids."""
        owner = np.repeat(np.arange(len(names)), [len(self.tokens(name)) for name in names])
        most = int((owner == 0).sum())
        parts = []
        for number in range(len(names)):
            rows = table.scorable[owner[table.scorable] == number]
            parts.append(table.shuffled(rows, self.settings.training.seed)[:most])
        chosen: NDArray[np.intp] = np.sort(np.concatenate(parts))
        return chosen


def _stage_name(path: str) -> str:
    """Turn a state's path into a stage name, with a hash in the middle if it is too long for a file system."""
    if len(path) <= _LONGEST_STATE:
        return path
    digest = hash_chunks([path.encode()])[:8]
    return f"{path[: _LONGEST_STATE // 2]}…{digest}…{path[-_LONGEST_STATE // 3 :]}"
