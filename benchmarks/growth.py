"""Measure how time and memory of everything around the model grow with the number of rows.

    python benchmarks/growth.py --data ../shared/data/normalised --work /tmp/growth --rows 1000 10000 100000 1000000

Short real rows (tweets and Alpaca answers of at most 200 characters), numbered so that no two are the same, in a jsonl
file. Each stage runs in a separate process: reading and checking, tokenising, making the batches of one epoch,
writing scores under two models, measuring forgetting, deciding and writing the files, and writing the page by itself.
Printed are seconds, CPU seconds and rows per CPU second, which other work on the machine does not change, and the most
memory that the process had: in all, and without pages of mapped files, which the system takes back when it needs them.
The scores are random numbers in place of the model's, as this measures everything but the model; `training.py` and
`scoring.py` measure the model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forgetfilter.console import Console
from forgetfilter.data.tokens import Tokens, TokenTable
from forgetfilter.runs.inputs import find_inputs, fingerprints, make_encoder, read_parts, tokenize_parts
from forgetfilter.runs.layout import DATA, REPORT, ROWS, TOKENS
from forgetfilter.runs.run import Run
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import from_mapping
from problems import load
from results import Table, add_json

if TYPE_CHECKING:
    from forgetfilter.models.micro_batches import Indices, Passes, Work

# What starting a pass through the model costs, in tokens.
_OVERHEAD = 50


def write_input(folder: Path, count: int, path: Path) -> None:
    """Write short real rows over and over, each with a different number."""
    short = [r for name in ("davidson", "task_alpaca_demo") for r in load(folder, name) if len(r["completion"]) <= 200]
    random.Random(0).shuffle(short)
    with path.open("w", encoding="utf-8") as file:
        for i, row in enumerate(islice(cycle(short), count)):
            file.write(json.dumps({"prompt": f"({i}) {row['prompt']}"[:200], "completion": row["completion"]}) + "\n")


def open_run(work: Path) -> Run:
    return Run.open(work / "run")


def read(work: Path) -> None:
    settings = from_mapping(
        Settings,
        {"model": "smollm2-135m", "data": str(work / "noisy.jsonl"), "safe": "builtin", "device": "cpu"},
    )
    inputs = find_inputs(settings)
    fingerprint_of = {part: container.fingerprint() for part, container in inputs.parts.items()}
    encoder = make_encoder(inputs.model, settings)
    read_parts(Run.start(work / "run", settings, fingerprint_of), inputs, encoder, Console(quiet=True))


def tokenise(work: Path) -> None:
    run = open_run(work)
    model = find_inputs(run.settings).model
    encoder = make_encoder(model, run.settings)
    fingerprints(model, encoder)
    tokenize_parts(run, encoder, Console(quiet=True))


def batch(work: Path) -> None:
    """Make the batches of an epoch over all rows, without the model."""
    import torch

    from forgetfilter.models.collating import collate
    from forgetfilter.models.micro_batches import by_length, optimizer_batches

    run = open_run(work)
    table = TokenTable(run.folder(TOKENS) / f"{DATA}.arrow")
    rows, size = table.by_id(table.scorable), run.settings.training.batch_size
    lengths = table.lengths[rows]
    for step in optimizer_batches(len(rows), size, -(-len(rows) // size), 0):
        for chosen in by_length(step, lengths, 1024, _OVERHEAD):
            collate([table[int(rows[i])] for i in chosen], torch.device("cpu"), _OVERHEAD)


class RandomScores:
    """Returns random numbers in place of a model's likelihoods."""

    schema: ClassVar[dict[str, Any]] = {"logprobs": pa.list_(pa.float32()), "greedy": pa.list_(pa.bool_())}
    work: ClassVar[Work] = "score"
    tokens_per_pass = 2048

    def __init__(self, middle: float) -> None:
        self._middle, self._rng = middle, np.random.default_rng(0)

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        counts = [len(row.pieces) for row in rows]
        return [
            {"logprobs": -self._rng.exponential(self._middle, count), "greedy": np.zeros(count, dtype=bool)}
            for count in counts
        ]


def score(work: Path) -> None:
    """Score every row under both models, with random numbers in place of the models."""
    from accelerate import Accelerator

    from forgetfilter.models import scoring
    from forgetfilter.models.micro_batches import deal

    run = open_run(work)
    table = TokenTable(run.folder(TOKENS) / f"{DATA}.arrow")

    def in_turn(indices: Indices, lengths: NDArray[np.integer], token_budget: int, _: Work) -> Passes:
        return deal(indices, lengths, token_budget, _OVERHEAD, lanes=1)

    lanes = SimpleNamespace(count=1)
    model: Any = SimpleNamespace(accelerator=Accelerator(cpu=True), lanes=lanes, sharded=False, deal=in_turn)
    for state, middle in (("learned", 1.0), ("reviewed", 1.5)):
        folder = run.partial(f"{state}-scores") / DATA
        folder.mkdir(exist_ok=True)
        scoring.score(model, RandomScores(middle), table, table.scorable, folder)
        run.finish(f"{state}-scores")


def measure(work: Path) -> None:
    from forgetfilter.data.rows import Rows
    from forgetfilter.forgetting.measuring import ScoredRows, measure_forgetting

    run = open_run(work)
    scored = ScoredRows(
        Rows.open(run.folder(ROWS) / DATA).usable,
        TokenTable(run.folder(TOKENS) / f"{DATA}.arrow"),
        run.folder("learned-scores") / DATA,
        [run.folder("reviewed-scores") / DATA],
    )
    measure_forgetting({DATA: scored}, "likelihood", run.partial("forgetting"))
    run.finish("forgetting")


def decide(work: Path) -> None:
    from forgetfilter.cli import main as command

    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        assert command(["decide", str(work / "run"), "--signal", "likelihood", "--threshold", "top:10%"]) == 0


def report(work: Path) -> None:
    from forgetfilter.decision.decide import read_summary
    from forgetfilter.report import write_report

    run = open_run(work)
    write_report(run, read_summary(run))


STAGES = {
    "read": read,
    "tokenise": tokenise,
    "batch": batch,
    "score": score,
    "measure": measure,
    "decide": decide,
    "report": report,
}


class Memory:
    """Records the most memory of this process, fifty times a second."""

    def __init__(self) -> None:
        self.total = self.without_files = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(0.02)

    def look(self) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kilobytes = {line.split(":")[0]: float(line.split()[1]) for line in status if line.startswith("Rss")}
        self.without_files = max(self.without_files, kilobytes["RssAnon"] / 1024)
        self.total = max(self.total, sum(kilobytes.values()) / 1024)


def run_stage(name: str, work: Path) -> None:
    """Run one stage in this process and print seconds and megabytes."""
    memory, began = Memory(), time.perf_counter()
    STAGES[name](work)
    seconds = time.perf_counter() - began
    memory.look()
    megabytes = {"total": memory.total, "without files": memory.without_files}
    print(json.dumps({"seconds": seconds, "cpu": time.process_time(), **megabytes}))


def seconds_to_open(page: Path) -> float | None:
    """Measure how long a browser takes to list a page's rows, the best of three; None where there is no browser."""
    chromium = shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(3):
            tab, began = browser.new_page(), time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_function("document.getElementById('shown').textContent")
            times.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return min(times)


def seconds_of_help() -> float:
    """Measure how long `forgetfilter --help` takes, the best of five."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "forgetfilter", "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; deleted afterwards")
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    add_json(parser)
    options = parser.parse_args()
    if options.stage:
        run_stage(options.stage, options.work)
        return
    print(f"--help: {seconds_of_help():.2f} s\n")
    columns = ("rows", "stage", "seconds", "of processors", "rows a second", "memory (MB)", "without files (MB)")
    table = Table(*columns)
    pages = []
    for count in options.rows:
        work = options.work / str(count)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_input(options.data, count, work / "noisy.jsonl")
        for stage in STAGES:
            command = [sys.executable, __file__, "--work", str(work), "--stage", stage]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            costs = json.loads(done.stdout.splitlines()[-1])
            numbers = [f"{costs['seconds']:.1f}", f"{costs['cpu']:.1f}", f"{count / costs['cpu']:,.0f}"]
            numbers += [f"{costs['total']:.0f}", f"{costs['without files']:.0f}"]
            table.add(f"{count:,}", stage, *numbers)
        page = work / "run" / REPORT
        opens = seconds_to_open(page.absolute())
        opening = f", open in {opens:.1f} s" if opens else ""
        pages.append(f"{count:,} rows: a page of {page.stat().st_size / 1e6:.1f} MB{opening}")
        shutil.rmtree(work)
    print("\n" + "\n".join(pages))
    table.keep(options.json, "Time and memory of each stage, by rows")


if __name__ == "__main__":
    main()
