"""Shard a model over processes (FSDP): each holds a part of every weight and gathers the rest when a layer needs it.

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
    """Keep Accelerate from sharding models itself where the launch asks for it."""
    asked = os.environ.pop(ASKS_FOR_FSDP, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[ASKS_FOR_FSDP] = asked


def in_turn(accelerator: Accelerator, make: Callable[[], _Made]) -> _Made:
    """Build something in one process of a machine after the other, as it takes much memory while being built."""
    made = []
    for turn in range(int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))):
        if turn == accelerator.local_process_index:
            made.append(make())
        accelerator.wait_for_everyone()
    return made[0]


def mesh_of(accelerator: Accelerator) -> DeviceMesh:
    """Make the mesh of all processes that `spread` takes; every process must call."""
    return init_device_mesh(accelerator.device.type, (accelerator.num_processes,))


def spread(model: nn.Module, mesh: DeviceMesh) -> None:
    """Keep only this process's part of every weight of the model; a layer is gathered while it is computed.

    What is not in a layer, such as the head, is whole from the first time that it is needed.
    """
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def put_away(model: nn.Module) -> None:
    """Shard again the parameters that stayed whole after a forward pass without a backward pass."""
    if isinstance(model, FSDPModule):
        model.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather the whole of a tensor; every process must call for one that is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Iterable[tuple[str, Tensor]], *, keep: bool = True) -> dict[str, Tensor]:
    """Copy whole tensors to the CPU, by name; a process that keeps none must call all the same."""
    found = {}
    for name, tensor in tensors:
        value = whole(tensor.detach())
        if keep:
            found[name] = value.to("cpu", copy=True).contiguous()
    return found


def spread_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Put a whole tensor on a parameter's device, sharded as the parameter is; every process passes all of it."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
