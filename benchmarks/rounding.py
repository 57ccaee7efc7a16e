"""How much a row's scores depend on the rows beside it: rounding, in each number format.

    python benchmarks/rounding.py --data ../shared/data/normalised

Rows are scored alone, and in micro-batches of 4 and 8 rows of similar length, with the untouched model. Told is the
difference of their tokens' log-probabilities in nats: the mean over all tokens, the largest, and for how many rows
there is none. The activations that the lower blocks make, which go through the model alone, are compared on one core
and on all.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, Tokens, TokenTable, write_tokens
from forgetfilter.models.loading import load_tokenizer
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import settings_of
from problems import load, shuffled

Scores = list[NDArray[np.float32]]


def read_rows(options: argparse.Namespace, folder: Path) -> list[Tokens]:
    """Encode the first rows of a shuffled source as the filter does, from the shortest."""
    chosen = shuffled(load(options.data, options.source), random.Random(0))[: options.rows]
    tokenizer = load_tokenizer(find_model(options.model))
    chats = ((str(i), i, Chat.of(row["prompt"], row["completion"])) for i, row in enumerate(chosen))
    for _ in write_tokens(chats, Encoder(tokenizer, "auto", 512, 32), folder / "tokens.arrow"):
        pass
    table = TokenTable(folder / "tokens.arrow")
    return sorted((table[int(i)] for i in table.scorable), key=lambda row: len(row.input_ids))


@torch.inference_mode()
def scores(model: TrainableModel, rows: Sequence[Tokens], together: int) -> Scores:
    """Score rows so many at a time."""
    found: Scores = []
    path = model.scorer.eval()
    for first in range(0, len(rows), together):
        batch = rows[first : first + together]
        logprobs = path(*model.inputs(batch))[0].float().numpy()
        found += np.split(logprobs, np.cumsum([row.mask.sum() for row in batch])[:-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--source", default="diasafety")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=48)
    options = parser.parse_args()
    print("| format | rows together | mean difference | largest | rows without any |\n|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        settings = settings_of(Settings, model=options.model, device="cpu", dtype=dtype, top_blocks=0.5)
        model = TrainableModel(find_model(options.model), settings.model, settings.adapter, 0)
        with TemporaryDirectory() as folder:
            rows = read_rows(options, Path(folder))
        alone = scores(model, rows, 1)
        for together in (4, 8):
            apart = [np.abs(a - b) for a, b in zip(alone, scores(model, rows, together), strict=True)]
            all_tokens, same = np.concatenate(apart), sum(not row.any() for row in apart)
            print(
                f"| {dtype} | {together} | {all_tokens.mean():.1e} | {all_tokens.max():.1e} | {same} of {len(rows)} |"
            )
        made, cores = model.scorer.read(rows), torch.get_num_threads()
        torch.set_num_threads(1)
        again = model.scorer.read(list(reversed(rows)))[::-1]
        torch.set_num_threads(cores)
        same = sum(bool((one == other).all()) for one, other in zip(made, again, strict=True))
        print(f"| {dtype} | activations, one core and {cores} | | | {same} of {len(rows)} |", flush=True)


if __name__ == "__main__":
    main()
