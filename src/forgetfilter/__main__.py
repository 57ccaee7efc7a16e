"""`python -m forgetfilter`, and `accelerate launch -m forgetfilter`."""

import atexit
import os
import sys

from .cli import main

_status = 1


def _leave() -> None:
    # Threads of PyTorch's groups that are still there when Python takes itself down now and then end a process with an
    # error, after all its work is done, and the launcher then calls the whole run a failure.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    # What is registered later, as groups are, is called before.
    atexit.register(_leave)
try:
    _status = main()
except SystemExit as ended:
    # How `--help`, and options that are not there, end.
    _status = ended.code if isinstance(ended.code, int) else 0
raise SystemExit(_status)
