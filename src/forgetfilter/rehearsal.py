"""Rehearse a run: read and check everything, do a little of each kind of work, and tell what the whole will need."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray

from .console import Console, table
from .data.tokens import TokenTable
from .models.processes import one_process
from .models.stage_runner import BASE, StageRunner
from .progress import Effort, Plan, about
from .runs.inputs import Inputs
from .runs.layout import DATA, ROWS, TOKENS
from .settings.groups import Settings
from .stages.filter_run import FilterRun, started
from .stages.planning import plan_run

# Optimizer steps that are tried; the first warms up.
_STEPS = 3
# What was tried is a small part of the whole, and other programs may take more of the machine then.
_UNSURE = 1.25
_SAMPLE, _TRAINED, _SCORED = "rehearsal", "rehearsal-trained", "rehearsal-scored"
_GB = 1e9


@dataclass(frozen=True)
class Needs:
    """What a run will need.

    Attributes:
        plan: Its steps.
        rates: Seconds for each unit of cost, by kind of work (see `Effort`).
        memory: Most memory of this process when a few steps were tried, in bytes; of the data most stays on the disk.
        accelerator: Likewise of the GPU; None where none is used.
        working, kept: Bytes on the disk while the run goes on, and afterwards.
    """

    plan: Plan
    rates: Mapping[str, float]
    memory: int
    accelerator: int | None
    working: int
    kept: int

    def table(self) -> str:
        """Describe it for a person."""
        steps = list(self.plan.steps.values())
        spans = [(self._seconds(step.least or step.effort), self._seconds(step.effort)) for step in steps]
        rows = [(step.title, _span(*span)) for step, span in zip(steps, spans, strict=True)]
        low, high = (sum(ends) for ends in zip(*spans, strict=True))
        rows.append(("all of it", _span(low, high)))
        gpu = "" if self.accelerator is None else f", {self.accelerator / _GB:.1f} GB of the GPU's"
        return "\n".join([
            table(("step", "time"), rows),
            "",
            f"memory: {self.memory / _GB:.1f} GB{gpu}, as with the longest rows, which were tried",
            f"disk: {_size(self.working)} while it runs, {_size(self.kept)} afterwards",
            "This was a rehearsal: nothing was written. Leave --dry-run out to filter.",
        ])  # fmt: skip

    def _seconds(self, effort: Effort) -> float:
        return sum(self.rates[kind] * float(cost) for kind, cost in asdict(effort).items())


def rehearse(settings: Settings, inputs: Inputs, console: Console) -> Needs:
    """Measure what a run will need; nothing that is written stays.

    Raises:
        ForgetFilterError: Anything that would stop the run itself: inputs, settings, the model, too little memory.
    """
    one_process("filter --dry-run", settings.model.device)
    with (
        tempfile.TemporaryDirectory(prefix="forgetfilter-") as folder,
        started(settings, inputs, Path(folder) / "run", console) as work,
    ):
        plan, stages = plan_run(work), work.runner.stages.path
        read = sum(_stored(work.run.folder(stage)) for stage in (ROWS, TOKENS))
        rates = _try_out(work.runner, work.material.tokens(DATA), stages / "sample.arrow")
        kept = 2 * read + _scores(work)
        return Needs(plan, rates, _memory(), _gpu_memory(work.runner), kept + _activations(work), kept)


def _try_out(runner: StageRunner, data: TokenTable, path: Path) -> dict[str, float]:
    """Do some of each kind of work, and return the seconds for each unit of cost, by kind."""
    _write_sample(data, _sample(data, _STEPS * runner.settings.training.batch_size), path)
    runner.bring(BASE)
    runner.check_tokens([path])
    known, rates = TokenTable(path), dict[str, float]()
    rows = known.scorable
    with _timed() as preparing:
        table = runner.tokens({_SAMPLE: path})
    with _timed() as scoring:
        runner.work(_SCORED, partial(_score, runner, table, rows))
    runner.work(_TRAINED, partial(_train, runner, table, rows))
    history = runner.stages.history(_TRAINED)[1:]
    steps = runner.training(known, rows, 1).cost
    rates["scoring"] = scoring[0] / runner.scoring(int(known.lengths[rows].sum())).cost
    rates["training"] = float(np.mean([step["seconds"] for step in history])) / steps
    prepared = runner.preparing(known).cost
    rates["preparing"] = preparing[0] / prepared if prepared else rates["scoring"]
    return rates | {"writing": rates["scoring"]}


def _score(runner: StageRunner, table: TokenTable, rows: NDArray[np.intp], folder: Path) -> None:
    from .models.scoring import Likelihood

    runner.score("trying to score", Likelihood(runner.model, runner.budget), table, rows, folder)


def _train(runner: StageRunner, table: TokenTable, rows: NDArray[np.intp], folder: Path) -> None:
    runner.train("trying to train", table, rows, _STEPS, folder, _TRAINED)


def _sample(data: TokenTable, count: int) -> NDArray[np.intp]:
    """Choose rows to try: a third of them the longest, which take the most memory, the others at random."""
    rows = data.scorable
    longest = rows[np.argsort(-data.lengths[rows], kind="stable")][: count // 3]
    others = np.random.default_rng(0).permutation(np.setdiff1d(rows, longest))[: count - len(longest)]
    return np.sort(np.concatenate([longest, others]))


def _write_sample(data: TokenTable, rows: NDArray[np.intp], path: Path) -> None:
    """Write the tokens of some rows into a file of their own."""
    chosen = np.zeros(len(data), dtype=bool)
    chosen[rows] = True
    start, writer = 0, None
    with pa.OSFile(str(path), "wb") as file:
        for batch in data.batches():
            writer = writer or pa.ipc.new_file(file, batch.schema)
            writer.write_batch(batch.filter(pa.array(chosen[start : start + len(batch)])))
            start += len(batch)
        if writer is not None:
            writer.close()


@contextmanager
def _timed() -> Iterator[list[float]]:
    seconds, began = list[float](), time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - began)


def _activations(work: FilterRun) -> int:
    """Return the bytes of all rows' cached activations."""
    model, material = work.runner.model, work.material
    if not model.scorer.skips:
        return 0
    files = material.files(*material.scored, *material.safe_parts).values()
    tokens = sum(int(TokenTable(file).lengths.sum()) for file in files if file.exists())
    return tokens * model.width * model.hardware.dtype.itemsize


def _scores(work: FilterRun) -> int:
    """Return the bytes of the scores under each state of the model, and of the states themselves."""
    states = 1 + len(work.material.safe_parts)
    trained = sum(weights.nbytes for weights in work.runner.model.trained().values())
    return states * (8 * int(work.material.tokens(*work.material.scored).counts.sum()) + trained)


def _stored(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _memory() -> int:
    """Return the most memory that this process has had, in bytes, as far as the system tells."""
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", 0) or _peak() or memory.rss)


def _peak() -> int:
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _gpu_memory(runner: StageRunner) -> int | None:
    import torch

    device = runner.model.hardware.device
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _span(low: float, high: float) -> str:
    shortest, longest = about(low / _UNSURE), about(high * _UNSURE)
    if shortest == longest:
        return shortest
    if not shortest.startswith("about "):
        return f"up to {longest.removeprefix('about ')}"
    unit = longest.rpartition(" ")[2]
    return f"{shortest.removesuffix(f' {unit}')} to {longest.removeprefix('about ')}"


def _size(count: int) -> str:
    return f"{count / _GB:,.1f} GB" if count >= _GB else f"{max(1, round(count / 1e6)):,} MB"
