"""Compute the log-probability of completion tokens, and only of these: the one forward pass of training and scoring.

The head, a sixth of the work with a small model and a large vocabulary, runs on completion positions only, some at a
time, so that there are never logits of all of them; so does the part of the last block after its attention. A prefix
that rows share goes through the model once, and frozen blocks are skipped where their activations are cached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from transformers import DynamicCache, PreTrainedModel

from ..data.tokens import Tokens
from .architecture import decoder_blocks
from .capabilities import tolerance, trial_tokens
from .collating import NOT_SHARED, collate, with_states
from .cpu.blocks import FastBlock, base_of, only_fast_blocks
from .frozen_blocks import FrozenBlocks, PassState
from .head import is_plain, leaves_logits_alone, token_logprobs
from .micro_batches import Indices, Machine, Passes, Work, deal

# Trained parameters, from the lowest, whose gradients are compared.
_LOWEST = 8


class _Enough(Exception):  # noqa: N818
    """Ends a forward pass after the last block whose output is wanted."""


class _Passing(PassState):
    # The wanted hidden states, by depth; None where none are wanted.
    wanted: dict[int, Tensor] | None = None
    # The tokens whose output is wanted, counted through all rows; None for all.
    places: Tensor | None = None
    hidden: Tensor | None = None


class _LastBlock:
    """Replaces the last block's forward; a class rather than a closure, so that the model can be copied and pickled."""

    def __init__(self, inner: FastBlock, passing: _Passing) -> None:
        self.inner, self._passing = inner, passing

    def __call__(self, hidden_states: Tensor, **others: Any) -> Tensor:
        return self.inner(hidden_states, places=self._passing.places, **others)


class CompletionScorer(nn.Module):
    """Scores completion tokens, and only these, with a causal language model.

    Args:
        model: The model.
        whole: Whether every pass has to go through all blocks.

    Attributes:
        model: The model.
        blocks: How many blocks it has.
        frozen: How many of them are frozen: neither they nor anything below them is trained.
        skips: Whether passes can skip the frozen blocks, where their activations are cached.
        by_parts: Whether the head can be applied to some positions at a time.
        shares: Whether a shared prefix can go through the model once, and be repeated for each row.
        alone: Whether a row has to go through the model alone, as other rows of the batch would change its scores.
        goes_on: Whether answers can be decoded with the model's cache; None until it is tried (`models.generation`).
    """

    def __init__(self, model: PreTrainedModel | PeftModel, *, whole: bool = False) -> None:
        super().__init__()
        self.model = model
        self._blocks = FrozenBlocks(model)
        self.frozen = self._blocks.count
        self.blocks = self.frozen + len(self._blocks.above)
        self._head = model.get_output_embeddings()
        self.by_parts = is_plain(self._head) and leaves_logits_alone(model)
        self._passing = _Passing()
        self._tapped: set[int] = set()
        blocks = only_fast_blocks(model)
        if blocks:
            base_of(model).model.layers[-1].forward = _LastBlock(blocks[-1], self._passing)
        # Other models may keep state between their blocks, which a pass that ends early would leave behind; and where
        # processes share the model's weights, every pass goes through all of it.
        self._ends_early = bool(blocks) and not whole
        # A fast last block computes the wanted positions alone.
        self._takes_out = not blocks
        # Selecting the positions just before the head leaves a model's own scaling or capping of logits intact.
        hook = self._head.register_forward_pre_hook(self._select)
        # The trials below need scores without dropout.
        self.model.eval()
        self._selects = self.shares = True
        self.alone = False
        self.goes_on: bool | None = None
        if not blocks and not self._agrees():
            hook.remove()
            self._selects = self.by_parts = False
            self.alone = not self._agrees()
        self.shares = not self.alone and (bool(blocks) or self._agrees(shared=4))
        self.skips = not whole and self.frozen > 0 and self._can_skip()

    @property
    def device(self) -> torch.device:
        """Return the device that the model is on."""
        device: torch.device = self._head.weight.device
        return device

    @property
    def plain(self) -> CompletionScorer:
        """Return the plain path, which is this one."""
        return self

    def deal(
        self,
        indices: Indices,
        lengths: NDArray[np.integer],
        token_budget: int,
        work: Work,  # noqa: ARG002 - other paths deal by it
        machine: Machine,
    ) -> Passes:
        """Deal rows into micro-batches of like length; see `micro_batches.deal`."""
        return deal(indices, lengths, 1 if self.alone else token_budget, machine.overhead, machine.lanes)

    def answer_budget(self, scored: int, device: torch.device) -> int:
        """Return the most tokens of a batch of answers, where `scored` tokens are scored at once.

        Keys and values of every token are kept, which is little with a model of a size that runs on a CPU.
        """
        return 2 * scored if device.type == "cpu" else scored

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Tensor, ...]:
        """Return the arguments of `forward` for some rows.

        Args:
            rows: The rows.
            pass_overhead: The cost of a separate pass for the prefix that they share, in tokens.
        """
        return with_states(rows, collate(rows, self.device, pass_overhead if self.shares else NOT_SHARED))

    def read(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """Compute the frozen blocks' activations of each row; there has to be one such block at least.

        Each row goes through them alone, so that its activations are the same to the last bit whatever the other rows
        are, and whether they are cached or computed each time they are needed.

        Returns:
            The activations of each row, shape (tokens, width), on the CPU.
        """
        return [self._read_alone(torch.from_numpy(row.input_ids[None].astype(np.int64))) for row in rows]

    def _read_alone(self, input_ids: Tensor) -> Tensor:
        input_ids = input_ids.to(self.device)
        return self.states(input_ids[:, :0], input_ids)[1][0].cpu()

    def train(self, mode: bool = True) -> CompletionScorer:
        """Set training or evaluation mode; the frozen blocks are always in evaluation mode."""
        super().train(mode)
        if mode and self.frozen:
            self.model.eval()
            for block in self._blocks.above:
                block.train()
        return self

    def _select(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._passing.places is None:
            return None
        selected = inputs[0].flatten(0, 1)
        if self._takes_out:
            selected = selected[self._passing.places]
        if not self.by_parts:
            return (selected,)
        self._passing.hidden = selected
        return (selected[:0],)

    def forward(
        self,
        prefix: Tensor,
        input_ids: Tensor,
        completion: Tensor,
        prefix_states: Tensor | None = None,
        states: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the log-probability of each completion token given all tokens before it.

        Rows are padded on the right, where a causal model never looks, so no attention mask is needed and
        a row's scores do not depend on its neighbours. The shared prefix goes through the model once.

        Args:
            prefix: Tokens with which every row begins, shape (1, prefix), without completion tokens; may be empty.
            input_ids: The tokens that follow, shape (rows, length).
            completion: True for completion tokens, same shape.
            prefix_states, states: Cached activations of the frozen blocks (`states`), shape (1, prefix, width) and
                (rows, length, width); None where there are none.

        Returns:
            Log-probabilities in nats, and whether no other token is more likely; both of shape
            (completion tokens,), row after row.
        """
        before = self._read_prefix(prefix, len(input_ids), prefix_states) if prefix.shape[1] else None
        # The tokens before the completion tokens of their row.
        places = pad(completion[:, 1:], (0, 1)).flatten().nonzero()[:, 0]
        with self._limited_to(places), self._blocks.given(states):
            logits = self._logits(input_ids, before)
        targets = input_ids.flatten()[places + 1]
        if self.by_parts:
            hidden, self._passing.hidden = self._passing.hidden, None
            assert hidden is not None
            return token_logprobs(hidden, self._head.weight, self._head.bias, targets)
        logits = (logits if self._selects else logits.flatten(0, 1)[places]).float()
        chosen = logits.gather(1, targets[:, None]).squeeze(1)
        return -cross_entropy(logits, targets, reduction="none"), chosen >= logits.amax(dim=-1)

    def _logits(self, input_ids: Tensor, before: DynamicCache | None) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, **_cached(before)).logits
        return logits

    def _read_prefix(self, prefix: Tensor, rows: int, states: Tensor | None) -> DynamicCache:
        """Compute keys and values of the shared tokens, repeated for each row; gradients flow back through them."""
        cache = DynamicCache(config=self.model.config)
        self._fill(cache, prefix, states)
        cache.batch_repeat_interleave(rows)
        return cache

    def _fill(self, cache: DynamicCache, input_ids: Tensor, states: Tensor | None) -> None:
        """Add keys and values of some tokens to the cache, without applying the head."""
        with self._limited_to(input_ids.new_empty(0)), self._blocks.given(states):
            self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)

    @contextmanager
    def _limited_to(self, places: Tensor) -> Iterator[None]:
        """Limit the output of this thread's passes to these tokens, counted through all rows."""
        self._passing.places = places
        try:
            yield
        finally:
            self._passing.places = None

    @torch.inference_mode()
    def keys_and_values(self, prefix: Tensor, input_ids: Tensor) -> DynamicCache:
        """Compute keys and values of rows, from which decoding goes on.

        Args:
            prefix, input_ids: As in `forward`.
        """
        cache = DynamicCache(config=self.model.config)
        if prefix.shape[1]:
            cache = self._read_prefix(prefix, len(input_ids), None)
        self._fill(cache, input_ids, None)
        return cache

    @torch.inference_mode()
    def states(self, prefix: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the activations of the frozen blocks, of which there has to be one at least.

        Args:
            prefix, input_ids: As in `forward`.

        Returns:
            The activations of the prefix and of the tokens that follow, as `forward` takes them.
        """
        if not prefix.shape[1]:
            states = self._blocks.made_in(lambda: self.model(input_ids=input_ids, use_cache=False))
            return states[:1, :0], states
        before = DynamicCache(config=self.model.config)
        of_prefix = self._blocks.made_in(lambda: self.model(input_ids=prefix, past_key_values=before))
        before.batch_repeat_interleave(len(input_ids))
        return of_prefix, self._blocks.made_in(lambda: self.model(input_ids=input_ids, past_key_values=before))

    def tap(self, depths: Sequence[int]) -> None:
        """Prepare `hidden_states` at these depths, counted in blocks; not while passes are under way."""
        blocks = decoder_blocks(self.model)
        for depth in set(depths) - self._tapped - {0}:
            blocks[depth - 1].register_forward_hook(partial(self._take, depth))
            self._tapped.add(depth)

    def _take(self, depth: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        wanted = self._passing.wanted
        if wanted is None or depth not in wanted:
            return
        wanted[depth] = output[0] if isinstance(output, (tuple, list)) else output
        if depth == max(wanted) and self._ends_early:
            raise _Enough

    @torch.inference_mode()
    def hidden_states(
        self,
        depths: Sequence[int],
        prefix: Tensor,
        input_ids: Tensor,
        prefix_states: Tensor | None = None,
        states: Tensor | None = None,
    ) -> list[Tensor]:
        """Compute the hidden states of rows at some depths; with fast blocks, nothing above the last depth is computed.

        Args:
            depths: Numbers of blocks, from 0 (the embeddings) to all, for which `tap` was called.
            prefix, input_ids, prefix_states, states: As in `forward`; cached activations are not for depths within the
                frozen blocks.

        Returns:
            For each depth those of `input_ids`, shape (rows, length, width).
        """
        before = self._read_prefix(prefix, len(input_ids), prefix_states) if prefix.shape[1] else None
        by_depth: dict[int, Tensor] = {0: self.model.get_input_embeddings()(input_ids)} if 0 in depths else {}
        by_depth |= {self.frozen: states} if states is not None and self.frozen in depths else {}
        wanted = {depth: input_ids for depth in depths if depth not in by_depth}
        self._passing.wanted = wanted or None
        try:
            if wanted:
                # The head is given no tokens where that can be chosen: on a processor PyTorch copies its weights for
                # each row, which takes longer than all blocks where the vocabulary is large. With fast blocks the pass
                # ends before the head, and a last one would not compute the tokens that are wanted of it.
                without_head = self._limited_to(input_ids.new_empty(0)) if self._takes_out else nullcontext()
                with without_head, self._blocks.given(states):
                    self.model(input_ids=input_ids, **_cached(before), logits_to_keep=1)
        except _Enough:
            pass
        finally:
            self._passing.wanted = None
        by_depth |= wanted
        return [_of_rows(by_depth[depth], input_ids) for depth in depths]

    def _agrees(self, shared: int = 0) -> bool:
        """Check that a row has the same scores and gradients next to a longer row as alone in transformers' own pass.

        Args:
            shared: The length of a prefix that both rows share, which goes through the model first.
        """
        tokens = trial_tokens(self.model, 2, 8)
        tokens[1, :shared], tokens[0, -1] = tokens[0, :shared], 0
        completion = torch.ones_like(tokens[:, shared:], dtype=torch.bool)
        completion[0, -1] = completion[1] = False
        # A gradient of the lowest layers has come through all others.
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad][:_LOWEST]
        try:
            if shared and not _repeats(self.model, tokens[:1]):
                return False
            with torch.enable_grad():
                scores = self(tokens[:1, :shared], tokens[:, shared:], completion)[0]
                logprobs = self._logits(tokens[:1, :-1], None).float().log_softmax(-1)[0]
                plain = logprobs[shared:-1].gather(1, tokens[0, shared + 1 : -1, None])[:, 0]
                gradients, plain_gradients = (_gradients(each, trained) for each in (scores, plain))
        except Exception:
            # A model is a program of its authors: whatever it raises, it does not accept such input.
            return False
        few = tolerance(self._head.weight.dtype)
        apart = [float((one - other).norm()) for one, other in zip(gradients, plain_gradients, strict=True)]
        size = max(float(gradient.norm()) for gradient in plain_gradients)
        return torch.allclose(scores, plain, rtol=0, atol=few) and max(apart) <= few**0.5 * size

    @torch.no_grad()
    def _can_skip(self) -> bool:
        """Check that scores are the same without the frozen blocks; some models use more of them than their output."""
        weight, width = self._head.weight, self.model.config.get_text_config().hidden_size
        input_ids = torch.arange(12, device=weight.device).view(2, 6) % self._head.out_features
        shared = 4 if self.shares else 0
        tokens = input_ids[:1, :shared], input_ids, torch.ones_like(input_ids, dtype=torch.bool)
        try:
            states = self.states(*tokens[:2])
            # Both are the same computation, so any difference beyond rounding counts.
            few = 2e-6 if weight.dtype == torch.float32 else 1e-3
            same = torch.allclose(self(*tokens, *states)[0], self(*tokens)[0], rtol=0, atol=few)
        except Exception:
            # A model is a program of its authors: whatever it raises, it does not accept such input.
            return False
        return same and states[1].dtype == weight.dtype and states[1].shape == (*tokens[1].shape, width)


def _cached(before: DynamicCache | None) -> dict[str, Any]:
    """Return the arguments of a pass for tokens that follow others, whose keys and values are given."""
    # Models of state-space layers name their cache differently, and get none.
    return {"use_cache": False} if before is None else {"past_key_values": before, "use_cache": True}


def _of_rows(states: Tensor, input_ids: Tensor) -> Tensor:
    """Return hidden states of shape (rows, length, width), averaged where a model has several streams of them."""
    if states.dim() == 3:
        return states
    return states.mean(dim=2 if states.shape[:2] == input_ids.shape else 0)


def _repeats(model: Any, tokens: Tensor) -> bool:
    """Tell whether every layer of a model's cache can be repeated; those of state-space layers cannot."""
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=tokens, past_key_values=cache, use_cache=True)
    whole = cache.get_seq_length() == tokens.shape[1]
    return whole and all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers)


def _gradients(scores: Tensor, trained: list[nn.Parameter]) -> list[Tensor]:
    """Compute the gradients of the sum of scores; zero where a parameter does not affect it."""
    gradients = torch.autograd.grad(scores.sum(), trained, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.float()
        for parameter, gradient in zip(trained, gradients, strict=True)
    ]
