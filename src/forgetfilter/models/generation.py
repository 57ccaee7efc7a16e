"""Decode the greedy answers to many prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from ..data.templates import ChatTemplate
from ..errors import ModelError
from .capabilities import tolerance, trial_tokens
from .collating import common_prefix, pad_right, worth_sharing
from .cpu.blocks import only_fast_blocks
from .forward import CompletionScorer
from .micro_batches import Indices
from .trainable_model import TrainableModel

# Tokens that a layer's cache has room for beyond those that it holds, so that it is not copied at every step.
_ROOM = 128


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keeps a layer's keys and values, with room for further ones; `keys` and `values` are the part that is in use."""

    keys: Tensor
    values: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._rooms: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        new = key_states, value_states
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(*new)
        if not self._rooms or len(self._rooms[0]) != len(key_states) or self._rooms[0].shape[-2] < after:
            self._rooms = [part.new_empty(*part.shape[:2], after + _ROOM, part.shape[3]) for part in new]
            if before:
                self._rooms[0][:, :, :before], self._rooms[1][:, :, :before] = self.keys, self.values
        for room, part in zip(self._rooms, new, strict=True):
            room[:, :, before:after] = part
        self.keys, self.values = (room[:, :, :after] for room in self._rooms)
        return self.keys, self.values

    def hold(self, batches: Sequence[tuple[Indices, Tensor, Tensor]], lengths: NDArray[np.integer]) -> None:
        """Copy keys and values of rows from several batches, and pad them on the left to the longest row.

        Args:
            batches: Rows of this cache, and their keys and values, padded on the right.
            lengths: Tokens of each row of this cache; 0 for rows of no batch.
        """
        longest = int(lengths.max())
        _, *both = batches[0]
        # Zeros, as even what is masked must not be NaN.
        self._rooms = [part.new_zeros(len(lengths), part.shape[1], longest + _ROOM, part.shape[3]) for part in both]
        for rows, *parts in batches:
            for room, part in zip(self._rooms, parts, strict=True):
                for i, of_row in zip(rows.tolist(), part, strict=True):
                    room[i, :, longest - lengths[i] : longest] = of_row[:, : lengths[i]]
        self.lazy_initialization(*both)
        self.keys, self.values = (room[:, :, :longest] for room in self._rooms)


def _roomy_cache(config: Any) -> DynamicCache:
    cache = DynamicCache(config=config)
    # Layers that keep only the last tokens, or more than keys and values, stay as they are.
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@torch.inference_mode()
def greedy(
    model: TrainableModel,
    tokenizer: Any,
    prompts: Sequence[NDArray[np.int32]],
    limits: Sequence[int],
    *,
    with_special: bool = False,
) -> list[str]:
    """Return the model's greedy continuation of each prompt, as text.

    Prompts of similar length are read in one pass. Rows leave the batch as soon as they are done, so a long answer does
    not hold up the others, and none is decoded further than its own limit.

    Args:
        model: The model, in its present state.
        tokenizer: Its tokenizer.
        prompts: Tokens of each prompt, at least one each.
        limits: Most tokens to decode for each, at least one.
        with_special: Whether special tokens are part of the text, but for the one that ends it.
    """
    model.model.eval()
    answers = decode(model.scorer, model, prompts, limits, _end_tokens(model, tokenizer))
    return [str(text) for text in tokenizer.batch_decode(answers, skip_special_tokens=not with_special)]


@singledispatch
def decode(
    path: Any,
    model: TrainableModel,
    prompts: Sequence[NDArray[np.int32]],
    limits: Sequence[int],
    ends: Sequence[int],
) -> list[list[int]]:
    """Decode the greedy continuation of each prompt, without the token that ends it.

    Args:
        path: The model's forward path, which may register its own way of decoding.
        model, prompts, limits: As in `greedy`.
        ends: Tokens that end an answer.
    """
    steps = _Going(model, path) if _goes_on(model, path) else _Again(model, path)
    end_tokens = torch.tensor(ends, device=model.hardware.device)
    logits = steps.read(prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    while rows:
        chosen = logits.argmax(dim=-1)
        ended = torch.isin(chosen, end_tokens).tolist()
        going_on = []
        for i, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if not ended[i]:
                answers[row].append(token)
                if len(answers[row]) < limits[row]:
                    going_on.append(i)
        if len(going_on) < len(rows):
            rows = [rows[i] for i in going_on]
            left = torch.tensor(going_on, dtype=torch.long, device=chosen.device)
            chosen = chosen[left]
            if rows:
                steps.keep(left)
        if rows:
            logits = steps.step(chosen)
    return answers


class _Going:
    """Decodes step by step from the model's cache, with the ends of all rows aligned."""

    def __init__(self, model: TrainableModel, scorer: CompletionScorer) -> None:
        self._model, self._scorer, self._causal_lm = model, scorer, model.model
        self._cache = _roomy_cache(model.model.config)

    def read(self, prompts: Sequence[NDArray[np.int32]]) -> Tensor:
        """Compute the logits of the token after each prompt, shape (prompts, vocabulary)."""
        step_input, self._mask = _pad_left(prompts, self._model.hardware.device)
        # Padding is masked; positions are counted from each row's first token.
        self._positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        if step_input.shape[1] > 1 and all(type(layer) is _RoomyLayer for layer in self._cache.layers):
            _read_prompts(self._model, self._scorer, [prompt[:-1] for prompt in prompts], self._cache)
            step_input, self._positions = step_input[:, -1:], self._positions[:, -1:]
        return self._logits(step_input)

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row and compute the logits of the next one, shape (rows, vocabulary)."""
        self._mask = torch.cat([self._mask, torch.ones_like(tokens[:, None])], dim=1)
        self._positions = self._positions[:, -1:] + 1
        return self._logits(tokens[:, None])

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self._mask, self._positions = self._mask[rows], self._positions[rows]
        for layer in self._cache.layers:
            # The states of some layers can be reordered, and so selected, but have no method to select them.
            pick = layer.reorder_cache if _has_states(layer) else layer.batch_select_indices
            pick(rows)

    def _logits(self, step_input: Tensor) -> Tensor:
        logits: Tensor = self._causal_lm(
            input_ids=step_input,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


def _has_states(layer: Any) -> bool:
    return isinstance(layer, LinearAttentionCacheLayerMixin)


class _Again:
    """Decodes each token with a pass over all before it, for models whose cache is of another kind."""

    def __init__(self, model: TrainableModel, scorer: CompletionScorer) -> None:
        self._device, self._scorer, self._causal_lm = model.hardware.device, scorer, model.model

    def read(self, prompts: Sequence[NDArray[np.int32]]) -> Tensor:
        """Compute the logits of the token after each prompt, shape (prompts, vocabulary)."""
        self._rows = [torch.from_numpy(prompt.astype(np.int64)) for prompt in prompts]
        return self._logits()

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to each row and compute the logits of the next one, shape (rows, vocabulary)."""
        self._rows = [torch.cat([row, token[None]]) for row, token in zip(self._rows, tokens.cpu(), strict=True)]
        return self._logits()

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these."""
        self._rows = [self._rows[i] for i in rows.tolist()]

    def _logits(self) -> Tensor:
        together = 1 if self._scorer.alone else len(self._rows)
        logits_of_rows = []
        for first in range(0, len(self._rows), together):
            rows = self._rows[first : first + together]
            input_ids = pad_sequence(rows, batch_first=True).to(self._device)
            ends = torch.tensor([len(row) - 1 for row in rows], device=self._device)
            logits = self._causal_lm(input_ids=input_ids, use_cache=False).logits
            logits_of_rows.append(logits[torch.arange(len(rows), device=self._device), ends])
        return torch.cat(logits_of_rows)


def _goes_on(model: TrainableModel, scorer: CompletionScorer) -> bool:
    """Tell whether the model answers from its cache as it does without; tried once, unless the model is known to."""
    if scorer.goes_on is None:
        scorer.goes_on = bool(only_fast_blocks(model.model)) or _tried(model, scorer)
    return scorer.goes_on


def _tried(model: TrainableModel, scorer: CompletionScorer) -> bool:
    tokens = trial_tokens(model.model, 2, 5).cpu()
    prompts = [row.numpy().astype(np.int32)[:length] for row, length in zip(tokens, (5, 3), strict=True)]
    logprobs: list[list[Tensor]] = []
    for steps in (_Again(model, scorer), _Going(model, scorer)):
        try:
            logits = [steps.read(prompts)]
            going = tokens[:, 0].to(logits[0].device)
            logits.append(steps.step(going))
            steps.keep(torch.tensor([1], device=going.device))
            logits += [steps.step(going[:1]), steps.step(going[1:])]
        except Exception:
            # A model is a program of its authors: whatever it raises, its cache is of another kind.
            if isinstance(steps, _Again):
                raise
            return False
        logprobs.append([each.float().log_softmax(-1) for each in logits])
    few = tolerance(model.hardware.dtype)
    return all(torch.allclose(one, other, rtol=0, atol=few) for one, other in zip(*logprobs, strict=True))


def _read_prompts(
    model: TrainableModel, scorer: CompletionScorer, prompts: Sequence[NDArray[np.int32]], cache: DynamicCache
) -> None:
    """Compute keys and values of prompts into a roomy cache, padded on the left.

    Prompts of similar length go through the model together, so that the longest does not make all of them as long.
    """
    lengths = np.array([len(prompt) for prompt in prompts])

    # Inference mode holds for one thread only, and this function runs in several.
    @torch.inference_mode()
    def read_together(rows: Indices) -> list[tuple[Indices, Tensor, Tensor]]:
        chosen = [prompts[int(i)] for i in rows]
        alike = common_prefix([prompt[:-1] for prompt in chosen]) if scorer.shares else 0
        shared = worth_sharing(alike, len(rows), model.pass_overhead)
        tokens = chosen[0][None, :shared].astype(np.int64), pad_right([prompt[shared:] for prompt in chosen])
        cached = scorer.keys_and_values(*(torch.from_numpy(part).to(model.hardware.device) for part in tokens))
        return [(rows, layer.keys, layer.values) for layer in cached.layers]

    passes = model.deal(np.flatnonzero(lengths), lengths, model.token_budget(None))
    batches = list(
        model.lanes.map(read_together, passes.rows) if passes.side_by_side else map(read_together, passes.rows)
    )
    for layer in cache.layers:
        # Each layer's keys and values are freed once they are copied.
        layer.hold([batch.pop(0) for batch in batches], lengths)


def _pad_left(prompts: Sequence[NDArray[np.int32]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return prompts and their attention mask, each of shape (rows, longest), with the prompts' ends aligned."""
    width = max(len(prompt) for prompt in prompts)
    input_ids = np.zeros((len(prompts), width), dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.int64)
    for i, prompt in enumerate(prompts):
        input_ids[i, width - len(prompt) :] = prompt
        mask[i, width - len(prompt) :] = 1
    return torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device)


def _end_tokens(model: TrainableModel, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the model may name several, the tokenizer and its chat template one."""
    named = model.model.generation_config.eos_token_id
    ends = list(named) if isinstance(named, (list, tuple)) else [named]
    ends += [tokenizer.eos_token_id, _end_of_turn(tokenizer)]
    return list(dict.fromkeys(end for end in ends if end is not None))


def _end_of_turn(tokenizer: Any) -> int | None:
    """Return the special token with which the chat template ends an answer, if there is one.

    Of models that were not trained to chat, neither configuration nor tokenizer names it, and after training on chats
    they would go on behind it.
    """
    try:
        ids = tokenizer.encode(ChatTemplate(tokenizer).end_of_turn, add_special_tokens=False)
    except (ModelError, ValueError):
        return None
    return ids[0] if len(ids) == 1 and ids[0] in tokenizer.added_tokens_decoder else None
