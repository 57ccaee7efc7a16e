"""How fast rows are scored: by likelihood, and by greedy answers for ROUGE. Beside stock parts, in one run.

    python benchmarks/scoring.py --data ../shared/data/normalised likelihood
    python benchmarks/scoring.py --data ../shared/data/normalised --rows 12 --rounds 1 answers

Likelihood: ours against a plain forward pass with all logits, in batches of rows of like length, and one row at a
time; with --top-blocks, ours after the rows have gone through the other blocks, which is not timed. Answers: our
decoding against transformers' `generate`, one row at a time with up to 500 new tokens (as the paper's authors do) and
in batches. On a GPU (--device cuda) the batches are larger, and nothing is answered one row at a time. The contestants
take turns; the results are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import log_softmax

from contest import Workload, compete, prepared, show_speeds, timed
from forgetfilter.data.tokens import TokenTable
from forgetfilter.models.scoring import Likelihood, Rouge, score_in_memory
from results import Table, add_json

NEW_TOKENS = 500


def in_batches(workload: Workload, size: int) -> list[NDArray[np.intp]]:
    order = np.argsort(workload.table.lengths, kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]


def ours_likelihood(workload: Workload, table: TokenTable) -> list[float]:
    scorer = Likelihood(workload.model, 2 * workload.model.token_budget(None))
    results = score_in_memory(workload.model, scorer, table, table.scorable)
    return [float(np.mean(result["logprobs"])) for result in results]


@torch.inference_mode()
def plain_likelihood(workload: Workload, model: Any, size: int) -> list[float]:
    """Mean log-probability of each row's completion, from a forward pass with all logits."""
    found = np.zeros(len(workload.table))
    for chosen in in_batches(workload, size):
        rows = [workload.table[int(i)] for i in chosen]
        width = max(len(row.input_ids) for row in rows)
        ids, seen = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.input_ids)], seen[i, : len(row.input_ids)] = torch.from_numpy(row.input_ids), 1
        ids, seen = ids.to(model.device), seen.to(model.device)
        logprobs = log_softmax(model(input_ids=ids, attention_mask=seen).logits[:, :-1].float(), dim=-1)
        of_tokens = logprobs.gather(2, ids[:, 1:, None]).squeeze(2).cpu()
        for i, row in enumerate(rows):
            mask = torch.from_numpy(row.mask[1:])
            found[chosen[i]] = float(of_tokens[i, : len(mask)][mask].mean())
    return [float(value) for value in found]


def _said(size: int) -> str:
    return "one row at a time" if size == 1 else f"{size} rows at once"


def likelihood(workload: Workload, table: TokenTable, rounds: int) -> Table:
    model = workload.stock_model(lora=True).eval()
    contestants: dict[str, Callable[[], tuple[float, list[float]]]] = {
        "ours": timed(lambda: ours_likelihood(workload, table)),
        **{
            f"all logits, {_said(size)}": timed(partial(plain_likelihood, workload, model, size))
            for size in ((64, 16, 1) if workload.on_gpu else (8, 2, 1))
        },
    }
    measured = compete(contestants, rounds)
    expected = np.array(measured["ours"][0][1])
    differences = {
        name: f"{max(np.abs(np.array(scores) - expected).max() for _, scores in turns):.1e}"
        for name, turns in measured.items()
    }
    return show_speeds(
        measured, int(workload.table.lengths.sum()), "tokens", "largest difference of a row's mean", differences
    )


def prompts(workload: Workload) -> list[NDArray[np.int32]]:
    rows = [workload.table[int(i)] for i in workload.table.scorable]
    return [row.input_ids[: row.prompt_ends[0]] for row in rows]


def ours_answers(workload: Workload) -> list[str]:
    scorer = Rouge(workload.model, workload.tokenizer, 2 * workload.model.token_budget(None))
    results = score_in_memory(workload.model, scorer, workload.table, workload.table.scorable)
    return [result["answers"][0] for result in results]


@torch.inference_mode()
def generated(workload: Workload, model: Any, asked: Sequence[NDArray[np.int32]], size: int) -> list[str]:
    """What `generate` answers, whole answers of up to 500 tokens."""
    order, answers = np.argsort([len(p) for p in asked], kind="stable"), [""] * len(asked)
    ends = workload.tokenizer.eos_token_id
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        width = max(len(asked[i]) for i in chosen)
        ids = torch.full((len(chosen), width), ends, dtype=torch.long)
        seen = torch.zeros_like(ids)
        for j, i in enumerate(chosen):
            ids[j, width - len(asked[i]) :], seen[j, width - len(asked[i]) :] = torch.from_numpy(asked[i]), 1
        ids, seen = ids.to(model.device), seen.to(model.device)
        out = model.generate(
            input_ids=ids, attention_mask=seen, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=ends
        )
        for j, i in enumerate(chosen):
            answers[i] = workload.tokenizer.decode(out[j, width:], skip_special_tokens=True)
    return answers


def answers(workload: Workload, rounds: int) -> Table:
    model = workload.stock_model(lora=True).eval()
    asked = prompts(workload)
    contestants: dict[str, Callable[[], tuple[float, list[str]]]] = {
        "ours": timed(lambda: ours_answers(workload)),
        **{
            f"generate, {_said(size)}": timed(partial(generated, workload, model, asked, size))
            for size in ((256, 64) if workload.on_gpu else (8, 1))
        },
    }
    measured = compete(contestants, rounds)
    expected = measured["ours"][0][1]
    same = {
        name: f"{sum(whole.startswith(ours) for ours, whole in zip(expected, turns[0][1], strict=True))}/{len(asked)}"
        for name, turns in measured.items()
    }
    return show_speeds(measured, len(asked), "rows", "answers that begin as ours", same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("likelihood", "answers"))
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--top-blocks", type=float, default=1.0, help="share of the blocks that have an adapter")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    add_json(parser)
    options = parser.parse_args()
    where = {"device": options.device, "model": options.model}
    made = prepared(options.data, options.rows, options.dtype, options.top_blocks, **where)
    with made as workload, workload.read() as table:
        if options.what == "likelihood":
            speeds = likelihood(workload, table, options.rounds)
        else:
            speeds = answers(workload, options.rounds)
        speeds.keep(options.json, f"{options.what.capitalize()} in {options.dtype}")


if __name__ == "__main__":
    main()
