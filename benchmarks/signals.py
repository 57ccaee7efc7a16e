"""Compare signals that find unsafe rows, and lengths of sessions: train and review once, compare many.

    python benchmarks/signals.py --data ../shared/data/normalised --work /tmp/signals \
        --notions harmfulness toxicity --shares 0.5 0.1 --draws 0 1 2

For each notion, share of unsafe rows and draw, the model learns the untrusted rows once and keeps the
log-probability of every completion token, before and after learning and at several points of three reviews:

    safe      the safe examples, as in the paper
    control   ordinary instructions and answers, so that what any further training undoes can be subtracted
    contrast  rows known to be unsafe
    self      the aligned model's own answers to the untrusted data's prompts
    builtin   the safe set that comes with the package
    mismatched  safe examples of another notion (paper, Appendix E)
    with-ordinary  half safe examples, half ordinary instructions of the package

With --rouge it also answers, before and after twenty steps of the safe review (the paper's signal). Every
candidate signal is computed from these. Finished cells are read again from the work folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from candidates import CANDIDATES, Cell, ranks
from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.forgetting.signals import learned_tokens
from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval
from forgetfilter.metrics.text import words
from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.loading import load_tokenizer, quiet_libraries
from forgetfilter.models.scoring import Answers, Likelihood, Rouge, Scorer, score_in_memory
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.models.training import Step, finetune, steps_for
from forgetfilter.runs.inputs import builtin
from forgetfilter.runs.layout import SAFE, TRUSTED
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import from_mapping
from forgetfilter.stages.own_answers import choose_prompts
from forgetfilter.suspicion.ridge import folds
from forgetfilter.suspicion.word_table import word_table
from problems import NOTIONS, REVIEW, Problem, Row, draw_problem

REVIEWS = {
    "safe": (5, 10, 20, 30, 60),
    "control": (10, 20),
    "contrast": (10,),
    "self": (10, 20),
    "builtin": (10, 20),
    "mismatched": (10, 20),
    "with-ordinary": (10, 20, 30),
}
_ANSWERED = ("learned", "safe20")
_TOKENS_PER_PASS = 4096


class Measurer:
    """Measures cells with one model."""

    def __init__(self, model: str, settings: dict[str, Any], reviews: Sequence[str], rouge: bool = False) -> None:
        quiet_libraries()
        self.reviews, self.rouge = reviews, rouge
        self.settings = from_mapping(Settings, {"max_length": 320, "max_completion": 64, "model": model} | settings)
        self.source = find_model(self.settings.model.model)
        self.tokenizer = load_tokenizer(self.source)
        self._model: TrainableModel | None = None

    @property
    def model(self) -> TrainableModel:
        if self._model is None:
            settings = self.settings
            self._model = TrainableModel(self.source, settings.model, settings.adapter, settings.training.seed)
        return self._model

    def cell(self, problem: Problem, folder: Path) -> Cell:
        """Measure one cell, or read its earlier measurements."""
        stored = folder / "logprobs.npz"
        if not stored.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            np.savez_compressed(folder / "partial.npz", **self._measure(problem, folder))
            (folder / "partial.npz").rename(stored)
            for left in folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
        values = dict(np.load(stored))
        rouge = {name.removeprefix("rouge-"): values.pop(name) for name in list(values) if name.startswith("rouge-")}
        labels = np.array([row["label"] for row in problem.noisy])
        ends = np.cumsum(values.pop("lengths"))[:-1]
        texts = (words(f"{row['prompt']}\n{row['completion']}") for row in problem.noisy)
        ids = [str(i) for i in range(len(labels))]
        tokens = {name: np.split(array, ends) for name, array in values.items()}
        return Cell(labels, word_table(texts), folds(ids), tokens, rouge)

    def _measure(self, problem: Problem, folder: Path) -> dict[str, Any]:
        model = self.model
        model.reset()
        if problem.align:
            rows = self._tokens(problem.align, folder / "align.arrow", problem.noisy)
            self._train(rows, steps_for(len(rows), 3, 16), _inside(folder, "align"))
        noisy = self._tokens(problem.noisy, folder / "noisy.arrow", problem.noisy)
        kept: dict[str, Any] = {"lengths": noisy.counts}
        self._keep("base", noisy, kept)
        answers = self._answers(problem, noisy) if "self" in self.reviews else []
        steps = steps_for(len(noisy), self.settings.sessions.epochs, self.settings.training.batch_size)
        history = self._train(noisy, steps, _inside(folder, "learn"))
        losses, seconds = [step.loss for step in history], sum(step.seconds for step in history)
        summary = f"loss {np.mean(losses[:5]):.2f} to {np.mean(losses[-5:]):.2f} in {steps} steps, {seconds:.0f} s"
        print(f"  {folder.name}: {summary}", flush=True)
        self._keep("learned", noisy, kept)
        learned = model.trainable()
        reviews = {
            "safe": problem.safe,
            "control": problem.control,
            "contrast": problem.known_unsafe,
            "self": answers,
            "builtin": builtin_rows(SAFE),
            "mismatched": problem.mismatched,
            "with-ordinary": problem.safe[: REVIEW // 2] + builtin_rows(TRUSTED)[: REVIEW // 2],
        }
        for name in self.reviews:
            points = REVIEWS[name]
            model.set_trainable(learned)
            rows = self._tokens(reviews[name], folder / f"{name}.arrow", problem.noisy)

            def on_step(step: Step, name: str = name, points: Sequence[int] = points) -> None:
                if step.step in points:
                    self._keep(f"{name}{step.step}", noisy, kept)

            self._train(rows, points[-1], _inside(folder, name), on_step)
        return kept

    def _train(
        self, rows: TokenTable, steps: int, folder: Path, on_step: Callable[[Step], None] = lambda _: None
    ) -> list[Step]:
        training, most = self.settings.training, self.settings.passes.tokens_per_batch
        return finetune(self.model, rows, rows.scorable, steps, training, folder, on_step, tokens_per_batch=most)

    def _keep(self, state: str, table: TokenTable, kept: dict[str, Any]) -> None:
        """Keep all completion tokens' log-probabilities under the present model, and which were its first choice."""
        results = self._scored(Likelihood(self.model, _TOKENS_PER_PASS), table)
        kept[state] = np.concatenate([result["logprobs"] for result in results]).astype(np.float32)
        kept[f"greedy-{state}"] = np.concatenate([result["greedy"] for result in results])
        if self.rouge and state in _ANSWERED:
            results = self._scored(Rouge(self.model, self.tokenizer, _TOKENS_PER_PASS), table)
            kept[f"rouge-{state}"] = np.array([result["rouge"] for result in results])
        self.model.scorer.train()

    def _scored(self, scorer: Scorer, table: TokenTable) -> list[dict[str, Any]]:
        return score_in_memory(self.model, scorer, table, np.arange(len(table)))

    def _answers(self, problem: Problem, noisy: TokenTable) -> list[Row]:
        """Let the model answer the data's prompts before it learns the data."""
        chosen = choose_prompts(noisy, self.settings.safe.self_answers, self.settings.training.seed)
        results = score_in_memory(self.model, Answers(self.model, self.tokenizer, _TOKENS_PER_PASS), noisy, chosen)
        answers = zip(chosen, (result["answer"] for result in results), strict=True)
        return [{**problem.noisy[i], "completion": answer} for i, answer in answers if answer.strip()]

    def _tokens(self, rows: list[Row], path: Path, framed: list[Row]) -> TokenTable:
        """Encode some rows, without the frames that the answers of others share."""
        chats = [(str(i), i, Chat.of(r["prompt"], r["completion"])) for i, r in enumerate(rows)]
        settings = self.settings
        most = learned_tokens(settings.tokens.max_completion, settings.decision.signal)
        encoder = Encoder(self.tokenizer, "auto", settings.tokens.max_length, most, settings.tokens.own_words)
        encoder.own_words.look_at(Chat.of(row["prompt"], row["completion"]) for row in framed)
        for _ in write_tokens(chats, encoder, path):
            pass
        table = TokenTable(path)
        if len(table.scorable) < len(table):
            raise SystemExit(
                f"{path}: {len(table) - len(table.scorable)} rows have no completion within the length limit"
            )
        if not self.model.scorer.skips:
            return table
        folder = _inside(path.parent, f"{path.stem}-read")
        keep_states(self.model, path, folder, _TOKENS_PER_PASS)
        return known_table(self.model, [path], [folder])


def builtin_rows(part: str) -> list[Row]:
    """Read the rows that come with the package."""
    chats = [json.loads(line)["messages"] for line in builtin(part).read_text(encoding="utf-8").splitlines()]
    return [{"prompt": chat[0]["content"], "completion": chat[1]["content"]} for chat in chats]


def cell_folder(work: Path, notion: str, share: float, draw: int, model: str, pairs: list[str]) -> Path:
    """Return the folder of a cell; model and settings are part of its name."""
    settings = dict(pair.split("=", 1) for pair in pairs)
    tag = hashlib.sha256(json.dumps([model, sorted(settings.items())]).encode()).hexdigest()[:6]
    return work / f"{notion}-{share:g}-{draw}-{tag}"


def _inside(folder: Path, session: str) -> Path:
    """Make a folder for one session alone, since a session goes on from the checkpoint that it finds."""
    (folder / session).mkdir()
    return folder / session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is measured")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--notions", nargs="+", choices=NOTIONS, default=list(NOTIONS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5])
    parser.add_argument("--draws", nargs="+", type=int, default=[0])
    parser.add_argument("--reviews", nargs="+", choices=list(REVIEWS), default=list(REVIEWS))
    parser.add_argument("--rouge", action="store_true", help="let the model answer, too; takes as long again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the filter")
    options = parser.parse_args()
    settings: dict[str, Any] = dict(pair.split("=", 1) for pair in options.set)
    measurer = Measurer(options.model, settings, options.reviews, options.rouge)
    for notion in options.notions:
        for share in options.shares:
            cells = []
            for draw in options.draws:
                began = time.monotonic()
                problem = draw_problem(options.data, notion, share, draw)
                folder = cell_folder(options.work, notion, share, draw, options.model, options.set)
                cells.append(measurer.cell(problem, folder))
                print(f"  draw {draw}: {time.monotonic() - began:.0f} s", flush=True)
            print(f"\n### {notion}, {share:.0%} unsafe, {len(cells)} draws\n")
            print(table(cells), flush=True)


def table(cells: list[Cell]) -> str:
    """Format a line for each candidate: figures averaged over the draws, and the lowest and highest AUROC."""
    lines = ["| signal | AUROC | lowest–highest | against safe | against task | AP | with length |", "|" + "---|" * 7]
    for name, candidate in CANDIDATES.items():
        try:
            values = [candidate(cell) for cell in cells]
        except KeyError:
            # A review that this candidate needs was left out.
            continue
        figures = np.array([measure(cell, scores) for cell, scores in zip(cells, values, strict=True)])
        mean, overall = figures.mean(axis=0), figures[:, 0]
        spread = f"{overall.min():.3f}–{overall.max():.3f}"
        if len(cells) == 1:
            cell = cells[0]
            spread = "{:.3f}–{:.3f} (95% over rows)".format(*bootstrap_interval(values[0], cell.unsafe))
        apart = " | ".join(f"{value:.3f}" for value in mean[1:4])
        lines.append(f"| {name} | {mean[0]:.3f} | {spread} | {apart} | {mean[4]:+z.2f} |")
    return "\n".join(lines)


def measure(cell: Cell, forgetting: np.ndarray) -> tuple[float, ...]:
    label, unsafe = cell.labels, cell.unsafe
    apart = [auroc(forgetting[label != other], unsafe[label != other]) for other in ("task", "safe")]
    length = float(np.corrcoef(ranks(forgetting), ranks(cell.lengths))[0, 1])
    return auroc(forgetting, unsafe), *apart, average_precision(forgetting, unsafe), length


if __name__ == "__main__":
    main()
