"""Skip the blocks below the lowest trained one, whose activations are the same in every session of a run.

A row goes through them once; later forward passes are given the activations that were cached (`models.activations`)
and skip these blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from .architecture import decoder_blocks


class PassState(threading.local):
    """Holds what the present forward pass exchanges with hooks inside the model; each thread has its own."""

    def __reduce__(self) -> tuple[type[PassState], tuple[()]]:
        # A copy of the model starts without a pass under way.
        return type(self), ()


class _Passing(PassState):
    given: Tensor | None = None
    ends: bool = False


class _Made(Exception):  # noqa: N818
    """Ends a forward pass after the frozen blocks, and carries their output."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _Block:
    """Replaces a frozen block's forward; a class rather than a closure, so that the model can be copied and pickled."""

    def __init__(self, block: nn.Module, index: int, *, last: bool, passing: _Passing) -> None:
        self.inner, self._index, self._last, self._passing = block.forward, index, last, passing
        # How many outputs the block has besides hidden states; None if it returns these alone.
        self._besides: int | None = None

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = self._passing.given
        if given is None:
            output = self.inner(hidden_states, *args, **kwargs)
            self._besides = len(output) - 1 if isinstance(output, tuple) else None
            if self._last and self._passing.ends:
                raise _Made(output if self._besides is None else output[0])
            return output
        for cache in (*args, *kwargs.values()):
            if isinstance(cache, Cache):
                # Models ask the cache of their first block how many tokens came before; keys of one number suffice.
                keys = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
                cache.update(keys, keys, self._index)
        known = given if self._last else hidden_states
        return known if self._besides is None else (known, *[None] * self._besides)


class FrozenBlocks:
    """Finds the blocks of a model below the lowest trained one, and lets forward passes skip them or end after them.

    Args:
        model: A causal language model, whose trained parameters say which blocks are frozen.

    Attributes:
        count: How many there are; 0 if anything but blocks is trained.
        above: The blocks above them.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        blocks = decoder_blocks(model)
        inside = [any(parameter.requires_grad for parameter in block.parameters()) for block in blocks]
        trained = sum(parameter.requires_grad for parameter in model.parameters())
        alone = trained == sum(parameter.requires_grad for block in blocks for parameter in block.parameters())
        self.count = inside.index(True) if alone and any(inside) else 0
        self.above = blocks[self.count :]
        self._passing = _Passing()
        for index, block in enumerate(blocks[: self.count]):
            last = index == self.count - 1
            block.forward = _Block(block, index, last=last, passing=self._passing)

    @contextmanager
    def given(self, states: Tensor | None) -> Iterator[None]:
        """Let this thread's passes use these activations, shape (rows, length, width), in place of the blocks."""
        self._passing.given = states
        try:
            yield
        finally:
            self._passing.given = None

    def made_in(self, make_pass: Callable[[], object]) -> Tensor:
        """Compute the frozen blocks' activations, shape (rows, length, width); the blocks above do not run."""
        self._passing.ends = True
        try:
            make_pass()
        except _Made as end:
            return end.states
        finally:
            self._passing.ends = False
        raise RuntimeError("the pass went through no frozen block")
