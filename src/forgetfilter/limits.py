"""Bound the time and memory of work that a hostile template, pattern or table chooses."""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STATM = "/proc/self/statm"
_PAGE = resource.getpagesize()
# Once the time is up, work is interrupted so often, in case what it called swallowed the first interruption.
_AGAIN = 1.0


class ExceededError(Exception):
    """Work took more time or memory than it may; the message says how much that was."""


class _Expired(BaseException):
    """Is raised in the middle of anything, and caught by nothing but `bounded`."""


@contextmanager
def bounded(memory: int, seconds: float | None = None) -> Iterator[None]:
    """Stop what the block does once it takes too much.

    Time is bounded in the main thread alone, and memory where the system can bound it, as Linux can.

    Args:
        memory: Most bytes that the process may take beyond those it has now.
        seconds: Most processor time, so that a busy machine makes nothing fail.

    Raises:
        ExceededError: It took more.
    """
    before = _bound_memory(memory)
    try:
        if seconds is None or threading.current_thread() is not threading.main_thread():
            yield
        else:
            with _timed(seconds):
                yield
    except MemoryError as error:
        raise ExceededError(f"more than {_told(memory)} of memory") from error
    except _Expired as error:
        raise ExceededError(f"more than {seconds:g} s") from error
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_AS, before)


def _bound_memory(more: int) -> tuple[int, int] | None:
    """Lower the process's limit; returns the limits of before, or None where they were left as they are."""
    try:
        with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123
            in_use = int(file.read().split()[0]) * _PAGE
    except OSError:
        return None
    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft <= in_use + more:
        return None
    resource.setrlimit(resource.RLIMIT_AS, (in_use + more, hard))
    return before


@contextmanager
def _timed(seconds: float) -> Iterator[None]:
    def expire(signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise _Expired

    before, told_lost = signal.signal(signal.SIGVTALRM, expire), sys.unraisablehook

    def tell_others(lost: Any) -> None:
        # In a destructor the interruption is lost, and comes again.
        if lost.exc_type is not _Expired:
            told_lost(lost)

    sys.unraisablehook = tell_others
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        finally:
            # The time may have been up just now, before the timer was stopped.
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL if before is None else before)
            # A signal that ends the process has put its own there.
            if sys.unraisablehook is tell_others:
                sys.unraisablehook = told_lost


def _told(size: int) -> str:
    return f"{size >> 30} GB" if size >= 1 << 30 else f"{size >> 20} MB"
