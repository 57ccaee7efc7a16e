"""Tell which of the processes that `accelerate launch` started this one is, and wait for the others."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

from ..errors import SettingsError

# The environment variables by which `accelerate launch` passes on its options.
ASKS_FOR_FSDP = "ACCELERATE_USE_FSDP"
_NOT_SUPPORTED = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


def spreads_the_model() -> bool:
    """Check whether several processes are to hold a part of the model each (`accelerate launch --use_fsdp`)."""
    return _asked(ASKS_FOR_FSDP) and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"


def one_process(command: str, device: str) -> None:
    """Refuse a command that works in one process but was launched in several.

    Raises:
        SettingsError: There are several processes.
    """
    if Processes(device).count > 1:
        raise SettingsError(f"{command} works in one process; start it without 'accelerate launch'")


class Processes:
    """Tells which process this is, and of how many.

    Attributes:
        count: Number of processes.
        main: Whether this is the first process, the only one that writes files and prints.
        several_machines: Whether some run on other machines.

    Raises:
        SettingsError: The launch asks for what is not supported, or the device does not let processes work together.
    """

    def __init__(self, device: str) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.main = int(os.environ.get("RANK", "0")) == 0
        self.several_machines = int(os.environ.get("LOCAL_WORLD_SIZE", self.count)) < self.count
        for variable, name in _NOT_SUPPORTED.items():
            if _asked(variable):
                raise SettingsError(f"{name} is not supported; launch without it, or with --use_fsdp")
        if self.count > 1:
            import torch
            from accelerate import PartialState

            on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
            # The first process may read and tokenise for hours while the others wait for it.
            self._state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
            # Threads of the process group that still run when Python exits make it fail now and then.
            atexit.register(self._state.destroy_process_group)
            if self._state.num_processes != self.count:
                raise SettingsError(f"device: '{device}' does not let {self.count} processes work together")

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            self._state.wait_for_everyone()
