"""A model spread over processes: each holds a part of every weight, and gets the others when a layer needs them (FSDP).

PyTorch's `fully_shard` is called here instead of Accelerate's way to it, which is for GPUs alone: so the tests can
compare two processes on a CPU with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from .processes import ASKS_FOR_FSDP

_Made = TypeVar("_Made")


@contextmanager
def left_to_us() -> Iterator[None]:
    """Keep Accelerate from spreading models itself where the launch asks for it."""
    asked = os.environ.pop(ASKS_FOR_FSDP, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[ASKS_FOR_FSDP] = asked


def in_turn(accelerator: Accelerator, make: Callable[[], _Made]) -> _Made:
    """Make something in one process of each machine after the other, as it takes much memory while it is made."""
    made = []
    for turn in range(int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))):
        if turn == accelerator.local_process_index:
            made.append(make())
        accelerator.wait_for_everyone()
    return made[0]


def mesh_of(accelerator: Accelerator) -> DeviceMesh:
    """All processes, as `spread` takes them; every process must ask."""
    return init_device_mesh(accelerator.device.type, (accelerator.num_processes,))


def spread(model: nn.Module, mesh: DeviceMesh) -> None:
    """Leave of every weight of the model only this process's part; a layer is whole while it is computed.

    What is not in a layer, such as the head, is whole from the first time that it is needed.
    """
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def put_away(model: nn.Module) -> None:
    """Give up what of the model stayed whole after a pass that no gradient followed: its parameters are parts again."""
    if isinstance(model, FSDPModule):
        model.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process must ask for those that are spread."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Iterable[tuple[str, Tensor]], *, keep: bool = True) -> dict[str, Tensor]:
    """A copy of whole tensors on the CPU, by name; a process that does not keep them helps the others all the same."""
    found = {}
    for name, tensor in tensors:
        value = whole(tensor.detach())
        if keep:
            found[name] = value.to("cpu", copy=True).contiguous()
    return found


def spread_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, on the device of a parameter and spread as this is; every process has all of it."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
