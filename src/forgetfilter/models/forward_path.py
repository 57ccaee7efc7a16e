"""Choose how rows go through a model: the plain path, which every model takes, or one that is faster where it can be.

Each path gives the same scores and gradients up to rounding. Nothing outside `cpu/`, `gpu/` and this file asks which
one is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.tokens import Tokens
from .cpu.attention import use_own_attention
from .cpu.blocks import base_of, use_fast_blocks
from .cpu.lora import fuse_lora
from .forward import CompletionScorer
from .gpu.packed_rows import PackedScorer, can_pack
from .loading import Hardware
from .micro_batches import Indices, Machine, Passes, Work


class ForwardPath(Protocol):
    """A model's way from rows to scores, as training and scoring call it.

    Optimizer steps and answers, which also need the trainable model, are `optimizer_steps.steps_along` and
    `generation.decode`; a path may register its own implementation there.

    Attributes:
        model: The model.
        plain: The plain path through the same weights, with padded rows.
        skips: Whether passes can skip the frozen blocks, where their activations are cached.
    """

    @property
    def model(self) -> Any: ...
    @property
    def plain(self) -> CompletionScorer: ...
    @property
    def skips(self) -> bool: ...

    def __call__(self, *inputs: Any) -> Any:
        """Compute the log-probability of each completion token, in nats, and whether no other token is more likely."""

    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Any, ...]:
        """Return the arguments with which to call the path for some rows."""

    def read(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """Compute the activations of the frozen blocks for each row, shape (tokens, width), on the CPU."""

    def deal(
        self, indices: Indices, lengths: NDArray[np.integer], token_budget: int, work: Work, machine: Machine
    ) -> Passes:
        """Deal rows into micro-batches; see `micro_batches.deal`."""

    def answer_budget(self, scored: int, device: torch.device) -> int:
        """Return the most tokens of a batch of answers, where `scored` tokens are scored at once."""


def forward_path(model: Any, hardware: Hardware, loaded_on: torch.device, *, sharded: bool) -> ForwardPath:
    """Install the fast paths that suit the model and where it is, and return the one to call.

    Args:
        model: The model, with its adapter.
        hardware: Where it is trained and scored.
        loaded_on: Where it is now; a sharded model is spread over the devices later.
        sharded: Whether each process holds a part of it.
    """
    # First, as blocks are fast with this attention or PyTorch's alone. It pays off in bfloat16 on a processor.
    if hardware.device.type == "cpu" and hardware.dtype == torch.bfloat16:
        use_own_attention(base_of(model))
    # Before the blocks, which join the adapters of plain layers.
    fuse_lora(model)
    # Blocks of a sharded model gather their weights in forward passes that are PyTorch's own.
    if hardware.device.type in ("cpu", "cuda") and not sharded:
        use_fast_blocks(model)
    # Scores are tried out on the model as it is now, so that this comes after all else.
    plain = CompletionScorer(model, whole=sharded)
    # Last, as rows end to end need fast blocks and a head of the plain kind.
    if not sharded and plain.by_parts and can_pack(model, loaded_on, hardware.dtype):
        return PackedScorer(plain)
    return plain
