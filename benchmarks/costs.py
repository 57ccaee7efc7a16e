"""Measure what a token costs in training and in scoring, by the length of the rows and the size of the vocabulary.

    python benchmarks/costs.py

A Llama of SmolLM2-135M's size with random weights, in float32 with LoRA on all linear layers, and rows of random
tokens, half of each the completion. Training is the forward and the backward pass, as `finetune` makes them; scoring is
a forward pass by likelihood; passes go side by side where the tool runs them so. Vocabularies vary at one length,
lengths with one vocabulary. The cells take turns; printed are medians, and their ratio to rows of 512 tokens with
SmolLM2's vocabulary.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from contest import compete, timed
from forgetfilter.data.tokens import Tokens
from forgetfilter.models.gradients import backward_in_turn, backward_side_by_side
from forgetfilter.models.loading import load_tokenizer, quiet_libraries
from forgetfilter.models.micro_batches import deal
from forgetfilter.models.scoring import Likelihood
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import from_mapping
from results import Table, add_json

LENGTHS, VOCABULARIES = (64, 128, 256, 512, 1024, 2048), (8_192, 49_152, 131_072)
USUAL = (512, 49_152)
# Tokens that a cell processes in a turn; a longer row takes a turn by itself.
TOKENS = 2048


@dataclass(frozen=True)
class Cell:
    """A model, and rows of one length for it."""

    model: TrainableModel
    rows: list[Tokens]

    def dealt(self, lanes: int) -> tuple[list[list[Tokens]], bool]:
        """Deal the rows into passes; return the rows of each, and whether the passes go side by side."""
        lengths, overhead = np.array([len(row.input_ids) for row in self.rows]), self.model.pass_overhead
        passes = deal(np.arange(len(lengths)), lengths, self.model.token_budget(None), overhead, lanes)
        return [[self.rows[i] for i in chosen] for chosen in passes.rows], passes.side_by_side


def random_model(folder: Path, vocabulary: int) -> TrainableModel:
    """Make a model of random weights, of SmolLM2-135M's size except for its vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    # None of its tokens is used, but no model is accepted without a tokenizer.
    load_tokenizer(find_model("smollm2-135m")).save_pretrained(folder)
    settings = from_mapping(Settings, {"model": str(folder), "device": "cpu", "dtype": "float32"})
    return TrainableModel(find_model(settings.model.model), settings.model, settings.adapter, 0)


def random_rows(length: int, vocabulary: int) -> list[Tokens]:
    rng, half = np.random.default_rng(0), length // 2
    return [
        Tokens(
            str(i),
            i,
            rng.integers(0, vocabulary, length, dtype=np.int32),
            ((half, length),),
            (half,),
            ("",) * (length - half),
            False,
        )
        for i in range(max(1, TOKENS // length))
    ]


def train(cell: Cell) -> None:
    model = cell.model
    model.model.train()
    passes, side_by_side = cell.dealt(model.lanes.count)
    backward = backward_side_by_side if side_by_side else backward_in_turn
    backward(model, model.scorer, passes, total=sum(int(row.mask.sum()) for row in cell.rows))
    model.model.zero_grad()


def score(cell: Cell) -> None:
    lanes = cell.model.lanes
    passes, side_by_side = cell.dealt(lanes.count)
    scorer = Likelihood(cell.model, cell.model.token_budget(None))
    for _ in lanes.map(scorer.score, passes) if side_by_side else map(scorer.score, passes):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    options = parser.parse_args()
    quiet_libraries()
    sizes = [(length, USUAL[1]) for length in LENGTHS] + [(USUAL[0], size) for size in VOCABULARIES if size != USUAL[1]]
    with TemporaryDirectory() as folder:
        models = {size: random_model(Path(folder) / str(size), size) for size in VOCABULARIES}
        cells = {key: Cell(models[key[1]], random_rows(*key)) for key in sizes}
        work: dict[str, Callable[[], tuple[float, None]]] = {
            f"{kind.__name__} {key}": timed(partial(kind, cell))
            for key, cell in cells.items()
            for kind in (train, score)
        }
        for warm_up in (train, score):
            warm_up(cells[USUAL])
        measured = compete(work, options.rounds)
    against = f"against {USUAL[0]}"
    table = Table("tokens a row", "vocabulary", "training, ms a token", against, "scoring, ms a token", against)
    for key, cell in cells.items():
        tokens = sum(len(row.input_ids) for row in cell.rows)
        shown = [f"{key[0]:,}", f"{key[1]:,}"]
        for kind in (train, score):
            cost, usual = (median(seconds for seconds, _ in measured[f"{kind.__name__} {k}"]) for k in (key, USUAL))
            shown += [f"{1000 * cost / tokens:.2f}", f"{cost / tokens / (usual / TOKENS):.2f}"]
        table.add(*shown)
    table.keep(options.json, "Cost by length and vocabulary")


if __name__ == "__main__":
    main()
