"""Score rows with a model: teacher-forced likelihood, ROUGE-1 of greedy answers, and the answers themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..data.tokens import Tokens, TokenTable
from ..errors import TrainingError
from ..metrics.text import rouge1, words
from ..runs.files import written_whole
from ..runs.layout import shard_name
from .generation import greedy
from .gpu import decoding  # noqa: F401 - registers how a GPU decodes
from .micro_batches import Work
from .trainable_model import TrainableModel

_ROWS_PER_SHARD = 4096


class Scorer(Protocol):
    """Scores rows with the model in its present state.

    Attributes:
        schema: Columns of a row's result, besides `id` and `row`.
        work: What its passes are. One that writes makes as many passes as the model happens to say tokens.
        tokens_per_pass: Budget of one forward pass, padding included where there is any.
    """

    schema: ClassVar[dict[str, pa.DataType]]
    work: ClassVar[Work]
    tokens_per_pass: int

    def length(self, table: TokenTable, i: int) -> int:
        """Return how many tokens a row takes in the model."""

    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        """Score some rows; the results come in order."""


class Likelihood:
    """Computes the teacher-forced log-probability of each completion token (nats, at most 0; larger = better known).

    Keeps every token's value, and whether it was the model's first choice, for signals to come.
    """

    schema: ClassVar[dict[str, pa.DataType]] = {"logprobs": pa.list_(pa.float32()), "greedy": pa.list_(pa.bool_())}
    work: ClassVar[Work] = "score"

    def __init__(self, model: TrainableModel, tokens_per_pass: int) -> None:
        self._model, self.tokens_per_pass = model, tokens_per_pass

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        logprobs, first_choice = self._model.scorer.eval()(*self._model.inputs(rows))
        ends = np.cumsum([int(row.mask.sum()) for row in rows])[:-1]
        values = np.split(logprobs.float().cpu().numpy(), ends), np.split(first_choice.cpu().numpy(), ends)
        for row, value in zip(rows, values[0], strict=True):
            if not np.isfinite(value).all():
                raise TrainingError(f"row {row.row} (id {row.id}) has a score that is not finite; the model is broken")
        return [{"logprobs": a, "greedy": b} for a, b in zip(*values, strict=True)]


class Rouge:
    """Computes ROUGE-1 between the model's greedy answer and the completion, 0 to 1 (paper, Eq. 3).

    A chat with several answers has the mean over them, each asked for after the chat's own earlier turns.
    A completion without words scores NaN.
    """

    schema: ClassVar[dict[str, pa.DataType]] = {"rouge": pa.float64(), "answers": pa.list_(pa.string())}
    work: ClassVar[Work] = "write"

    def __init__(self, model: TrainableModel, tokenizer: Any, tokens_per_pass: int) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.tokens_per_pass = model.answer_budget(tokens_per_pass)

    def length(self, table: TokenTable, i: int) -> int:
        row = table[i]
        # Each answer is asked for with all turns before it.
        asked = zip(row.spans, row.prompt_ends, strict=True)
        return sum(prompt_end + answer_limit(end - start) for (start, end), prompt_end in asked)

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        prompts, limits, references, owners = [], [], [], []
        for owner, row in enumerate(rows):
            for (start, end), prompt_end in zip(row.spans, row.prompt_ends, strict=True):
                prompts.append(row.input_ids[:prompt_end])
                limits.append(max(1, min(answer_limit(end - start), self._model.longest - prompt_end)))
                # Decoded as the answer will be: without the end-of-turn token.
                references.append(self._tokenizer.decode(row.input_ids[prompt_end:end], skip_special_tokens=True))
                owners.append(owner)
        answers = greedy(self._model, self._tokenizer, prompts, limits)
        results: list[dict[str, Any]] = [{"rouge": [], "answers": []} for _ in rows]
        for owner, answer, reference in zip(owners, answers, references, strict=True):
            results[owner]["rouge"].append(rouge1(answer, reference) if words(reference) else np.nan)
            results[owner]["answers"].append(answer)
        return [{**result, "rouge": _mean_known(result["rouge"])} for result in results]


class Answers:
    """Writes the model's greedy answer to each row's prompt, which is all before the first completion.

    No answer is longer than `most_tokens`; special tokens are part of it on request.
    """

    schema: ClassVar[dict[str, pa.DataType]] = {"answer": pa.string()}
    work: ClassVar[Work] = "write"

    def __init__(
        self,
        model: TrainableModel,
        tokenizer: Any,
        tokens_per_pass: int,
        most_tokens: int = 128,
        *,
        with_special: bool = False,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.tokens_per_pass = model.answer_budget(tokens_per_pass)
        self.most_tokens, self._with_special = most_tokens, with_special

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i]) + self.most_tokens

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        prompts = [row.input_ids[: max(1, row.prompt_ends[0])] for row in rows]
        limits = [max(1, min(self.most_tokens, self._model.longest - len(prompt))) for prompt in prompts]
        answers = greedy(self._model, self._tokenizer, prompts, limits, with_special=self._with_special)
        return [{"answer": answer} for answer in answers]


def answer_limit(reference: int) -> int:
    """Return how many tokens to decode for a reference of this length; a longer answer is wrong whatever follows."""
    return reference + max(16, reference // 4)


def _mean_known(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def score(
    model: TrainableModel,
    scorer: Scorer,
    table: TokenTable,
    rows: NDArray[np.intp],
    folder: Path,
    on_rows: Callable[[int], None] = lambda _: None,
    on_resume: Callable[[int], None] = lambda _: None,
) -> Path:
    """Score some rows of the table, each with a completion token, and write their results to `folder`, in order.

    Work is done in shards of some thousand rows; a killed scoring goes on after the last finished shard.

    Returns:
        The folder, which holds `part-*.parquet` with `id`, `row` and the scorer's columns.
    """
    accelerator = model.accelerator
    for shard, first in enumerate(range(0, len(rows), _ROWS_PER_SHARD)):
        chosen = rows[first : first + _ROWS_PER_SHARD]
        path = folder / shard_name(shard)
        if not path.exists():
            results = score_in_memory(model, scorer, table, chosen, on_rows)
            if accelerator.is_main_process:
                _write_shard(results, scorer, table, chosen, path)
            accelerator.wait_for_everyone()
        else:
            on_resume(len(chosen))
    return folder


def score_in_memory(
    model: TrainableModel,
    scorer: Scorer,
    table: TokenTable,
    rows: NDArray[np.intp],
    on_rows: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Score some rows of the table; every process gets all results, in order."""
    # Processes that hold one model together make the same passes: of answers, whose number is open, all of them.
    alone = model.sharded and scorer.work == "write"
    world, index = (1, 0) if alone else (model.accelerator.num_processes, model.accelerator.process_index)
    lengths = np.array([scorer.length(table, int(i)) for i in rows])
    passes = model.deal(np.arange(len(rows)), lengths, scorer.tokens_per_pass, scorer.work)
    # A process that has no pass left repeats the last one, lest the others wait for its part of the model.
    own = [passes.rows[min(start + index, len(passes.rows) - 1)] for start in range(0, len(passes.rows), world)]
    inputs = ([table[int(rows[j])] for j in chosen] for chosen in own)
    results = model.lanes.map(scorer.score, inputs) if passes.side_by_side else map(scorer.score, inputs)
    mine: list[tuple[int, dict[str, Any]]] = []
    for number, (chosen, found) in enumerate(zip(own, results, strict=True)):
        if number * world + index < len(passes.rows):
            mine += zip(chosen.tolist(), found, strict=True)
        on_rows(sum(len(batch) for batch in passes.rows[number * world : (number + 1) * world]))
    by_position = dict(gather_object(mine) if world > 1 else mine)
    return [by_position[j] for j in range(len(rows))]


def _write_shard(results: list[dict[str, Any]], scorer: Scorer, table: TokenTable, rows: Any, path: Path) -> None:
    columns: dict[str, Any] = {
        "id": table.ids.take(pa.array(rows)).combine_chunks(),
        "row": pa.array(table.rows[rows]),
    }
    for name, kind in scorer.schema.items():
        columns[name] = pa.array([result[name] for result in results], kind)
    with written_whole(path) as beside:
        pq.write_table(pa.table(columns), beside)
