"""The one forward pass of training and scoring alike: the log-probability of completion tokens, and only of these.

The head, a sixth of the work with a small model and a large vocabulary, runs on completion positions only, some at a
time, so that there are never logits of all of them, and so does what the last block does after its attention; what rows
begin with alike goes through the model once; and blocks that are never trained are passed over where it is known what
they make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, pad
from transformers import DynamicCache, PreTrainedModel

from ..data.tokens import Tokens
from .blocks import FastBlock, base_of, only_fast_blocks
from .frozen import FrozenBlocks, PassState
from .states import KnownTokens

# Logits that are made by one product, in numbers; and those of them that are worked on at a time, which a core's cache
# can hold. A GPU wants few operations, however large.
_LOGITS_AT_ONCE, _LOGITS_IN_CACHE = 8 << 20, 1 << 18
_LOGITS_ON_GPU = 1 << 26


class _TokenLogprobs(torch.autograd.Function):
    """log p(target) of each row of hidden states through a frozen head, and whether none is likelier.

    The slope of log p(t) is W[t] - p W, whatever is done with it later. It is made at once, while p is there,
    and the backward pass only scales it: no logits are kept, and none are made twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        first = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        on_gpu = hidden.device.type != "cpu"
        at_once, in_cache = (_LOGITS_ON_GPU, _LOGITS_ON_GPU) if on_gpu else (_LOGITS_AT_ONCE, _LOGITS_IN_CACHE)
        for part in _slices(len(hidden), at_once // len(weight)):
            logits = linear(hidden[part], weight, bias)
            for few in _slices(len(logits), in_cache // len(weight)):
                wide = logits[few].float()
                target = wide.gather(1, targets[part][few, None])
                largest = wide.amax(dim=1, keepdim=True)
                powers = wide.sub_(largest).exp_()
                total = powers.sum(dim=1, keepdim=True)
                logprobs[part][few] = (target - largest - total.log()).squeeze(1)
                first[part][few] = (target == largest).squeeze(1)
                if slopes is not None:
                    # The logits are not needed any more; probabilities take their place.
                    torch.div(powers, total, out=logits[few])
            if slopes is not None:
                slopes[part] = weight[targets[part]] - logits @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(first)
        return logprobs, first

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0][:, None].to(slopes.dtype), None, None, None


def token_logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of tokens through a head that is a frozen matrix, and whether none is likelier.

    Args:
        hidden: What the head reads, shape (tokens, width).
        weight, bias: The head.
        targets: The tokens, shape (tokens,).

    Returns:
        Log-probabilities in nats, and whether no other token is likelier; both of shape (tokens,).
    """
    return _TokenLogprobs.apply(hidden, weight, bias, targets)  # type: ignore[no-any-return, no-untyped-call]


def _slices(count: int, size: int) -> Iterator[slice]:
    """Parts of so many, each of the size but the last."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


class _Passing(PassState):
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
        frozen: How many of its blocks are never trained, nor anything below them.
        skips: Whether passes can leave out these blocks, where it is known what they make.
        by_parts: Whether the head can be applied to some places at a time.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, *, whole: bool = False) -> None:
        super().__init__()
        self.model = model
        self._blocks = FrozenBlocks(model)
        self.frozen = self._blocks.count
        self._head = model.get_output_embeddings()
        self.by_parts = _is_plain(self._head) and _leaves_logits_alone(model)
        self._passing = _Passing()
        blocks = only_fast_blocks(model)
        if blocks:
            base_of(model).model.layers[-1].forward = _LastBlock(blocks[-1], self._passing)
        # Such a block's output is that of the wanted places already.
        self._takes_out = not blocks
        # Taking the places out just before the head leaves a model's own scaling or capping of logits intact.
        self._head.register_forward_pre_hook(self._select)
        self.skips = not whole and self.frozen > 0 and self._can_skip()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._head.weight.device
        return device

    def inputs(self, rows: Sequence[Tokens], pass_overhead: int) -> tuple[Tensor, ...]:
        """What `forward` takes for some rows.

        Args:
            rows: The rows.
            pass_overhead: What a pass of its own costs for what they share, in tokens.
        """
        return with_states(rows, collate(rows, self.device, pass_overhead))

    def read(self, rows: Sequence[Tokens], pass_overhead: int) -> list[Tensor]:
        """What the frozen blocks make of rows; there have to be such blocks.

        Args:
            rows, pass_overhead: As `inputs` takes them.

        Returns:
            The states of each row, shape (tokens, width), on the CPU.
        """
        prefix, input_ids, _ = collate(rows, self.device, pass_overhead)
        of_prefix, own = (states.cpu() for states in self.states(prefix, input_ids))
        ends = [len(row.input_ids) - prefix.shape[1] for row in rows]
        return [torch.cat([of_prefix[0], states[:end]]) for states, end in zip(own, ends, strict=True)]

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
            logits = self.model(input_ids=input_ids, past_key_values=before, use_cache=before is not None).logits
        targets = input_ids.flatten()[places + 1]
        if self.by_parts:
            hidden, self._passing.hidden = self._passing.hidden, None
            assert hidden is not None
            return token_logprobs(hidden, self._head.weight, self._head.bias, targets)
        logits = logits.float()
        chosen = logits.gather(1, targets[:, None]).squeeze(1)
        return -cross_entropy(logits, targets, reduction="none"), chosen >= logits.amax(dim=-1)

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

    @torch.no_grad()
    def _can_skip(self) -> bool:
        """Whether scores come out the same without the frozen blocks; some models look at more of them."""
        weight, width = self._head.weight, self.model.config.get_text_config().hidden_size
        input_ids = torch.arange(12, device=weight.device).view(2, 6) % self._head.out_features
        tokens = input_ids[:1, :4], input_ids, torch.ones_like(input_ids, dtype=torch.bool)
        mode = self.model.training
        self.model.eval()
        try:
            states = self.states(*tokens[:2])
            same = torch.allclose(self(*tokens, *states)[0], self(*tokens)[0], atol=1e-3)
        except Exception:
            # A model is a program of its authors: whatever it raises, it does not take its tokens in this way.
            return False
        finally:
            self.model.train(mode)
        return same and states[1].dtype == weight.dtype and states[1].shape[-1] == width


def _is_plain(head: nn.Module) -> bool:
    """Whether a head is nothing but a frozen matrix, so that it can be applied to some positions at a time."""
    return type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())


@torch.no_grad()
def _leaves_logits_alone(model: PreTrainedModel | PeftModel) -> bool:
    """Whether a model gives out what its head makes; some scale it, or cap it."""
    head = model.get_output_embeddings()
    made = torch.linspace(-64, 64, head.out_features, device=head.weight.device, dtype=head.weight.dtype)
    hook = head.register_forward_hook(lambda *_: made.expand(1, 1, -1))
    try:
        given = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=made.device), use_cache=False).logits
    finally:
        hook.remove()
    return torch.equal(given.float().flatten(), made.float())


def collate(rows: Sequence[Tokens], device: torch.device, pass_overhead: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `CompletionScorer` takes: the shared prefix, and tokens and completion mask padded on the right.

    The prefix is empty where sharing it saves less than what a forward pass of its own costs, in tokens.
    """
    shared = worth_sharing(shared_prefix(rows), len(rows), pass_overhead)
    input_ids = pad_right([row.input_ids[shared:] for row in rows])
    # Padding is left out of the loss.
    completion = pad_right([row.mask[shared:] for row in rows])
    prefix = rows[0].input_ids[None, :shared].astype(np.int64)
    return tuple(torch.from_numpy(array).to(device) for array in (prefix, input_ids, completion))  # type: ignore[return-value]


def pad_right(sequences: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Sequences below one another, shape (sequences, longest). Any token pads: no causal model looks to the right."""
    kind = np.bool_ if sequences[0].dtype == np.bool_ else np.int64
    padded: NDArray[Any] = np.zeros((len(sequences), max(len(sequence) for sequence in sequences)), dtype=kind)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded


def worth_sharing(shared: int, rows: int, pass_overhead: int) -> int:
    """What rows begin with, in tokens; 0 where going through it once saves less than a pass of its own costs."""
    return shared if (rows - 1) * shared > pass_overhead else 0


def with_states(rows: Sequence[Tokens], inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """What `collate` made of rows, and the states of their tokens, where those of all rows are known."""
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
    """How many tokens all rows begin with, such as a system prompt, completions and the tokens before them left out."""
    return common_prefix([row.input_ids[: max(0, row.spans[0][0] - 1)] for row in rows])


def common_prefix(sequences: Sequence[NDArray[np.integer]]) -> int:
    """How many tokens all of these begin with."""
    length = min(len(sequence) for sequence in sequences)
    for sequence in sequences[1:]:
        same = sequence[:length] == sequences[0][:length]
        length = length if same.all() else int(np.argmin(same))
    return length
