"""Run by test_kill.py in a process of its own: kill a run at every point where it makes something final.

Arguments: a folder to work in, then the arguments of forgetfilter. Prints one line for each kill.
"""

import os
import signal
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import forgetfilter.models.activation_cache
import forgetfilter.models.scoring
import forgetfilter.models.training
import forgetfilter.runs.files
import forgetfilter.runs.run
import forgetfilter.stages.answers
from forgetfilter.cli import main

RESULTS = ("kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "summary.json")
RESULTS += ("examples.jsonl", "model/adapter_model.safetensors")


def in_child(work) -> int:
    """Do some work in a forked process; returns how it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = work()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def killed_at(count: int, arguments: list[str], *, after: bool) -> int:
    """Run until the `count`-th commit, and die by SIGKILL just before or after it."""
    left, commit = count, forgetfilter.runs.files.commit

    def deadly(partial, final):
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(partial, final)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    forgetfilter.runs.files.commit = forgetfilter.runs.run.commit = deadly
    return main(arguments)


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def check() -> None:
    work, arguments = Path(sys.argv[1]), sys.argv[2:]
    # A checkpoint after every step, so that sessions are killed in their middle, too.
    forgetfilter.models.training._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    forgetfilter.models.scoring._ROWS_PER_SHARD = forgetfilter.models.activation_cache._ROWS_AT_ONCE = 7
    forgetfilter.stages.answers.ANSWER_TOKENS = 8
    assert in_child(lambda: main([*arguments, "--output", str(work / "whole")])) == 0
    expected = read(work / "whole")
    count = 0
    while True:
        count += 1
        folder = work / f"killed-{count}"
        command = [*arguments, "--output", str(folder)]
        ended = in_child(lambda: killed_at(count, command, after=count % 2 == 0))  # noqa: B023
        if ended == 0:
            break
        assert ended == signal.SIGKILL, ended
        assert in_child(lambda: main(command)) == 0, count  # noqa: B023
        assert read(folder) == expected, f"kill {count} led to another result"
    print(f"killed {count - 1} times")


check()
