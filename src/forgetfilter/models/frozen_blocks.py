"""The blocks below the lowest that is trained: what they make of a row is the same in every session of a run.

So a row goes through them once, and whoever keeps what came out (`models.states`) hands it to the passes to come, in
which these blocks are passed over.
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
    """What the present pass hands to hooks inside the model, and gets from them; passes may go side by side."""

    def __reduce__(self) -> tuple[type[PassState], tuple[()]]:
        # A copy of the model begins with no pass under way.
        return type(self), ()


class _Passing(PassState):
    given: Tensor | None = None
    ends: bool = False


class _Made(Exception):  # noqa: N818
    """Ends a pass behind the frozen blocks, with what they made."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _Block:
    """A frozen block's forward; not a closure, so that the model can be copied and pickled by those who do."""

    def __init__(self, block: nn.Module, index: int, *, last: bool, passing: _Passing) -> None:
        self.inner, self._index, self._last, self._passing = block.forward, index, last, passing
        # What the block makes besides hidden states, in number; None where it makes these alone.
        self._besides: int | None = None

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = self._passing.given
        if given is None:
            made = self.inner(hidden_states, *args, **kwargs)
            self._besides = len(made) - 1 if isinstance(made, tuple) else None
            if self._last and self._passing.ends:
                raise _Made(made if self._besides is None else made[0])
            return made
        for cache in (*args, *kwargs.values()):
            if isinstance(cache, Cache):
                # Models ask the cache of their first block how many tokens came before; keys of one number suffice.
                keys = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
                cache.update(keys, keys, self._index)
        known = given if self._last else hidden_states
        return known if self._besides is None else (known, *[None] * self._besides)


class FrozenBlocks:
    """The blocks of a model that nothing trains, nor anything below them.

    Args:
        model: A causal language model, whose trained parameters say which blocks are frozen.

    Attributes:
        count: How many there are; none where anything but blocks is trained.
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
        """Passes of this thread take these states, shape (rows, length, width), for what the frozen blocks make."""
        self._passing.given = states
        try:
            yield
        finally:
            self._passing.given = None

    def made_in(self, make_pass: Callable[[], object]) -> Tensor:
        """What the frozen blocks make in a pass, shape (rows, length, width); what lies above them is not computed."""
        self._passing.ends = True
        try:
            make_pass()
        except _Made as found:
            return found.states
        finally:
            self._passing.ends = False
        raise RuntimeError("the pass went through no frozen block")
