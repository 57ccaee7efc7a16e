"""Try evidence that suspicion does not use: other sessions, controls, and co-training, on the panel's chosen half.

    python benchmarks/other_evidence.py --data ../shared/data/normalised --work /tmp/panel --problems toxic mix

The problems, their runs and the work folder are those of `panel.py`. Each way gives every row a value, which is
measured alone, and fused with likeness as forgetting is. What is trained for it is kept in the work folder.

    forgetting         as by default
    a second seed      the mean of forgetting in two runs
    those that lag     forgetting after two more sessions of three epochs, with the rows that were not learned well
    own answer         forgetting less half of that of the untouched model's own answer to the same prompt
    refusal            forgetting plus what the review adds to a refusal of the same prompt
    refusal, before    the log-probability of that refusal under the untouched model, without training
    co-trained         safe and untrusted rows learned together, where rows that are learned badly are learned less and
                       less (Bayesian Data Scheduler, 2025): how little of a row was learned
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forgetfilter import ForgetFilter
from forgetfilter.console import Console
from forgetfilter.data.chats import Chat, Message
from forgetfilter.data.rows import Said
from forgetfilter.data.tokens import TokenTable, write_tokens
from forgetfilter.decision.suspicion import read_checkpoint_scores
from forgetfilter.forgetting.measuring import ScoredRows, columns_of, measure_forgetting
from forgetfilter.forgetting.signals import LIKELIHOOD
from forgetfilter.metrics.detection import auroc, average_precision
from forgetfilter.models.scoring import Answers, Likelihood, score, score_in_memory
from forgetfilter.models.stage_runner import BASE, StageRunner
from forgetfilter.models.training import finetune
from forgetfilter.runs.layout import ASIDE, DATA, FORGETTING, LEARNED, REVIEWED, SAFE, TRUSTED
from forgetfilter.runs.run import Run
from forgetfilter.stages.filter_run import FilterRun
from panel import Cell, Look, measure
from panel_problems import CHOSEN, PROBLEMS
from results import Table, add_json

FloatArray = NDArray[np.floating]
REFUSAL = "I'm sorry, but I can't help with that."
OWN_ANSWER_TOKENS = 24
# A row is learned once its tokens have a probability of a half, on (geometric) average.
LEARNED_WELL = float(np.log(0.5))
REVIEW_STEPS, EPOCHS_ON, ROUNDS_ON = 30, 3, 2
ROUNDS_TOGETHER, STEP_OF_WEIGHT = 6, 1.0
COLUMNS = ("rows", "evidence", "AUROC alone", "fused: AUROC", "average precision", "with 10 known", "average precision")
PARTS = (DATA, TRUSTED, ASIDE)


class Sessions:
    """Trains and scores further states of the model of a finished run; what is found is kept in a folder.

    Attributes:
        work: The run, with its model.
        folder: Where to keep what is found.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.work, self.folder = FilterRun.reopen(run, Console()), folder
        self.parts = self.work.material.parts
        folder.mkdir(exist_ok=True)

    @property
    def runner(self) -> StageRunner:
        return self.work.runner

    def kept(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder of results, made by `make` where it is not there yet."""
        path = self.folder / name
        if not path.exists():
            beside = self.folder / f"{name}.partial"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            make(beside)
            beside.rename(path)
        return path

    def score(self, folder: Path, tables: dict[str, TokenTable]) -> None:
        """Score rows in the present state, a folder for each part."""
        model, scorer = self.runner.model, Likelihood(self.runner.model, self.runner.budget)
        for part, table in tables.items():
            (folder / part).mkdir(parents=True)
            score(model, scorer, table, table.scorable, folder / part)

    def train(self, table: TokenTable, rows: NDArray[np.intp], steps: int, folder: Path, *, seed: int = 0) -> None:
        folder.mkdir()
        settings = replace(self.runner.settings.training, seed=seed)
        finetune(self.runner.model, table, rows, steps, settings, folder)

    def values(self, folder: Path) -> dict[str, FloatArray]:
        """Read forgetting tables that `measure_forgetting` wrote: r of each row, by part."""
        learned, reviewed, _ = columns_of(LIKELIHOOD)
        tables = {part: pq.read_table(folder / f"{part}.parquet") for part in self.parts}
        return {
            part: table.column(learned).to_numpy() - table.column(reviewed).to_numpy() for part, table in tables.items()
        }

    def lagging(self) -> dict[str, FloatArray]:
        """Measure forgetting after rows that were not learned well were learned on."""
        return self.values(self.kept("lagging", self._lagging))

    def _lagging(self, folder: Path) -> None:
        material, runner = self.work.material, self.runner
        runner.bring(LEARNED)
        table = material.tokens(*self.parts)
        for number in range(ROUNDS_ON):
            rows = table.scorable
            results = score_in_memory(runner.model, Likelihood(runner.model, runner.budget), table, rows)
            behind = rows[np.array([result["logprobs"].mean() for result in results]) < LEARNED_WELL]
            print(f"{folder}: {len(behind)} of {len(rows)} rows lag", flush=True)
            if len(behind):
                self.train(
                    table, behind, runner.steps(len(behind), EPOCHS_ON), folder / f"on-{number}", seed=number + 1
                )
        tables = {part: material.tokens(part) for part in self.parts}
        self.score(folder / LEARNED, tables)
        safe = material.tokens(SAFE)
        self.train(safe, safe.scorable, REVIEW_STEPS, folder / "review")
        self.score(folder / REVIEWED, tables)
        self._measure(folder, tables, {part: partial(material.said, part) for part in self.parts})

    def _measure(
        self, folder: Path, tables: dict[str, TokenTable], said: Mapping[str, Callable[[], Iterator[Said]]]
    ) -> None:
        rows = {
            part: ScoredRows(said[part], tables[part], folder / LEARNED / part, [folder / REVIEWED / part])
            for part in tables
        }
        measure_forgetting(rows, "likelihood", folder)

    def control(self, name: str) -> dict[str, FloatArray]:
        """Measure the forgetting of other answers to the same prompts: the model's own, or a refusal."""
        return self.values(self.kept(name, partial(self._control, name)))

    def _control(self, name: str, folder: Path) -> None:
        material, runner = self.work.material, self.runner
        runner.bring(BASE)
        said, tables = {}, {}
        for part in self.parts:
            table = material.tokens(part)
            answers = np.full(len(table), REFUSAL, dtype=object)
            if name == "own-answer":
                scorer = Answers(runner.model, self.work.encoder.tokenizer, runner.budget, OWN_ANSWER_TOKENS)
                found = score_in_memory(runner.model, scorer, table, table.scorable)
                for i, result in zip(table.scorable, found, strict=True):
                    answers[i] = result["answer"].replace("\0", "").strip() or REFUSAL
            rows = [
                (id, row, _answering(chat, answer))
                for (id, row, chat), answer in zip(self._of_table(part, table), answers, strict=True)
            ]
            for _ in write_tokens(rows, self.work.encoder, folder / f"{part}.arrow"):
                pass
            said[part], tables[part] = partial(iter, rows), TokenTable(folder / f"{part}.arrow")
        self.score(folder / BASE, tables)
        for state in (LEARNED, REVIEWED):
            runner.bring(state)
            self.score(folder / state, tables)
        self._measure(folder, tables, said)

    def _of_table(self, part: str, table: TokenTable) -> Iterator[Said]:
        wanted = set(table.rows.tolist())
        return (said for said in self.work.material.said(part) if said[1] in wanted)

    def refused_before(self) -> dict[str, FloatArray]:
        """Return the mean log-probability of a refusal of each prompt under the untouched model."""
        folder = self.kept("refusal", partial(self._control, "refusal")) / BASE
        return {part: self._mean_logprobs(folder / part) for part in self.parts}

    def _mean_logprobs(self, folder: Path) -> FloatArray:
        logprobs = pq.read_table(folder).column("logprobs").to_pylist()
        return np.array([np.mean(values) for values in logprobs])

    def co_trained(self) -> dict[str, FloatArray]:
        """Learn safe and untrusted rows together, and untrusted rows the less the worse they are learned."""
        kept = np.load(self.kept("co-trained", self._co_trained) / "little.npz")
        return {part: kept[part] for part in self.parts}

    def _co_trained(self, folder: Path) -> None:
        material, runner = self.work.material, self.runner
        runner.bring(BASE)
        table = material.tokens(SAFE, *self.parts)
        safe = len(material.tokens(SAFE))
        rows = table.scorable
        judged = rows[rows >= safe]
        scorer = Likelihood(runner.model, runner.budget)

        def losses() -> FloatArray:
            results = score_in_memory(runner.model, scorer, table, judged)
            return np.array([-result["logprobs"].mean() for result in results])

        rng, logits, before = np.random.default_rng(0), np.zeros(len(judged)), losses()
        for number in range(ROUNDS_TOGETHER):
            # Drawing a row as often as it weighs is the same in expectation as weighing its loss.
            drawn = judged[rng.random(len(judged)) < 1 / (1 + np.exp(-logits))]
            chosen = np.concatenate([rows[rows < safe], drawn])
            self.train(table, chosen, runner.steps(len(chosen), 1), folder / f"round-{number}", seed=number)
            gained = before - losses()
            logits += STEP_OF_WEIGHT * (gained - gained.mean()) / gained.std()
        little = dict(zip(judged.tolist(), -logits, strict=True))
        ends = np.cumsum([safe, *(len(material.tokens(part)) for part in self.parts)])
        by_part = {
            part: np.array([little.get(i, np.nan) for i in range(start, end)])
            for part, start, end in zip(self.parts, ends, ends[1:], strict=False)
        }
        np.savez(folder / "little.npz", allow_pickle=False, **by_part)


def _answering(chat: Chat, answer: str) -> Chat:
    """Put another answer in place of the first one of a chat, and of all after it."""
    return chat.with_messages([*chat.messages[: chat.first_answer], Message("assistant", answer, trained=True)])


def of_witnesses(cell: Cell, run: Run, values: dict[str, FloatArray]) -> FloatArray:
    """Scatter the values of a run's rows over the rows of the witnesses, by id; NaN elsewhere."""
    scattered = np.full(len(cell.witnesses.part), np.nan)
    for part, own in values.items():
        ids = TokenTable(run.folder("tokens") / f"{part}.arrow").ids.combine_chunks()
        places = cell.witnesses.of(part)
        indices = pc.index_in(cell.witnesses.ids.take(places), value_set=ids)
        found = indices.is_valid().to_numpy()
        scattered[places[found]] = own[indices.drop_null().to_numpy()]
    return scattered


def second_seed(cell: Cell, folder: Path, model: str) -> FloatArray:
    """Measure forgetting in a run of the same rows with another seed."""
    safe = str(folder / "safe.jsonl") if cell.drawn.safe else "builtin"
    again = ForgetFilter(model=model, signal="likelihood", seed=1)
    run = Run.open(again.run(str(folder / "noisy.jsonl"), safe, output=folder / "seed-1").path)
    parts = [part for part in PARTS if (run.folder(FORGETTING) / f"{part}.parquet").exists()]
    scores = read_checkpoint_scores(run, parts)
    return of_witnesses(cell, run, {part: before - after for part, (before, after) in scores.items()})


def evidence(cell: Cell, folder: Path, model: str) -> Iterator[tuple[str, dict[str, FloatArray]]]:
    """Yield each way, with the values that are fused beside likeness."""
    run = Run.open(folder / "run")
    r = cell.forgetting
    yield "none", {}
    yield "forgetting", {FORGETTING: r}
    yield "a second seed", {FORGETTING: (r + second_seed(cell, folder, model)) / 2}
    sessions = Sessions(run, folder / "sessions")
    place = partial(of_witnesses, cell, run)
    yield "those that lag", {FORGETTING: place(sessions.lagging())}
    own, refusal = place(sessions.control("own-answer")), place(sessions.control("refusal"))
    yield "own answer, half", {FORGETTING: r - own / 2}
    yield "own answer, whole", {FORGETTING: r - own}
    yield "own answer beside", {FORGETTING: r, "own": -own}
    yield "refusal", {FORGETTING: r - refusal}
    yield "refusal beside", {FORGETTING: r, "refusal": -refusal}
    before = place(sessions.refused_before())
    yield "refusal, before", {"refusal": before}
    yield "refusal, before, beside", {FORGETTING: r, "refusal": before}
    together = place(sessions.co_trained())
    yield "co-trained", {"together": together}
    yield "co-trained beside", {FORGETTING: r, "together": together}


def figures(cell: Cell, others: dict[str, FloatArray], known: int) -> tuple[float, float]:
    """Measure AUROC and average precision of suspicion with these values fused, and so many known unsafe rows."""
    chosen = cell.with_known(known)
    look = Look.at(cell, chosen)
    suspicion = look.fuse({name: values[chosen] for name, values in others.items()}).suspicion[look.untrusted]
    return auroc(suspicion, cell.unsafe), average_precision(suspicion, cell.unsafe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", nargs="+", default=["harmful", "toxic", "biased", "mix"])
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    table = Table(*COLUMNS)
    for problem in PROBLEMS:
        if problem.half != CHOSEN or problem.name not in options.problems:
            continue
        cell = measure(problem, options.data, options.work, options.model, trained=True)
        folder = options.work / problem.half / problem.name
        for name, others in evidence(cell, folder, options.model):
            alone = [values[cell.witnesses.of(DATA)] for values in others.values()]
            cells = [f"{auroc(alone[0], cell.unsafe):.3f}" if len(alone) == 1 else "–"]
            cells += [f"{value:.3f}" for known in (0, 10) for value in figures(cell, others, known)]
            table.add(problem.name, name, *cells)
    table.keep(options.json, "Evidence that suspicion does not use")


if __name__ == "__main__":
    main()
