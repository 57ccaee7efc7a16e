"""Run by test_interruption.py in a process of its own: a command that is busy in some way while signals come.

Arguments: how it is busy, then those of forgetfilter. Says "busy" on standard output once it is.
"""

import contextlib
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import forgetfilter.decision.decide
from forgetfilter.__main__ import start

SECONDS = 60
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def take_signals() -> None:
    """Have signals end this process, which a parent in the background may be told to ignore."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def sleep(*_, **__):
    print("busy", flush=True)
    time.sleep(SECONDS)


def in_a_thread(*_, **__):
    # The interpreter waits for such a thread before it exits.
    with ThreadPoolExecutor(1) as pool:
        print("busy", flush=True)
        pool.submit(time.sleep, SECONDS).result()


def swallowing(*_, **__):
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            sleep()


def turning(*_, **__):
    try:
        sleep()
    except KeyboardInterrupt as error:
        raise ValueError("a library's own") from error


class Destroyed:
    def __del__(self):
        sleep()


def destroying(*_, **__):
    # What is raised in a destructor gets lost.
    held = Destroyed()
    del held
    time.sleep(SECONDS)


WAYS = {"sleep": sleep, "in a thread": in_a_thread, "swallowing": swallowing, "turning": turning}
WAYS |= {"destroying": destroying}

if __name__ == "__main__":
    # Busy where all files of a decision are replaced and the summary is not there yet.
    forgetfilter.decision.decide.write_json = WAYS[sys.argv[1]]
    del sys.argv[1]
    start()
