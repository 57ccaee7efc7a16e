"""Run the command line as `python -m forgetfilter`, `accelerate launch -m forgetfilter` or `forgetfilter`."""

import atexit
import os
import signal
import sys

_status = 1


def _leave() -> None:
    # Threads of PyTorch's process groups that outlive the interpreter sometimes make a process exit with an error after
    # all its work is done, and the launcher then reports the whole run as failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)


def start() -> None:
    """Run the command of this process's arguments and exit with its status."""
    global _status
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # In the moment until our own handlers are there, the default would show a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .boundary import report
    from .console import guard_streams
    from .interruption import Interrupted, end_on_signals, status, tell

    guard_streams()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # Exit handlers run in reverse order, so this one runs after those of the process groups.
        atexit.register(_leave)
    try:
        end_on_signals()
        # The command line takes a moment to import, and a signal may come in it.
        from .cli import main

        _status = main()
    except SystemExit as ended:
        # `--help` and unknown options end like this.
        _status = ended.code if isinstance(ended.code, int) else 0
    except Interrupted:
        tell()
        _status = status() or 1
    except Exception as error:
        # Importing fails where memory or open files are short.
        _status = report(error, "nothing was written", None)
    if status() is not None:
        # Taking down the interpreter takes its time where much is loaded, and the watching thread would not see to it.
        atexit._run_exitfuncs()
        os._exit(_status)
    raise SystemExit(_status)


if __name__ == "__main__":
    start()
