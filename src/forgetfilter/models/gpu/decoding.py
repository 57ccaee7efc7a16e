"""Decode greedily on a GPU: finished rows make room for others, and each step is one CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..generation import decode
from ..micro_batches import end_to_end
from ..trainable_model import TrainableModel
from .cuda_graphs import Replayed
from .packed_rows import PackedDecoder, PackedScorer, lay_end_to_end
from .varlen_attention import attention, within

# The most rows that are decoded side by side: with more, a small model's step takes longer in proportion.
_MOST_ROWS = 512
# The largest share of the free memory that keys and values may take.
_MEMORY = 0.5
# Steps between two looks at the decoded tokens; at most this many are wasted on a finished row.
_STEPS = 8
# Sizes of a pass over prompts, in tokens, padding included.
_PROMPT_SIZES = (1024, 2048, 4096, 8192)
_PROMPT_TOKENS = _PROMPT_SIZES[-1]
# Prompts wait until this share of the rows is free, as reading prompts takes longer than a step.
_FREE = 0.125


class _Rows:
    """Decodes rows side by side, each with the same room for keys and values.

    Attributes:
        count: The number of rows.
        room: How many tokens each row has room for.
        tokens: The last token of each row, shape (rows,).
        used: The number of tokens before it, shape (rows,).
        going: 1 for rows that go on, 0 for the others, whose results are ignored.
        decoded: The tokens of the last steps, the latest in the last column, shape (rows, steps).
    """

    def __init__(self, decoder: PackedDecoder, count: int, room: int, device: torch.device) -> None:
        config, weight = decoder.base.config, decoder.base.lm_head.weight
        self.count, self.room = count, room
        self._decoder = decoder
        self._heads = int(config.num_key_value_heads)
        # There is one row more, for the keys and values of padding.
        shape = (len(decoder.blocks), (count + 1) * room, self._heads, decoder.blocks[0].head_dim)
        self._keys, self._values = (torch.zeros(shape, dtype=weight.dtype, device=device) for _ in range(2))
        self.tokens = torch.zeros(count, dtype=torch.long, device=device)
        self.used = torch.zeros(count, dtype=torch.int32, device=device)
        self.going = torch.zeros(count, dtype=torch.int32, device=device)
        self.decoded = torch.zeros(count, _STEPS, dtype=torch.long, device=device)
        self._firsts = torch.arange(count, device=device, dtype=torch.int32) * room
        # The gap between the keys of two rows counts as a row without queries.
        group = int(config.num_attention_heads) // self._heads
        self._query_bounds = (torch.arange(2 * count + 1, device=device, dtype=torch.int32) + 1) // 2 * group
        self._key_bounds = torch.empty_like(self._query_bounds)
        self._key_bounds[0::2] = torch.arange(count + 1, device=device, dtype=torch.int32) * room

    def read(self, input_ids: Tensor, positions: Tensor, bounds: Tensor, longest: int, places: Tensor) -> None:
        """Store keys and values of packed prompts."""
        attend_within = within(bounds, longest)

        def attend(module, q, k, v, *args, **kwargs):  # type: ignore[no-untyped-def]
            self._keep(module.layer_idx, places, k, v)
            return attend_within(module, q, k, v, *args, **kwargs)

        # The output of the last block is not needed.
        self._decoder.through(self._decoder.embed(input_ids), positions, attend, places=positions[:0])

    def first(self, row: int) -> int:
        """Return where a row's keys and values begin; the row after the last holds those of padding."""
        return row * self.room

    def _keep(self, block: int, places: Tensor, k: Tensor, v: Tensor) -> None:
        for store, part in ((self._keys, k), (self._values, v)):
            store[block].index_copy_(0, places, part[0].transpose(0, 1))

    def step(self) -> None:
        """Decode another token of each row."""
        places = (self._firsts + self.used).long()
        self._key_bounds[1::2] = self._firsts + self.used + 1
        head, room = self._decoder.base.lm_head, self.room

        def attend(module, q, k, v, *_, scaling, **__):  # type: ignore[no-untyped-def]
            self._keep(module.layer_idx, places, k, v)
            # Heads that share keys become successive queries of the same row.
            grouped = q[0].transpose(0, 1).unflatten(1, (self._heads, -1)).transpose(1, 2)
            bounds = self._query_bounds, self._key_bounds
            keys, values = self._keys[module.layer_idx], self._values[module.layer_idx]
            flat = grouped.reshape(-1, *grouped.shape[2:])
            output = attention(flat, keys, values, *bounds, max(2, grouped.shape[1]), room, scaling, causal=False)
            return output.view(grouped.shape).transpose(1, 2).flatten(1, 2)[None], None

        hidden = self._decoder.through(self._decoder.embed(self.tokens), self.used.long(), attend)
        logits = torch.nn.functional.linear(self._decoder.norm(hidden), head.weight, head.bias)
        self.tokens.copy_(logits.argmax(dim=-1))
        self.decoded.copy_(torch.cat([self.decoded[:, 1:], self.tokens[:, None]], dim=1))
        self.used += self.going


@decode.register
def _(
    path: PackedScorer,
    model: TrainableModel,
    prompts: Sequence[NDArray[np.int32]],
    limits: Sequence[int],
    ends: Sequence[int],
) -> list[list[int]]:
    return decode_packed(path.decoder, model.hardware.device, prompts, limits, ends)


@torch.inference_mode()
def decode_packed(
    decoder: PackedDecoder,
    device: torch.device,
    prompts: Sequence[NDArray[np.int32]],
    limits: Sequence[int],
    ends: Sequence[int],
) -> list[list[int]]:
    """Decode the greedy continuation of each prompt, without the token that ends it.

    Args:
        decoder: The model.
        device: The device that it is on.
        prompts: Tokens of each prompt, at least one each.
        limits: Most tokens to decode for each, at least one.
        ends: Tokens that end an answer.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    if not answers:
        return answers
    needed = np.array([len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)])
    rooms = _rooms(decoder, needed, device)
    for room in np.unique(rooms).tolist():
        chosen = np.flatnonzero(rooms == room)
        longest = _room(int(needed[chosen].max()))
        count = min(len(chosen), _rows_that_fit(decoder, longest, device))
        waiting = chosen[np.argsort(-needed[chosen], kind="stable")].tolist()
        # No name refers to the rows here, so that their memory is free before the next ones take theirs.
        _decode(_Rows(decoder, count, longest, device), waiting, prompts, limits, set(ends), answers)
    return answers


def _rooms(decoder: PackedDecoder, needed: NDArray[np.integer], device: torch.device) -> NDArray[np.integer]:
    """Choose each row's room, in tokens; rows with the same room are decoded together.

    A step takes hardly longer for more rows. But where the memory holds few rows, a long row must not make the room of
    all as long.
    """
    longest = _room(int(needed.max()))
    if _rows_that_fit(decoder, longest, device) >= min(len(needed), _MOST_ROWS):
        return np.full(len(needed), longest)
    doublings: NDArray[np.integer] = 2 ** np.ceil(np.log2(np.maximum(needed, 64))).astype(np.int64)
    return doublings


def _room(tokens: int) -> int:
    """Return the room for so many tokens and for the steps that may be wasted."""
    return -(-tokens // 64) * 64 + _STEPS


def _rows_that_fit(decoder: PackedDecoder, room: int, device: torch.device) -> int:
    if device.type != "cuda":
        return _MOST_ROWS
    config, block = decoder.base.config, decoder.blocks[0]
    token: int = (
        2 * len(decoder.blocks) * int(config.num_key_value_heads) * block.head_dim * decoder.base.dtype.itemsize
    )
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    return max(1, min(_MOST_ROWS, int(_MEMORY * free) // (room * token) - 1))


def _decode(
    rows: _Rows,
    waiting: list[int],
    prompts: Sequence[NDArray[np.int32]],
    limits: Sequence[int],
    ends: set[int],
    answers: list[list[int]],
) -> None:
    """Decode the waiting prompts, in order, and append the tokens to their answers."""
    device = rows.tokens.device
    step, read = Replayed(rows.step, device), Replayed(rows.read, device)
    # The prompt that each row answers; None for a free row.
    prompt_of: list[int | None] = [None] * rows.count
    waiting = waiting[::-1]
    while True:
        free = [row for row, prompt in enumerate(prompt_of) if prompt is None]
        if waiting and len(free) >= _FREE * rows.count:
            for row in free[: len(waiting)]:
                prompt_of[row] = waiting.pop()
            _begin(rows, read, {row: prompts[i] for row in free if (i := prompt_of[row]) is not None})
        if all(prompt is None for prompt in prompt_of):
            return
        for _ in range(_STEPS):
            step()
        done = []
        for row, tokens in enumerate(rows.decoded.tolist()):
            i = prompt_of[row]
            if i is not None and _add(tokens, answers[i], limits[i], ends):
                prompt_of[row] = None
                done.append(row)
        if done:
            rows.going[done] = 0
            rows.used[done] = 0


def _add(tokens: list[int], answer: list[int], limit: int, ends: set[int]) -> bool:
    """Append tokens to an answer up to its end or its limit; return whether it is complete."""
    for token in tokens:
        if token in ends:
            return True
        answer.append(token)
        if len(answer) == limit:
            return True
    return False


def _begin(rows: _Rows, read: Replayed[None], prompts: dict[int, NDArray[np.int32]]) -> None:
    """Read prompts, by row, except for the last token of each, from which decoding begins."""
    lengths = np.array([len(prompt) - 1 for prompt in prompts.values()])
    at = list(prompts)
    for chosen in end_to_end(np.flatnonzero(lengths), lengths, _PROMPT_TOKENS):
        _read(rows, read, {at[i]: prompts[at[i]] for i in chosen.tolist()})
    device = rows.tokens.device
    rows.tokens[at] = torch.tensor([int(prompt[-1]) for prompt in prompts.values()], device=device)
    rows.used[at] = torch.from_numpy(lengths).to(device, torch.int32)
    rows.going[at] = 1


def _read(rows: _Rows, read: Replayed[None], prompts: dict[int, NDArray[np.int32]]) -> None:
    """Read prompts in one pass, padded to one of few sizes, so that graphs are used again."""
    input_ids, positions, bounds = lay_end_to_end([prompt[:-1] for prompt in prompts.values()])
    places = np.concatenate([rows.first(row) + np.arange(len(prompt) - 1) for row, prompt in prompts.items()])
    size = next((size for size in _PROMPT_SIZES if size >= len(input_ids)), len(input_ids))
    more = size - len(input_ids)
    # Padding belongs to no prompt, and its output is not read.
    bounds = np.pad(bounds, (0, rows.count + 1 - len(bounds)), mode="edge")
    ids, at = (np.pad(part, (0, more)) for part in (input_ids, positions))
    to = np.pad(places, (0, more), constant_values=rows.first(rows.count))
    read(torch.from_numpy(ids), torch.from_numpy(at), torch.from_numpy(bounds), rows.room, torch.from_numpy(to))
