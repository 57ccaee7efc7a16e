"""The one forward pass of training and scoring alike: the log-probability of completion tokens, and only of these.

The head, a sixth of the work with a small model and a large vocabulary, runs on completion positions only, some at a
time, so that there are never logits of all of them, and so does what the last block does after its attention; what rows
begin with alike goes through the model once; and blocks that are never trained are passed over where it is known what
they make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

# Trained parameters, from the lowest, of which slopes are compared.
_LOWEST = 8


class _Enough(Exception):  # noqa: N818
    """Ends a pass behind the last block that is asked about."""


class _Passing(PassState):
    # By depth, where to put the hidden states that are asked for; None where none are.
    wanted: dict[int, Tensor] | None = None
    # Tokens whose output is asked for, counted through all rows; of all where nothing is set.
    places: Tensor | None = None
    hidden: Tensor | None = None


class _LastBlock:
    """The last block's forward; not a closure, so that the model can be copied and pickled by those who do."""

    def __init__(self, inner: FastBlock, passing: _Passing) -> None:
        self.inner, self._passing = inner, passing

    def __call__(self, hidden_states: Tensor, **others: Any) -> Tensor:
        return self.inner(hidden_states, places=self._passing.places, **others)


class CompletionScorer(nn.Module):
    """A causal language model that scores completion tokens, and only these.

    Args:
        model: The model.
        whole: Whether every pass is to go through all blocks.

    Attributes:
        model: The model.
        blocks: How many blocks it has.
        frozen: How many of them are never trained, nor anything below them.
        skips: Whether passes can leave out these blocks, where it is known what they make.
        by_parts: Whether the head can be applied to some places at a time.
        shares: Whether what rows begin with alike can go through the model once, and be repeated for each.
        alone: Whether a row has to go through the model alone, as others beside it would change its scores.
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
        # Other models may keep something between their blocks, which a pass that ends early would leave behind; and
        # where processes hold the model together, every pass goes through all of it.
        self._ends_early = bool(blocks) and not whole
        # Such a block's output is that of the wanted places already.
        self._takes_out = not blocks
        # Taking the places out just before the head leaves a model's own scaling or capping of logits intact.
        hook = self._head.register_forward_pre_hook(self._select)
        # What is tried has no dropout.
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
        """Where the model is."""
        device: torch.device = self._head.weight.device
        return device

    @property
    def plain(self) -> CompletionScorer:
        """This very path; others have theirs beside it."""
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
        """Most tokens of a batch of answers, where so many are scored at once.

        Of each token keys and values are kept. That is little with a model that one runs on a processor.
        """
        return 2 * scored if device.type == "cpu" else scored

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Tensor, ...]:
        """What `forward` takes for some rows.

        Args:
            rows: The rows.
            pass_overhead: What a pass of its own costs for what they share, in tokens.
        """
        return with_states(rows, collate(rows, self.device, pass_overhead if self.shares else NOT_SHARED))

    def read(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """Compute the activations of each row behind the frozen blocks; there have to be such blocks.

        Each row goes alone, so that its activations are the same to the last bit whatever goes with it, and whether
        they are cached or computed each time they are needed.

        Returns:
            The activations of each row, shape (tokens, width), on the CPU.
        """
        return [self._read_alone(torch.from_numpy(row.input_ids[None].astype(np.int64))) for row in rows]

    def _read_alone(self, input_ids: Tensor) -> Tensor:
        input_ids = input_ids.to(self.device)
        return self.states(input_ids[:, :0], input_ids)[1][0].cpu()

    def train(self, mode: bool = True) -> CompletionScorer:
        """Set training or evaluation mode; what lies below the lowest trained block always evaluates."""
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
        """Log-probability of each completion token given all before it.

        Rows are padded on the right, where a causal model never looks, so no attention mask is needed and
        a row's scores do not depend on its neighbours. What all rows begin with goes through the model once.

        Args:
            prefix: Tokens with which every row begins, shape (1, prefix), without completion tokens; may be empty.
            input_ids: The tokens that follow, shape (rows, length).
            completion: True for completion tokens, same shape.
            prefix_states, states: What the frozen blocks make of the tokens, where it is known (`states`), shape
                (1, prefix, width) and (rows, length, width).

        Returns:
            Log-probabilities in nats, and whether no other token is likelier; both of shape
            (completion tokens,), row after row.
        """
        before = self._read_prefix(prefix, len(input_ids), prefix_states) if prefix.shape[1] else None
        # Tokens that a completion token of their row follows.
        places = pad(completion[:, 1:], (0, 1)).flatten().nonzero()[:, 0]
        with self._asked_for(places), self._blocks.given(states):
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
        # Models of state-space layers have other names for their cache, and get none.
        cached = {"use_cache": False} if before is None else {"past_key_values": before, "use_cache": True}
        logits: Tensor = self.model(input_ids=input_ids, **cached).logits
        return logits

    def _read_prefix(self, prefix: Tensor, rows: int, states: Tensor | None) -> DynamicCache:
        """Keys and values of the shared tokens, for each of so many rows; gradients flow back through them."""
        cache = DynamicCache(config=self.model.config)
        self._fill(cache, prefix, states)
        cache.batch_repeat_interleave(rows)
        return cache

    def _fill(self, cache: DynamicCache, input_ids: Tensor, states: Tensor | None) -> None:
        """Add keys and values of some tokens to the cache; of the head nothing is asked."""
        with self._asked_for(input_ids.new_empty(0)), self._blocks.given(states):
            self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)

    @contextmanager
    def _asked_for(self, places: Tensor) -> Iterator[None]:
        """Passes of this thread make the output of these tokens alone, counted through all rows."""
        self._passing.places = places
        try:
            yield
        finally:
            self._passing.places = None

    @torch.inference_mode()
    def keys_and_values(self, prefix: Tensor, input_ids: Tensor) -> DynamicCache:
        """Keys and values of rows, for whoever goes on from there.

        Args:
            prefix, input_ids: As `forward` takes them.
        """
        cache = DynamicCache(config=self.model.config)
        if prefix.shape[1]:
            cache = self._read_prefix(prefix, len(input_ids), None)
        self._fill(cache, input_ids, None)
        return cache

    @torch.inference_mode()
    def states(self, prefix: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the frozen blocks make of rows; there have to be such blocks.

        Args:
            prefix, input_ids: As `forward` takes them.

        Returns:
            The states of the prefix and of the tokens that follow, as `forward` takes them.
        """
        if not prefix.shape[1]:
            own = self._blocks.made_in(lambda: self.model(input_ids=input_ids, use_cache=False))
            return own[:1, :0], own
        before = DynamicCache(config=self.model.config)
        of_prefix = self._blocks.made_in(lambda: self.model(input_ids=prefix, past_key_values=before))
        before.batch_repeat_interleave(len(input_ids))
        return of_prefix, self._blocks.made_in(lambda: self.model(input_ids=input_ids, past_key_values=before))

    def tap(self, depths: Sequence[int]) -> None:
        """Make ready for `hidden_states` behind so many blocks each; not while passes are under way."""
        blocks = decoder_blocks(self.model)
        for depth in set(depths) - self._tapped - {0}:
            blocks[depth - 1].register_forward_hook(partial(self._take, depth))
            self._tapped.add(depth)

    def _take(self, depth: int, _module: nn.Module, _inputs: Any, made: Any) -> None:
        wanted = self._passing.wanted
        if wanted is None or depth not in wanted:
            return
        wanted[depth] = made[0] if isinstance(made, (tuple, list)) else made
        if depth == max(wanted) and self._ends_early:
            raise _Enough

    @torch.inference_mode()
    def hidden_states(self, input_ids: Tensor, depths: Sequence[int], states: Tensor | None = None) -> list[Tensor]:
        """Hidden states of rows behind so many blocks each; mostly, what lies above the last of these is not computed.

        Args:
            input_ids: Tokens, padded on the right, shape (rows, length).
            depths: Numbers of blocks, from 0 (the embeddings) to all, that `tap` was told of.
            states: What the frozen blocks make of the tokens, where it is known, shape (rows, length, width); not for
                depths within the frozen blocks.

        Returns:
            For each depth, shape (rows, length, width).
        """
        found: dict[int, Tensor] = {0: self.model.get_input_embeddings()(input_ids)} if 0 in depths else {}
        found |= {self.frozen: states} if states is not None and self.frozen in depths else {}
        wanted = {depth: input_ids for depth in depths if depth not in found}
        self._passing.wanted = wanted or None
        try:
            if wanted:
                with self._blocks.given(states):
                    self.model(input_ids=input_ids, use_cache=False, logits_to_keep=1)
        except _Enough:
            pass
        finally:
            self._passing.wanted = None
        found |= wanted
        return [_of_rows(found[depth], input_ids) for depth in depths]

    def _agrees(self, shared: int = 0) -> bool:
        """Whether scores, and their slopes, are those of a plain pass of a row alone, if it goes with a longer one.

        Args:
            shared: How many tokens go through the model before, for both rows.
        """
        tokens = trial_tokens(self.model, 2, 8)
        tokens[1, :shared], tokens[0, -1] = tokens[0, :shared], 0
        asked = torch.ones_like(tokens[:, shared:], dtype=torch.bool)
        asked[0, -1] = asked[1] = False
        # A slope in the lowest layers comes through all others.
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad][:_LOWEST]
        try:
            if shared and not _repeats(self.model, tokens[:1]):
                return False
            with torch.enable_grad():
                made = self(tokens[:1, :shared], tokens[:, shared:], asked)[0]
                logprobs = self._logits(tokens[:1, :-1], None).float().log_softmax(-1)[0]
                plain = logprobs[shared:-1].gather(1, tokens[0, shared + 1 : -1, None])[:, 0]
                both = [_slopes(scores, trained) for scores in (made, plain)]
        except Exception:
            # A model is a program of its authors: whatever it raises, it does not take its tokens in this way.
            return False
        few = tolerance(self._head.weight.dtype)
        apart = [float((one - other).norm()) for one, other in zip(*both, strict=True)]
        size = max(float(slope.norm()) for slope in both[1])
        return torch.allclose(made, plain, rtol=0, atol=few) and max(apart) <= few**0.5 * size

    @torch.no_grad()
    def _can_skip(self) -> bool:
        """Whether scores come out the same without the frozen blocks; some models look at more of them."""
        weight, width = self._head.weight, self.model.config.get_text_config().hidden_size
        input_ids = torch.arange(12, device=weight.device).view(2, 6) % self._head.out_features
        shared = 4 if self.shares else 0
        tokens = input_ids[:1, :shared], input_ids, torch.ones_like(input_ids, dtype=torch.bool)
        try:
            states = self.states(*tokens[:2])
            # Both are the same computation, so that next to nothing is rounding.
            few = 2e-6 if weight.dtype == torch.float32 else 1e-3
            same = torch.allclose(self(*tokens, *states)[0], self(*tokens)[0], rtol=0, atol=few)
        except Exception:
            # A model is a program of its authors: whatever it raises, it does not take its tokens in this way.
            return False
        return same and states[1].dtype == weight.dtype and states[1].shape == (*tokens[1].shape, width)


def _of_rows(states: Tensor, input_ids: Tensor) -> Tensor:
    """Hidden states, shape (rows, length, width); some models have several streams of them, which are averaged."""
    if states.dim() == 3:
        return states
    return states.mean(dim=2 if states.shape[:2] == input_ids.shape else 0)


def _repeats(model: Any, tokens: Tensor) -> bool:
    """Whether every layer of a model's cache can be repeated; those of state-space layers cannot."""
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=tokens, past_key_values=cache, use_cache=True)
    whole = cache.get_seq_length() == tokens.shape[1]
    return whole and all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers)


def _slopes(scores: Tensor, trained: list[nn.Parameter]) -> list[Tensor]:
    """The gradients of the sum of scores."""
    slopes = torch.autograd.grad(scores.sum(), trained, allow_unused=True)
    return [
        torch.zeros_like(own) if slope is None else slope.float() for own, slope in zip(trained, slopes, strict=True)
    ]
