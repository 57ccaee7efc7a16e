"""Run forward passes side by side on the cores of one processor.

Within one pass the cores wait for one another at every operation, and many operations of a small model are too small
to be split at all. Passes that run side by side, each on its own cores, hardly wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_MOST = 4
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Lanes:
    """Runs forward passes in threads that each have some cores to themselves.

    Args:
        device: Where the model is; there is one thread unless it is the CPU.
        processes: How many processes share the work; several on one machine share its cores already.
        most: Most threads.

    Attributes:
        count: How many passes run side by side.
    """

    def __init__(self, device: torch.device, processes: int = 1, most: int = _MOST) -> None:
        cores = torch.get_num_threads()
        self.count = min(cores, most) if device.type == "cpu" and processes == 1 else 1
        self._pool = (
            ThreadPoolExecutor(self.count, "lane", _keep_to, (cores // self.count,)) if self.count > 1 else None
        )

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Apply the function to each item; the results come in order."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)


def _keep_to(cores: int) -> None:
    """Let the operations of this thread use this many cores."""
    # Asked for first, as a thread takes up the number of the others when it first needs one.
    torch.get_num_threads()
    torch.set_num_threads(cores)
