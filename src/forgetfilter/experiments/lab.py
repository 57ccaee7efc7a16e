"""Sessions that strategies and studies share: data sets by name, and states of the model by what they were trained on.

A state is named by its path from the aligned model, `base`, such as `base.noisy-75.safe-30`: trained on `noisy` for 75
steps, then on `safe` for 30. Whoever asks for the same path gets the same session, trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
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
from ..models.stage_runner import BASE, Workbench
from ..models.token_scores import FloatArray, TokenScores, read_vectors
from ..runs.files import start_afresh
from ..runs.inputs import fingerprints, make_encoder, write_part
from ..runs.layout import MADE_OF, MANIFEST, ONLY_TOKENS, ROWS, WATCHED, data_of
from ..runs.manifest import Manifest, made_of, note_made_of
from ..runs.run import Stages
from ..settings.groups import AdapterSettings, PassSettings, Settings, TokenSettings, TrainingSettings
from ..settings.option import to_mapping

if TYPE_CHECKING:
    from ..models.training import Callback


# Makes of a row's id and chat another chat.
Rewrite = Callable[[str, Chat], Chat]
# What sessions depend on, but for what changes speed alone; what is trained on, and for how long, is in their names.
_TOLD = {field.name for kind in (TrainingSettings, TokenSettings, AdapterSettings) for field in fields(kind)} - {
    *(field.name for field in fields(PassSettings)),
    # What is learned there are whole answers.
    "own_words",
}
# File systems take no longer names than 255 bytes; stages have more at the end of theirs.
_LONGEST_STATE = 120


class Watcher(Protocol):
    """Makes a callback that looks at the model along a session.

    Attributes:
        name: Tells its sessions apart from those that nobody watched, or another did.
    """

    @property
    def name(self) -> str: ...

    def begin(self, lab: Lab, folder: Path) -> Callback:
        """Make the callback of the session in this folder."""


@dataclass(frozen=True)
class Looking:
    """Scores the rows of a data set at some steps of a session.

    Attributes:
        data: Its name.
        points: The steps.
    """

    data: str
    points: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.data}@{hash_chunks([repr(self.points).encode()])[:6]}"

    def begin(self, lab: Lab, folder: Path) -> Callback:
        from ..models.callbacks.results_along import scores_along

        table, bench = lab.tokens(self.data), lab.bench
        return scores_along(bench.session, table, table.scorable, folder, self.points.__contains__, bench.budget)


@dataclass(frozen=True)
class Course:
    """One training session.

    Attributes:
        data: Names of the data sets that are trained on together.
        epochs: Passes over them.
        steps: Optimizer steps, in place of passes.
        balanced: Take of the others at most as many rows as the first data set has, drawn by the seed.
    """

    data: tuple[str, ...]
    epochs: float | None = None
    steps: int | None = None
    balanced: bool = False


class Lab:
    """A model and data sets, in a folder that keeps every session.

    Attributes:
        bench: The model.
        stages: The folder's stages.
    """

    def __init__(self, folder: Path, source: ModelSource, settings: Settings, console: Console) -> None:
        self.stages = Stages(folder)
        self.settings, self.console = settings, console
        self.processes = Processes(settings.device)
        encoder = make_encoder(source, settings, whole=True)
        if self.processes.main:
            self._claim(fingerprints(source, encoder))
        self.processes.wait()
        self.bench = Workbench(self.stages, source, settings, encoder, console, self.processes)

    def _claim(self, made_of: dict[str, str]) -> None:
        """Refuse a folder whose sessions are of another model, or were trained differently."""
        from ..models.loading import choose_hardware

        settings = {name: value for name, value in to_mapping(self.settings).items() if name in _TOLD}
        hardware = choose_hardware(self.settings, trained_fully=self.settings.full_finetuning)
        settings["dtype"] = str(hardware.dtype).removeprefix("torch.")
        manifest = Manifest.now(made_of, settings)
        manifest.claim(self.stages.path / MANIFEST, "its sessions were trained differently")

    @property
    def encoder(self) -> Encoder:
        """Turns rows into the model's tokens, whole completions included."""
        return self.bench.encoder

    def add(
        self, name: str, path: Path, rewrite: Rewrite | None = None, choose: Callable[[str], bool] | None = None
    ) -> None:
        """Read a data set and turn it into tokens, once.

        Args:
            name: What to call it in paths.
            path: A file in any layout that the filter reads.
            rewrite: Makes of a row's id and chat what is trained on.
            choose: Whether to take the row with this id; takes all by default.

        Raises:
            InputError: The file cannot be read.
            RunError: The lab has another data set of this name.
        """
        container = open_container(str(path), "train")
        key = container.fingerprint()

        def work(folder: Path) -> None:
            if not self.processes.main:
                return
            start_afresh(folder)
            (folder / ROWS).mkdir()
            rows = read_rows(container, ReadOptions(), folder / ROWS, check=self.encoder.check)
            said = [row for row in rows.usable() if choose is None or choose(row[0])]
            if rewrite is not None:
                said = [(id, row, rewrite(id, chat)) for id, row, chat in said]
            if not said:
                raise InputError(f"{path}: no row of it is left to train on as '{name}'")
            write_part(rows.name, said, len(said), self.encoder, folder / ONLY_TOKENS, self.console)
            note_made_of(folder / MADE_OF, key)

        self.bench.stage(data_of(name), work)
        if not made_of(self.stages.folder(data_of(name)) / MADE_OF, key):
            raise RunError(
                f"{path}: its content is not what the sessions in {self.stages.path} were trained on; "
                "name another --output"
            )

    def rows(self, name: str) -> Rows:
        """What a data set says."""
        return Rows.open(self.stages.folder(data_of(name)) / ROWS)

    def tokens(self, *names: str) -> TokenTable:
        """The tokens of some data sets, one after the other."""
        return TokenTable(*(self.stages.folder(data_of(name)) / ONLY_TOKENS for name in names))

    def ids(self, name: str) -> list[str]:
        """The ids of a data set's rows that have a completion token, in order."""
        ids: list[str] = self._ids(name).to_pylist()
        return ids

    def _ids(self, name: str) -> pa.ChunkedArray:
        table = self.tokens(name)
        return table.ids.take(pa.array(table.scorable))

    def train(self, course: Course, start: str = BASE, watch: Watcher | None = None) -> str:
        """The state after a session that begins in another state; trained unless it was before.

        Args:
            course: The session.
            start: The state to begin in.
            watch: Looks at the model along the session.

        Returns:
            The state's name.
        """
        table = self.tokens(*course.data)
        rows = self._balanced(table, course.data) if course.balanced else table.scorable
        steps = course.steps or self.bench.steps(len(rows), course.epochs)
        state = _named(f"{start}.{'+'.join(course.data)}-{steps}{f'~{watch.name}' if watch else ''}")

        def work(folder: Path) -> None:
            self.bench.bring(start)
            callbacks = [watch.begin(self, folder)] if watch else []
            self.bench.train(f"training on {' and '.join(course.data)}", table, rows, steps, folder, state, callbacks)

        self.bench.stage(state, work)
        return state

    def score(self, state: str, name: str) -> TokenScores:
        """What a state makes of the rows of a data set, in the order of `ids`; scored unless it was before."""
        stage = f"{state}!{name}"

        def work(folder: Path) -> None:
            from ..models.scoring import Likelihood

            self.bench.bring(state)
            table, scorer = self.tokens(name), Likelihood(self.bench.session, self.bench.budget)
            self.bench.score(f"scoring {name}", scorer, table, table.scorable, folder)

        self.bench.stage(stage, work)
        return TokenScores.read(self.stages.folder(stage), self._ids(name))

    def hidden_states(self, state: str, name: str, depths: Sequence[float]) -> FloatArray:
        """Hidden states of a data set's completions, shape (depths, n, width); see `models.hidden_states`."""
        stage = f"{state}!{name}-hidden-{'-'.join(f'{depth:g}' for depth in depths)}"

        def work(folder: Path) -> None:
            from ..models.hidden_states import HiddenStates, View

            self.bench.bring(state)
            views = [View("answer", depth) for depth in depths]
            table, scorer = self.tokens(name), HiddenStates(self.bench.session, self.bench.budget, views)
            self.bench.score(f"hidden states of {name}", scorer, table, table.scorable, folder)

        self.bench.stage(stage, work)
        states = read_vectors(self.stages.folder(stage), "states")
        return states.reshape(len(states), len(depths), -1).transpose(1, 0, 2)

    def watched(self, state: str, name: str) -> list[TokenScores]:
        """What was seen of a data set's rows along the session that ended in a state, in the order of its steps."""
        from ..models.callbacks.results_along import results_by_step

        folders = results_by_step(self.stages.folder(state), WATCHED).values()
        return [TokenScores.read(folder, self._ids(name)) for folder in folders]

    def _balanced(self, table: TokenTable, names: tuple[str, ...]) -> NDArray[np.intp]:
        """All rows of the first data set, of each other at most as many, drawn from the order of their ids."""
        owner = np.repeat(np.arange(len(names)), [len(self.tokens(name)) for name in names])
        most = int((owner == 0).sum())
        found = []
        for number in range(len(names)):
            rows = table.scorable[owner[table.scorable] == number]
            found.append(table.shuffled(rows, self.settings.seed)[:most])
        chosen: NDArray[np.intp] = np.sort(np.concatenate(found))
        return chosen


def _named(path: str) -> str:
    """A state's path, its middle told by a hash where it is too long for a file system."""
    if len(path) <= _LONGEST_STATE:
        return path
    digest = hash_chunks([path.encode()])[:8]
    return f"{path[: _LONGEST_STATE // 2]}…{digest}…{path[-_LONGEST_STATE // 3 :]}"
