"""Lay rows end to end in one sequence, without padding, to go through a model of fast blocks on a GPU.

There starting the operations of a pass costs as much as their work, so all rows of an optimizer step should be one
pass, and padding them to the longest would double its work. Only attention has to know where a row ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...data.tokens import Tokens
from ..activations import KnownTokens
from ..cpu.blocks import base_of, only_fast_blocks
from ..forward import CompletionScorer
from ..head import token_logprobs
from ..micro_batches import Indices, Machine, Passes, Work, end_to_end
from .varlen_attention import Attend, attends_to_rows, within

# Rotary embeddings that do not depend on the length of a sequence.
_ROTATIONS = ("default", "linear", "llama3", "yarn")
# The widest head that FlashAttention takes.
_WIDEST = 256


class Packed(NamedTuple):
    """Rows that are laid end to end.

    Attributes:
        input_ids: Their tokens, shape (tokens,).
        positions: The position of each token in its row, shape (tokens,).
        bounds: Where each row begins, and the last one ends (`cu_seqlens`), shape (rows + 1,), int32.
        longest: An upper bound of the rows' lengths (`max_seqlen`). FlashAttention starts this much work for each row,
            but ends what is beyond the row at once.
        places: The tokens before the completion tokens, shape (completion tokens,).
        targets: The completion tokens, same shape.
        states: Cached activations of the frozen blocks, shape (tokens, width); None where there are none.
    """

    input_ids: Tensor
    positions: Tensor
    bounds: Tensor
    longest: int
    places: Tensor
    targets: Tensor
    states: Tensor | None

    def to(self, device: torch.device) -> Packed:
        """Copy them to a device."""
        return Packed._make(part.to(device) if isinstance(part, Tensor) else part for part in self)


def pack(rows: Sequence[Tokens]) -> Packed:
    """Lay rows end to end, on the CPU, with their cached activations, where those of all rows are cached."""
    cached = [row.states.read(row.place) for row in rows if isinstance(row, KnownTokens)]
    input_ids, positions, bounds = lay_end_to_end([row.input_ids for row in rows])
    # No row begins with a completion token.
    places = np.flatnonzero(np.concatenate([row.mask for row in rows])) - 1
    targets = input_ids[places + 1]
    return Packed(
        input_ids=torch.from_numpy(input_ids),
        positions=torch.from_numpy(positions),
        bounds=torch.from_numpy(bounds),
        longest=int(np.diff(bounds).max()),
        places=torch.from_numpy(places),
        targets=torch.from_numpy(targets),
        states=torch.cat(cached) if len(cached) == len(rows) else None,
    )


def lay_end_to_end(
    sequences: Sequence[NDArray[np.integer]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Lay sequences end to end; return the tokens, each one's position in its sequence, and the sequences' bounds."""
    lengths = np.array([len(sequence) for sequence in sequences])
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = np.concatenate(sequences).astype(np.int64)
    return tokens, np.arange(len(tokens)) - np.repeat(bounds[:-1], lengths).astype(np.int64), bounds


def padded(packed: Packed, tokens: int, rows: int, longest: int, completions: int) -> Packed:
    """Pad rows to these numbers of tokens, rows and completion tokens, and to this longest row.

    The added tokens form rows of their own. The added completion tokens are those after the very first token, whatever
    it is.
    """
    more = rows + 1 - len(packed.bounds)
    ends = packed.bounds[-1] + longest * torch.arange(1, more + 1, dtype=packed.bounds.dtype)
    if tokens > int(packed.bounds[-1]) + more * longest:
        raise ValueError(f"{more} rows of {longest} tokens cannot hold the padding up to {tokens} tokens")
    states = packed.states
    return Packed(
        input_ids=_longer(packed.input_ids, tokens),
        positions=_longer(packed.positions, tokens),
        bounds=torch.cat([packed.bounds, ends.clamp(max=tokens)]),
        longest=longest,
        places=_longer(packed.places, completions),
        targets=_longer(packed.targets, completions),
        states=None if states is None else nn.functional.pad(states, (0, 0, 0, tokens - len(states))),
    )


def _longer(numbers: Tensor, length: int) -> Tensor:
    return nn.functional.pad(numbers, (0, length - len(numbers)))


class PackedDecoder:
    """Applies a model's blocks to packed tokens.

    Args:
        model: A model that `can_pack` takes.

    Attributes:
        base: The model without peft.
        blocks: Its blocks, lowest first.
    """

    def __init__(self, model: Any) -> None:
        self.base = base_of(model)
        self.blocks = only_fast_blocks(model)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embed tokens, shape (tokens, width)."""
        embeddings: Tensor = self.base.model.embed_tokens(input_ids)
        return embeddings

    def through(
        self,
        hidden: Tensor,
        positions: Tensor,
        attend: Attend,
        blocks: slice = slice(None),
        places: Tensor | None = None,
    ) -> Tensor:
        """Apply some blocks to hidden states, shape (tokens, width) before and after.

        Args:
            hidden: The hidden states.
            positions: The position of each token in its row.
            attend: The attention, called as transformers calls it, with one row of all tokens.
            blocks: Which blocks to apply; all by default.
            places: The tokens whose output of the last block is wanted; None for all.
        """
        rotation = self.base.model.rotary_emb(hidden[None], positions[None])
        hidden, chosen = hidden[None], self.blocks[blocks]
        for block in chosen[:-1]:
            hidden = block(hidden, position_embeddings=rotation, attend=attend)
        output: Tensor = chosen[-1](hidden, position_embeddings=rotation, attend=attend, places=places)[0]
        return output

    def norm(self, hidden: Tensor) -> Tensor:
        """Normalise hidden states, shape (tokens, width), for the head."""
        normalised: Tensor = self.base.model.norm(hidden)
        return normalised

    def forget_joined(self) -> None:
        """Discard the joined adapter matrices, so that they are joined anew."""
        for block in self.blocks:
            block.forget_joined()


class PackedScorer(nn.Module):
    """Scores completion tokens as `CompletionScorer` does, but of packed rows.

    Args:
        scorer: The scorer of padded rows, with a model that `can_pack` takes.

    Attributes:
        plain: The scorer of padded rows.
        decoder: Applies the model's blocks.
    """

    def __init__(self, scorer: CompletionScorer) -> None:
        super().__init__()
        self.plain = scorer
        self.decoder = PackedDecoder(scorer.model)

    @property
    def model(self) -> Any:
        """Return the model."""
        return self.plain.model

    def deal(
        self, indices: Indices, lengths: NDArray[np.integer], token_budget: int, work: Work, machine: Machine
    ) -> Passes:
        """Deal rows into passes without padding; see `micro_batches.end_to_end`."""
        if work == "pad":
            return self.plain.deal(indices, lengths, token_budget, work, machine)
        return Passes(end_to_end(indices, lengths, token_budget, machine.processes), side_by_side=False)

    def answer_budget(self, scored: int, device: torch.device) -> int:  # noqa: ARG002
        """Return no limit: `decoding` measures how many answers fit side by side."""
        return 1 << 30

    @property
    def skips(self) -> bool:
        """Tell whether passes can skip the frozen blocks, where their activations are cached."""
        return self.plain.skips

    def train(self, mode: bool = True) -> PackedScorer:
        """Set training or evaluation mode."""
        self.plain.train(mode)
        self.training = mode
        return self

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Packed]:  # noqa: ARG002
        """Return the arguments of `forward` for some rows."""
        return (pack(rows).to(self.plain.device),)

    def forward(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """Compute each completion token's log-probability, and whether none is more likely; see `CompletionScorer`."""
        first = 0 if packed.states is None else self.plain.frozen
        hidden = self.decoder.embed(packed.input_ids) if packed.states is None else packed.states
        attend, above = within(packed.bounds, packed.longest), slice(first, None)
        # The gradient of selected places is summed in any order, but no place with a weight is selected twice.
        hidden = self.decoder.through(hidden, packed.positions, attend, above, packed.places)
        head = self.decoder.base.lm_head
        return token_logprobs(self.decoder.norm(hidden), head.weight, head.bias, packed.targets)

    @torch.inference_mode()
    def read(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """Compute the activations of the frozen blocks for each row, shape (tokens, width), on the CPU."""
        packed = pack(rows).to(self.plain.device)
        attend, frozen = within(packed.bounds, packed.longest), slice(self.plain.frozen)
        activations = self.decoder.through(self.decoder.embed(packed.input_ids), packed.positions, attend, frozen)
        return list(torch.split(activations.cpu(), [len(row.input_ids) for row in rows]))


def can_pack(model: Any, device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether packed rows can go through a model: it has fast blocks, and its GPU has FlashAttention."""
    return attends_to_rows(device, dtype) and is_packable(model)


def is_packable(model: Any) -> bool:
    """Tell whether a model consists of fast blocks in which every token attends to all before it."""
    blocks, config = only_fast_blocks(model), base_of(model).config
    if not blocks or getattr(config, "sliding_window", None) is not None:
        return False
    fits = all(block.head_dim % 8 == 0 and block.head_dim <= _WIDEST for block in blocks)
    return fits and config.rope_parameters.get("rope_type", "default") in _ROTATIONS
