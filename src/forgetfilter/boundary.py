"""Turn whatever ends a command into one line for people: what went wrong, what is kept, and what to do next."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .console import escaped, fit_to_show, show
from .errors import ForgetFilterError, RunError, first_line
from .runs.layout import LOG, MANIFEST

OURS, USERS = 1, 2

# What the system may refuse for reasons that lie with the machine: in words, and what to do about it.
_REFUSALS = {
    errno.ENOSPC: ("no space left on the disk", "Make room there, then run the same command again"),
    errno.EDQUOT: ("no space left in the disk quota", "Make room there, then run the same command again"),
    errno.EROFS: ("read-only file system", "Make it writable, or name a folder on another one"),
    errno.EACCES: ("permission denied", "Change the permissions, or name another place"),
    errno.EPERM: ("not permitted", "Change the permissions, or name another place"),
    errno.EMFILE: ("too many open files", "Raise the limit, as with 'ulimit -n 4096', then run the same command again"),
    errno.EFBIG: (
        "a file would be too large for the limit that is set, or for the file system",
        "Raise the limit, as with 'ulimit -f unlimited', then run the same command again",
    ),
    errno.ENOMEM: (
        "not enough memory",
        "Free some, raise the limit, or choose a smaller model or --tokens-per-batch; then run the command again",
    ),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter one"),
    errno.ENOTDIR: ("a part of this path is a file, and no folder", "Name another place"),
    errno.EISDIR: ("this is a folder, and no file", "Name another place"),
    errno.EEXIST: ("there is something of this name already", "Name another place"),
    errno.ELOOP: ("links that lead to one another", "Name another place"),
    errno.EIO: ("the disk cannot be read or written (input/output error)", "Check the disk, or work on another one"),
}
_REFUSALS[errno.ENFILE] = _REFUSALS[errno.EMFILE]
# Of what Python tells without the system's number.
_PYTHONS_OWN = {
    "can't start new thread": (
        "no more threads can be started",
        "Raise the limit, as with 'ulimit -u unlimited', then run the same command again",
    ),
    "No usable temporary directory": (
        "no temporary folder can be written to",
        "Make room in one, or name one in TMPDIR, then run the same command again",
    ),
}
# Of the libraries by which processes talk to one another, Gloo and NCCL.
_SAYS_OTHERS_ENDED = re.compile(r"gloo/transport|remote process exit|Did the remote server shutdown or crash")
_RAISED_FOR_OTHERS = {"DistBackendError", "DistNetworkError", "DistStoreError"}
_OTHERS_ENDED = (
    "one of the processes that share the work has ended, or cannot be reached",
    "See what it said, then run the same command again",
)
_SAYS_NUMBER = re.compile(r"\b(?:os error|errno) (\d+)\b", re.IGNORECASE)
# What NumPy says of a disk that took a part of an array.
_SAYS_TOO_FEW = re.compile(r"^\d+ requested and \d+ written$")
_SAYS_NO_MEMORY = re.compile(
    r"out of memory|(?:cannot|can't) allocate memory|bad_alloc|failed to map segment", re.IGNORECASE
)


def refusal(error: BaseException, folder: Path | None = None, outcome: str = "") -> str | None:
    """Say what the system refused and what to do about it; None where an error is of another kind.

    Args:
        error: What was raised; libraries in other languages pass the system's errors on in words.
        folder: Where the work lies, to be named where the error names no file.
        outcome: What became of the work so far.
    """
    because: BaseException | None = error
    while because is not None:
        pythons_own = (told for begin, told in _PYTHONS_OWN.items() if begin in str(because))
        others = _OTHERS_ENDED if lost_others(because) else None
        known = others or _REFUSALS.get(_number(because) or 0) or next(pythons_own, None)
        if known is not None:
            problem, advice = known
            name = because.filename if isinstance(because, OSError) else None
            place = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(folder or "")
            where = f"{escaped(place)}: " if place else ""
            return f"{where}{problem}{f'; {outcome}' if outcome else ''}. {advice}"
        because = because.__cause__
    return None


def lost_others(error: BaseException) -> bool:
    """Tell whether an error says that another of the processes that share the work is gone."""
    return type(error).__name__ in _RAISED_FOR_OTHERS or bool(_SAYS_OTHERS_ENDED.search(str(error)))


def report(error: BaseException, outcome: str, folder: Path | None) -> int:
    """Show an error in one line and return the exit status; the traceback of an unexpected one goes into a file.

    Args:
        error: What was raised.
        outcome: What became of the work so far.
        folder: Where the work lies.
    """
    if isinstance(error, ForgetFilterError):
        first, *others = (fit_to_show(line.replace("\n", "\\n")) for line in error.lines)
        show("\n".join([f"forgetfilter: {first}", *others]), sys.stderr)
        return USERS
    refused = refusal(error, folder, outcome)
    if refused is not None:
        show(f"forgetfilter: {refused}", sys.stderr)
        return USERS
    file = _keep_traceback(error, folder)
    where = f"The traceback is in {escaped(str(file))}" if file else f"It was raised {_origin(error)}"
    problem = fit_to_show(f"unexpected {type(error).__name__}: {first_line(error)}")
    show(f"forgetfilter: {problem}; {outcome}. {where}; please report it", sys.stderr)
    return OURS


@contextmanager
def refusals_explained(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into a RunError with the line that the command line would show."""
    try:
        yield
    except OSError as error:
        refused = refusal(error, folder)
        if refused is None:
            raise
        raise RunError(refused) from error


def _number(error: BaseException) -> int | None:
    """Find the system's number of an error."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError) or _SAYS_NO_MEMORY.search(str(error)):
        return errno.ENOMEM
    if isinstance(error, OSError) and _SAYS_TOO_FEW.match(str(error)):
        return errno.ENOSPC
    number = _SAYS_NUMBER.search(str(error))
    return int(number[1]) if number else None


def _keep_traceback(error: BaseException, folder: Path | None) -> Path | None:
    """Append a traceback to the log of a run, or write it to a temporary file; returns the file, if there is one."""
    lines = (fit_to_show(line) for part in traceback.format_exception(error) for line in part.splitlines())
    text = "\n".join([*lines, ""])
    with suppress(OSError):
        if folder is not None and (folder / MANIFEST).is_file():
            with (folder / LOG).open("a", encoding="utf-8") as log:
                log.write(text)
            return folder / LOG
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix="forgetfilter-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file,
    ):
        file.write(text)
        return Path(file.name)
    return None


def _origin(error: BaseException) -> str:
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"in line {last.lineno} of {Path(last.filename).name}"
