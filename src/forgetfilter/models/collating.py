"""Collate rows into the tensors that go through the model: their shared prefix once, then the padded remainders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.tokens import Tokens
from .activations import KnownTokens

# The cost of a pass, in tokens, where no separate pass may be made for a shared prefix.
NOT_SHARED = 1 << 60


def collate(rows: Sequence[Tokens], device: torch.device, pass_overhead: int) -> tuple[Tensor, Tensor, Tensor]:
    """Collate rows for `CompletionScorer`: the shared prefix, and tokens and completion mask padded on the right.

    The prefix is empty if sharing it saves fewer tokens than a forward pass of its own costs.
    """
    shared = worth_sharing(shared_prefix(rows), len(rows), pass_overhead)
    input_ids = pad_right([row.input_ids[shared:] for row in rows])
    # Padding is left out of the loss.
    completion = pad_right([row.mask[shared:] for row in rows])
    prefix = rows[0].input_ids[None, :shared].astype(np.int64)
    return tuple(torch.from_numpy(array).to(device) for array in (prefix, input_ids, completion))  # type: ignore[return-value]


def pad_right(sequences: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Pad sequences on the right, shape (sequences, longest). Any token will do: a causal model never looks right."""
    kind = np.bool_ if sequences[0].dtype == np.bool_ else np.int64
    padded: NDArray[Any] = np.zeros((len(sequences), max(len(sequence) for sequence in sequences)), dtype=kind)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded


def worth_sharing(shared: int, rows: int, pass_overhead: int) -> int:
    """Return the tokens of a shared prefix worth a pass of its own: all, or 0 if the pass costs more than it saves."""
    return shared if (rows - 1) * shared > pass_overhead else 0


def with_states(rows: Sequence[Tokens], inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Add the cached activations to what `collate` returned, if those of every row are cached."""
    known = [row for row in rows if isinstance(row, KnownTokens)]
    if len(known) < len(rows):
        return inputs
    shared, (count, width) = inputs[0].shape[1], inputs[1].shape
    each = [row.states.read(row.place) for row in known]
    states = each[0].new_zeros(count, width, each[0].shape[1])
    for i, of_row in enumerate(each):
        states[i, : len(of_row) - shared] = of_row[shared:]
    return *inputs, each[0][None, :shared].to(inputs[1].device), states.to(inputs[1].device)


def shared_prefix(rows: Sequence[Tokens]) -> int:
    """Count the tokens that all rows begin with, such as a system prompt, up to the token before any completion."""
    return common_prefix([row.input_ids[: max(0, row.spans[0][0] - 1)] for row in rows])


def common_prefix(sequences: Sequence[NDArray[np.integer]]) -> int:
    """Count the tokens that all of these sequences begin with."""
    length = min(len(sequence) for sequence in sequences)
    for sequence in sequences[1:]:
        same = sequence[:length] == sequences[0][:length]
        length = length if same.all() else int(np.argmin(same))
    return length
