"""End within a second of SIGINT, SIGTERM or SIGHUP, with one line and the status that a shell expects.

The main thread unwinds, which takes back what is half written. Where it cannot, because it is deep in native code or
waits for threads, a thread of our own ends the process; whatever was finished is on the disk by then.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from .console import show

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SECONDS_TO_UNWIND = 0.4
# The line is printed by whichever thread comes first; a terminal that is stopped must not hold the other up.
_SECONDS_TO_PRINT = 0.3
# The launcher looks ten times a second whether a process has failed, but a busy machine may not let it.
_SECONDS_FOR_LAUNCHER = 5.0


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by the first signal."""


class _State:
    """What the handler, the main thread and the watching thread know of each other."""

    def __init__(self) -> None:
        self.number = 0
        self.outcome: Callable[[], str] = lambda: "nothing was written"
        self.printing, self.printed = threading.Lock(), False


_state = _State()


def promise(outcome: Callable[[], str]) -> None:
    """Set what the line says of the work of a command that begins now, such as what is kept."""
    _state.outcome, _state.printed = outcome, False


def status() -> int | None:
    """Return the exit status that belongs to the signal that came; None where none did."""
    return 128 + _state.number if _state.number else None


def speaks_for_all() -> bool:
    """Tell whether this process is the first of those that share the work, which speaks for all."""
    return not _shares_the_work() or os.environ.get("RANK", "0") == "0"


def ended_with_others() -> bool:
    """Wait for the launcher to end this process, as it does once another has failed, and tell whether it did.

    Processes that share the work fail alike, or because one of them is gone: what another said is enough then.
    """
    if _shares_the_work():
        with suppress(Interrupted):
            time.sleep(_SECONDS_FOR_LAUNCHER)
    return status() is not None


def _shares_the_work() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def tell() -> None:
    """Print the one line, unless the other thread did."""
    if not _state.printing.acquire(timeout=_SECONDS_TO_PRINT):
        return
    try:
        if not _state.printed and speaks_for_all():
            name = signal.Signals(_state.number or signal.SIGINT).name
            show(f"forgetfilter: interrupted by {name}; {_state.outcome()}", sys.stderr)
        _state.printed = True
    finally:
        _state.printing.release()


def end_on_signals() -> None:
    """Install the handlers, unless the parent process asked for a signal to be ignored, as `nohup` does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python writes a signal's number there at once, even while the main thread is busy in native code.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _interrupt(number: int, _: FrameType | None) -> None:
    if not _state.number:
        _note(number)
        raise Interrupted


def _note(number: int) -> None:
    _state.number = number
    # An interruption within a destructor or another thread would show a traceback there.
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None


def _watch(reader: int) -> None:
    number = 0
    while number not in _SIGNALS:
        number = os.read(reader, 1)[0]
    until, again = time.monotonic() + _SECONDS_TO_UNWIND, 0
    # A second one ends the wait; libraries may have signals of their own.
    while again not in _SIGNALS and select.select([reader], [], [], max(0, until - time.monotonic()))[0]:
        again = os.read(reader, 1)[0]
    _state.number = _state.number or number
    tell()
    os._exit(128 + number)
