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


class _Passing(threading.local):
    """What the present pass is to do at the frozen blocks; passes may go side by side."""

    given: Tensor | None = None
    reads: bool = False

    def __reduce__(self) -> tuple[type[_Passing], tuple[()]]:
        # A copy of the model begins with no pass under way.
        return _Passing, ()


class _Read(Exception):  # noqa: N818
    """Ends a pass behind the frozen blocks, with what they made."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _Block:
    """A frozen block's forward; not a closure, so that the model can be copied and pickled by those who do."""

    def __init__(self, block: nn.Module, index: int, *, last: bool, passing: _Passing) -> None:
        self._forward, self._index, self._last, self._passing = block.forward, index, last, passing

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = self._passing.given
        if given is None:
            made = self._forward(hidden_states, *args, **kwargs)
            if self._last and self._passing.reads:
                raise _Read(made)
            return made
        for cache in (*args, *kwargs.values()):
            if isinstance(cache, Cache):
                # Models ask the cache of their first block how many tokens came before; keys of one number suffice.
                keys = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
                cache.update(keys, keys, self._index)
        return given if self._last else hidden_states


class FrozenBlocks:
    """The blocks of a model that nothing trains, nor anything below them.

    Args:
        model: A causal language model, whose trained parameters say which blocks are frozen.

    Attributes:
        count: How many there are; none where anything but blocks is trained.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        blocks = _blocks(model)
        inside = [any(parameter.requires_grad for parameter in block.parameters()) for block in blocks]
        trained = sum(parameter.requires_grad for parameter in model.parameters())
        alone = trained == sum(parameter.requires_grad for block in blocks for parameter in block.parameters())
        self.count = inside.index(True) if alone and any(inside) else 0
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

    def read(self, make_pass: Callable[[], object]) -> Tensor:
        """What the frozen blocks make in a pass, shape (rows, length, width); what lies above them is not computed."""
        self._passing.reads = True
        try:
            make_pass()
        except _Read as found:
            return found.states
        finally:
            self._passing.reads = False
        raise RuntimeError("the pass went through no frozen block")


def _blocks(model: PreTrainedModel | PeftModel) -> list[nn.Module]:
    """The decoder blocks, lowest first; none where they are not found."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return list(next((blocks for blocks in lists if len(blocks) == count), []))
