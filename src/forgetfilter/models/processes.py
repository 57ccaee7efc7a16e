"""Tell which of the processes that `accelerate launch` started this one is, and wait for the others."""

from __future__ import annotations

import atexit
import os
import re
from datetime import timedelta

from ..errors import SettingsError, first_line

# The environment variables by which `accelerate launch` passes on its options.
ASKS_FOR_FSDP = "ACCELERATE_USE_FSDP"
_NOT_SUPPORTED = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


# Variables by which a launcher tells a process its place, and the least that each may be.
_WHOLE_NUMBERS = {"WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1, "OMP_NUM_THREADS": 1}
_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
_SHOWN = 40


def check_launch() -> None:
    """See that the variables which tell of other processes and of threads are numbers that can be.

    Raises:
        SettingsError: One of them is not.
    """
    for variable, least in _WHOLE_NUMBERS.items():
        text = os.environ.get(variable, str(max(least, 0)))
        # Of threads there may be a number for each level of nesting.
        numbers = text.split(",") if variable == "OMP_NUM_THREADS" else [text]
        if not all(_WHOLE.fullmatch(number.strip()) and int(number) >= least for number in numbers):
            raise SettingsError(
                f"the environment variable {variable} is {text[:_SHOWN]!r}; expected a whole number from {least} "
                "on, or no such variable"
            )
    count, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if rank >= count:
        raise SettingsError(
            f"the environment variable RANK is {rank}, but WORLD_SIZE is {count}; 'accelerate launch' sets both"
        )


def _number(variable: str, default: int) -> int:
    return int(os.environ.get(variable, default))


def spreads_the_model() -> bool:
    """Check whether several processes are to hold a part of the model each (`accelerate launch --use_fsdp`)."""
    return _asked(ASKS_FOR_FSDP) and _number("WORLD_SIZE", 1) > 1


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
        check_launch()
        self.count = _number("WORLD_SIZE", 1)
        self.main = _number("RANK", 0) == 0
        self.several_machines = _number("LOCAL_WORLD_SIZE", self.count) < self.count
        for variable, name in _NOT_SUPPORTED.items():
            if _asked(variable):
                raise SettingsError(f"{name} is not supported; launch without it, or with --use_fsdp")
        if self.count > 1:
            import torch
            from accelerate import PartialState

            on_cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
            # The first process may read and tokenise for hours while the others wait for it.
            try:
                self._state = PartialState(cpu=on_cpu, timeout=timedelta(days=7))
            except (ValueError, KeyError, RuntimeError) as error:
                raise SettingsError(
                    f"this process cannot join the others: {first_line(error)}; start them with 'accelerate launch'"
                ) from error
            # Threads of the process group that still run when Python exits make it fail now and then.
            atexit.register(self._state.destroy_process_group)
            if self._state.num_processes != self.count:
                raise SettingsError(f"device: '{device}' does not let {self.count} processes work together")

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            self._state.wait_for_everyone()
