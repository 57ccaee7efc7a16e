"""Record a function's operations on a GPU as CUDA graphs, once for each size of its inputs, and replay them.

With a small model the GPU finishes an operation before Python has started the next. A CUDA graph starts all operations
of a pass at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_Result = TypeVar("_Result")
_Input = Tensor | int | None


class Replayed(Generic[_Result]):
    """Calls a function of tensors on a device through CUDA graphs.

    Sizes that come up a second time are recorded, and replayed from then on; once a recording fails, nothing is
    recorded any more. A result is overwritten when this or another graph of the function is replayed.

    Args:
        work: The function. It must do the same operations for all tensors of the same sizes, and never synchronise;
            inputs that are no tensors count as sizes.
        device: The device of the function; graphs are recorded on GPUs only.
        between: Called before and after recording.
    """

    def __init__(
        self, work: Callable[..., _Result], device: torch.device, between: Callable[[], None] = lambda: None
    ) -> None:
        self._work, self._device, self._between = work, device, between
        self._seen: set[tuple[Any, ...]] = set()
        self._recordings: dict[tuple[Any, ...], _Recording[_Result]] = {}
        self._pool: Any = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def __call__(self, *inputs: _Input) -> _Result:
        """Return the function's result for these inputs, which may be on any device."""
        sizes = tuple(each.shape if isinstance(each, Tensor) else each for each in inputs)
        if self._pool is None or sizes not in self._seen:
            self._seen.add(sizes)
            return self._work(*(each.to(self._device) if isinstance(each, Tensor) else each for each in inputs))
        if sizes not in self._recordings:
            try:
                self._recordings[sizes] = self._record(inputs)
            except RuntimeError:
                # Most likely the memory ran out, of which every graph keeps some. Whatever it was, the work can be done
                # as it was the first time.
                self._recordings, self._pool = {}, None
                torch.cuda.empty_cache()
                return self(*inputs)
        return self._recordings[sizes].replay(inputs)

    def _record(self, inputs: tuple[_Input, ...]) -> _Recording[_Result]:
        self._between()
        try:
            return _Recording(self._work, inputs, self._device, self._pool)
        finally:
            self._between()


class _Recording(Generic[_Result]):
    """The CUDA graph of one call, with the memory of its inputs and its result."""

    def __init__(
        self, work: Callable[..., _Result], inputs: tuple[_Input, ...], device: torch.device, pool: Any
    ) -> None:
        self._inputs = [each.to(device, copy=True) if isinstance(each, Tensor) else each for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._result = work(*self._inputs)

    def replay(self, inputs: tuple[_Input, ...]) -> _Result:
        """Copy the inputs into the graph's own and replay it."""
        for recorded, new in zip(self._inputs, inputs, strict=True):
            if isinstance(recorded, Tensor) and isinstance(new, Tensor):
                recorded.copy_(new, non_blocking=True)
        self._graph.replay()
        return self._result
