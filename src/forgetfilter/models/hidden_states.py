"""Score rows by the mean hidden states of their answers at some depths of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.tokens import Tokens, TokenTable
from .capabilities import tolerance, trial_tokens
from .collating import NOT_SHARED, pad_right
from .micro_batches import Work
from .trainable_model import TrainableModel

Part = Literal["answer", "beginning"]
# How many tokens of each answer are its beginning, where an answer that should not be given is contradicted.
BEGINNING = 24


class View(NamedTuple):
    """Says which hidden states of a row to average.

    Attributes:
        part: Those of all its completion tokens, or of the first ones of each answer.
        depth: How far up the model, 0 (embeddings) to 1 (the last block).
    """

    part: Part
    depth: float


class HiddenStates:
    """Computes mean hidden states of rows, view after view in one list; a scorer.

    What rows begin with, such as a system prompt, goes through the model once a pass.

    Args:
        model: The model, in its present state.
        tokens_per_pass: Budget of one forward pass.
        views: What to average.
    """

    schema: ClassVar[dict[str, pa.DataType]] = {"states": pa.list_(pa.float32())}
    work: ClassVar[Work] = "pad"

    def __init__(self, model: TrainableModel, tokens_per_pass: int, views: Sequence[View]) -> None:
        self._model, self.tokens_per_pass, self._views = model, tokens_per_pass, views
        self._scorer = model.scorer.plain
        self._depths = [round(view.depth * self._scorer.blocks) for view in views]
        self._scorer.tap(self._depths)
        self._one_by_one = not self._agrees()
        self._shares = self._scorer.shares and not (model.sharded or self._one_by_one) and self._agrees(shared=3)

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        self._model.check(rows)
        self._model.scorer.eval()
        if self._one_by_one and len(rows) > 1:
            return [result for row in rows for result in self.score([row])]
        inputs = self._scorer.inputs(rows, self._model.pass_overhead if self._shares else NOT_SHARED)
        prefix, input_ids, _, *known = inputs
        # Where the frozen blocks' activations are cached, nothing below them is computed again.
        known = known if self._scorer.frozen <= min(self._depths) else []
        layers = self._scorer.hidden_states(self._depths, prefix, input_ids, *known)
        inside = {part: self._marks(rows, part, prefix.shape[1]) for part in {view.part for view in self._views}}
        means = [_mean(states, inside[view.part]) for states, view in zip(layers, self._views, strict=True)]
        return [{"states": states} for states in torch.cat(means, dim=1).cpu().numpy()]

    def _marks(self, rows: Sequence[Tokens], part: Part, start: int) -> Tensor:
        """Mark the tokens of a part of each row, from a token on that all of it follows, shape (rows, length, 1)."""
        marks = torch.from_numpy(pad_right([_inside(row, part)[start:] for row in rows]))
        return marks.to(self._scorer.device)[:, :, None]

    def _agrees(self, shared: int = 0) -> bool:
        """Check that a row has the same hidden states alone and beside a longer row, as is known of scores.

        Args:
            shared: How many tokens of both rows go through the model once, before the rows.
        """
        self._model.scorer.eval()
        tokens = trial_tokens(self._model.model, 2, 8)
        tokens[1, :shared] = tokens[0, :shared]
        alone = self._scorer.hidden_states(self._depths, tokens[:1, :0], tokens[:1, :5])
        beside = self._scorer.hidden_states(self._depths, tokens[:1, :shared], tokens[:, shared:])
        few = 10 * tolerance(self._model.hardware.dtype)
        return all(
            torch.allclose(one[0, shared:], both[0, : 5 - shared], rtol=few, atol=few)
            for one, both in zip(alone, beside, strict=True)
        )


def _inside(row: Tokens, part: Part) -> NDArray[np.bool_]:
    """Mark the tokens of a part of a row, shape (length,)."""
    if part == "answer":
        return row.mask
    inside = np.zeros(len(row.input_ids), dtype=bool)
    for start, end in row.spans:
        inside[start : min(end, start + BEGINNING)] = True
    return inside


def _mean(states: Tensor, inside: Tensor) -> Tensor:
    mean: Tensor = (states.float() * inside).sum(dim=1) / inside.sum(dim=1)
    return mean
