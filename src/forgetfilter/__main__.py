"""Run the command line as `python -m forgetfilter` or `accelerate launch -m forgetfilter`."""

import atexit
import os
import sys

from .cli import main

_status = 1


def _leave() -> None:
    # Threads of PyTorch's process groups that outlive the interpreter sometimes make a process exit with an error after
    # all its work is done, and the launcher then reports the whole run as failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


if os.environ.get("WORLD_SIZE", "1") != "1":
    # Exit handlers run in reverse order, so this one runs after those of the process groups.
    atexit.register(_leave)
try:
    _status = main()
except SystemExit as ended:
    # `--help` and unknown options end like this.
    _status = ended.code if isinstance(ended.code, int) else 0
raise SystemExit(_status)
