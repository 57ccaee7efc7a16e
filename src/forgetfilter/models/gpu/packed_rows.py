"""Rows laid end to end in one sequence, without padding: how a model of fast blocks goes through rows on a GPU.

There a pass costs what starts its operations as much as what they do, so that all rows of an optimizer step had best be
one pass, and padding them to the longest would double it. Only attention has to know where a row ends.
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

# Rotary embeddings that do not depend on how long a sequence happens to be.
_ROTATIONS = ("default", "linear", "llama3", "yarn")
# The widest head that FlashAttention takes.
_WIDEST = 256


class Packed(NamedTuple):
    """Rows, end to end.

    Attributes:
        input_ids: Their tokens, shape (tokens,).
        positions: The place of each in its row, shape (tokens,).
        bounds: Where each row begins, and the last one ends, shape (rows + 1,), int32.
        longest: No row is longer. FlashAttention starts as much work for each row, most of which ends at once.
        places: Tokens that a completion token follows, shape (completion tokens,).
        targets: Those completion tokens, same shape.
        states: What the frozen blocks make of the tokens, where it is known, shape (tokens, width).
    """

    input_ids: Tensor
    positions: Tensor
    bounds: Tensor
    longest: int
    places: Tensor
    targets: Tensor
    states: Tensor | None

    def to(self, device: torch.device) -> Packed:
        """The same on a device."""
        return Packed._make(part.to(device) if isinstance(part, Tensor) else part for part in self)


def pack(rows: Sequence[Tokens]) -> Packed:
    """Rows end to end, in memory; with the states of their tokens, where those of all rows are known."""
    known = [row.states.read(row.place) for row in rows if isinstance(row, KnownTokens)]
    input_ids, positions, bounds = laid([row.input_ids for row in rows])
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
        states=torch.cat(known) if len(known) == len(rows) else None,
    )


def laid(sequences: Sequence[NDArray[np.integer]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Sequences end to end: their tokens, the place of each in its own sequence, and where each begins and ends."""
    lengths = np.array([len(sequence) for sequence in sequences])
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tokens = np.concatenate(sequences).astype(np.int64)
    return tokens, np.arange(len(tokens)) - np.repeat(bounds[:-1], lengths).astype(np.int64), bounds


def padded(packed: Packed, tokens: int, rows: int, longest: int, completions: int) -> Packed:
    """Rows padded to as many tokens, rows and completion tokens, and to as long a longest row.

    The tokens that are added are rows of their own. The completion tokens that are added follow the first token of all,
    whatever this is.
    """
    more = rows + 1 - len(packed.bounds)
    ends = packed.bounds[-1] + longest * torch.arange(1, more + 1, dtype=packed.bounds.dtype)
    if tokens > int(packed.bounds[-1]) + more * longest:
        raise ValueError(f"{more} rows of {longest} tokens cannot hold what {tokens} tokens are more")
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
    """A model's blocks, for tokens that lie end to end.

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
        """The embeddings of tokens, shape (tokens, width)."""
        made: Tensor = self.base.model.embed_tokens(input_ids)
        return made

    def through(
        self,
        hidden: Tensor,
        positions: Tensor,
        attend: Attend,
        blocks: slice = slice(None),
        places: Tensor | None = None,
    ) -> Tensor:
        """What some blocks make of hidden states, both of shape (tokens, width).

        Args:
            hidden: The states.
            positions: The place of each token in its row.
            attend: The attention, called as transformers calls it, with one row of all tokens.
            blocks: Which blocks, all unless said otherwise.
            places: Of which tokens the last block's output is asked for; of all unless given.
        """
        rotation = self.base.model.rotary_emb(hidden[None], positions[None])
        hidden, chosen = hidden[None], self.blocks[blocks]
        for block in chosen[:-1]:
            hidden = block(hidden, position_embeddings=rotation, attend=attend)
        made: Tensor = chosen[-1](hidden, position_embeddings=rotation, attend=attend, places=places)[0]
        return made

    def norm(self, hidden: Tensor) -> Tensor:
        """What the head reads, from hidden states of shape (tokens, width)."""
        made: Tensor = self.base.model.norm(hidden)
        return made

    def forget_joined(self) -> None:
        """Let the adapters' matrices be joined anew."""
        for block in self.blocks:
            block.forget_joined()


class PackedScorer(nn.Module):
    """Scores completion tokens as `CompletionScorer` does, of rows that lie end to end.

    Args:
        scorer: The scorer of padded rows, with a model that `can_pack` takes.

    Attributes:
        plain: That scorer.
        decoder: The model's blocks.
    """

    def __init__(self, scorer: CompletionScorer) -> None:
        super().__init__()
        self.plain = scorer
        self.decoder = PackedDecoder(scorer.model)

    @property
    def model(self) -> Any:
        """The model."""
        return self.plain.model

    def deal(
        self, indices: Indices, lengths: NDArray[np.integer], token_budget: int, work: Work, machine: Machine
    ) -> Passes:
        """Deal rows into passes without padding; see `micro_batches.end_to_end`."""
        if work == "pad":
            return self.plain.deal(indices, lengths, token_budget, work, machine)
        return Passes(end_to_end(indices, lengths, token_budget, machine.processes), side_by_side=False)

    def answer_budget(self, scored: int, device: torch.device) -> int:  # noqa: ARG002
        """No limit: how many answers go side by side is measured as they are decoded (`decoding`)."""
        return 1 << 30

    @property
    def skips(self) -> bool:
        """Whether passes can leave out the blocks that are frozen, where it is known what these make."""
        return self.plain.skips

    def train(self, mode: bool = True) -> PackedScorer:
        """Set training or evaluation mode."""
        self.plain.train(mode)
        self.training = mode
        return self

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Packed]:  # noqa: ARG002
        """What `forward` takes for some rows."""
        return (pack(rows).to(self.plain.device),)

    def forward(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """Log-probability of each completion token, and whether none is likelier; see `CompletionScorer`."""
        first = 0 if packed.states is None else self.plain.frozen
        hidden = self.decoder.embed(packed.input_ids) if packed.states is None else packed.states
        attend, above = within(packed.bounds, packed.longest), slice(first, None)
        # The gradient of what is asked for adds up in any order, but no place is there twice with a weight.
        hidden = self.decoder.through(hidden, packed.positions, attend, above, packed.places)
        head = self.decoder.base.lm_head
        return token_logprobs(self.decoder.norm(hidden), head.weight, head.bias, packed.targets)

    @torch.inference_mode()
    def read(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """What the frozen blocks make of rows, each of shape (tokens, width), on the CPU."""
        packed = pack(rows).to(self.plain.device)
        attend, frozen = within(packed.bounds, packed.longest), slice(self.plain.frozen)
        made = self.decoder.through(self.decoder.embed(packed.input_ids), packed.positions, attend, frozen)
        return list(torch.split(made.cpu(), [len(row.input_ids) for row in rows]))


def can_pack(model: Any, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model's rows can go through it end to end: it is of fast blocks, on a GPU with FlashAttention."""
    return attends_to_rows(device, dtype) and is_packable(model)


def is_packable(model: Any) -> bool:
    """Whether a model consists of fast blocks in which every token sees all before it."""
    blocks, config = only_fast_blocks(model), base_of(model).config
    if not blocks or getattr(config, "sliding_window", None) is not None:
        return False
    fits = all(block.head_dim % 8 == 0 and block.head_dim <= _WIDEST for block in blocks)
    return fits and config.rope_parameters.get("rope_type", "default") in _ROTATIONS
