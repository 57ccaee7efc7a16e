"""Operations on a GPU that are started together: recorded once for each size, and replayed (CUDA graphs).

With a small model the GPU is through with an operation before Python has started the next. A recording starts all of a
pass at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_Result = TypeVar("_Result")
_Input = Tensor | int | None


class Replayed(Generic[_Result]):
    """A function of tensors on a device.

    Sizes that come up a second time are recorded, and replayed from then on; where that fails, nothing is any more.
    What a recording made is overwritten when this or another recording of the function is replayed.

    Args:
        work: The function. It must do the same with all tensors of the same sizes, and wait for nothing; inputs that
            are no tensors count as sizes.
        device: Where it works; only GPUs record.
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
        """What the function makes of the inputs, which may be anywhere."""
        sizes = tuple(given.shape if isinstance(given, Tensor) else given for given in inputs)
        if self._pool is None or sizes not in self._seen:
            self._seen.add(sizes)
            return self._work(*(given.to(self._device) if isinstance(given, Tensor) else given for given in inputs))
        if sizes not in self._recordings:
            try:
                self._recordings[sizes] = self._record(inputs)
            except RuntimeError:
                # Most likely the memory, of which every recording keeps some. Whatever it was, the work can be done as
                # it was the first time.
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
    """The operations of one call, on inputs that lie where they lay then."""

    def __init__(
        self, work: Callable[..., _Result], inputs: tuple[_Input, ...], device: torch.device, pool: Any
    ) -> None:
        self._inputs = [given.to(device, copy=True) if isinstance(given, Tensor) else given for given in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._result = work(*self._inputs)

    def replay(self, inputs: tuple[_Input, ...]) -> _Result:
        for own, given in zip(self._inputs, inputs, strict=True):
            if isinstance(own, Tensor) and isinstance(given, Tensor):
                own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result
