"""Score rows by the mean hidden states of their prompt or answer at some depths of the model."""

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
from .collating import NOT_SHARED, collate, pad_right, with_states
from .micro_batches import Work
from .trainable_model import TrainableModel

Part = Literal["answer", "beginning", "prompt"]
# How many tokens of each answer are its beginning, where an answer that should not be given is contradicted.
BEGINNING = 24


class View(NamedTuple):
    """Says which hidden states of a row to average.

    Attributes:
        part: Those of all its completion tokens, of the first ones of each answer, or of what stands before the first.
        depth: How far up the model, 0 (embeddings) to 1 (the last block).
    """

    part: Part
    depth: float


class HiddenStates:
    """Computes mean hidden states of rows, view after view in one list; a scorer.

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

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        self._model.check(rows)
        self._model.scorer.eval()
        if self._one_by_one and len(rows) > 1:
            return [result for row in rows for result in self.score([row])]
        # No prefix is shared, so that every row has all of its states.
        inputs = with_states(rows, collate(rows, self._scorer.device, NOT_SHARED))
        # Where the frozen blocks' activations are cached, nothing below them is computed again.
        known = inputs[4] if len(inputs) > 3 and self._scorer.frozen <= min(self._depths) else None
        layers = self._scorer.hidden_states(inputs[1], self._depths, known)
        inside = {
            part: torch.from_numpy(pad_right([_inside(row, part) for row in rows])).to(self._scorer.device)[:, :, None]
            for part in {view.part for view in self._views}
        }
        means = [_mean(states, inside[view.part]) for states, view in zip(layers, self._views, strict=True)]
        return [{"states": states} for states in torch.cat(means, dim=1).cpu().numpy()]

    def _agrees(self) -> bool:
        """Check that a row has the same hidden states alone and beside a longer row, as is known of scores."""
        self._model.scorer.eval()
        tokens = trial_tokens(self._model.model, 2, 8)
        alone, beside = (self._scorer.hidden_states(of, self._depths) for of in (tokens[:1, :5], tokens))
        few = 10 * tolerance(self._model.hardware.dtype)
        return all(
            torch.allclose(one[0], both[0, :5], rtol=few, atol=few) for one, both in zip(alone, beside, strict=True)
        )


def _inside(row: Tokens, part: Part) -> NDArray[np.bool_]:
    """Mark the tokens of a part of a row, shape (length,); the first token stands for a missing prompt."""
    if part == "answer":
        return row.mask
    inside = np.zeros(len(row.input_ids), dtype=bool)
    if part == "prompt":
        inside[: max(1, row.spans[0][0])] = True
    else:
        for start, end in row.spans:
            inside[start : min(end, start + BEGINNING)] = True
    return inside


def _mean(states: Tensor, inside: Tensor) -> Tensor:
    mean: Tensor = (states.float() * inside).sum(dim=1) / inside.sum(dim=1)
    return mean
