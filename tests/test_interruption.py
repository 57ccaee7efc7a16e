"""SIGINT, SIGTERM and SIGHUP end a command at once, with one line, its own status, and the last decision as it was."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forgetfilter.cli import main
from support.interrupted import SECONDS, SIGNALS, WAYS, take_signals
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl

SCRIPT = Path(__file__).parent / "support" / "interrupted.py"
DECIDED = ["kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "report.html", "summary.json"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model):
    place = tmp_path_factory.mktemp("finished")
    noisy, safe = write_jsonl(place / "noisy.jsonl", NOISY), write_jsonl(place / "safe.jsonl", SAFE)
    arguments = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(place / "run")]
    assert main([*arguments, *QUICK]) == 0
    return place / "run"


def interrupted(command: list[str], number: int, *, twice: bool = False, after: str = "busy") -> tuple[int, list[str]]:
    """Start a command, send a signal once it says a word, and return its status and the lines that it said then."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=take_signals
    )
    assert process.stdout is not None
    for line in process.stdout if after == "busy" else process.stderr:
        if after in line:
            break
    process.send_signal(number)
    if twice:
        time.sleep(0.05)
        process.send_signal(number)
    began = time.monotonic()
    _, said = process.communicate()
    # On an idle machine it takes half a second at most; tests share theirs.
    assert time.monotonic() - began < SECONDS / 4
    return process.returncode, said.splitlines()


@pytest.mark.parametrize(
    ("way", "number"),
    [*((way, signal.SIGTERM) for way in WAYS), ("sleep", signal.SIGINT), ("sleep", signal.SIGHUP)],
)
def test_a_signal_ends_a_command_with_one_line(finished, way, number):
    before = {name: (finished / name).read_bytes() for name in DECIDED}
    command = [sys.executable, str(SCRIPT), way, "decide", str(finished), "--threshold", "top:50%"]
    status, said = interrupted(command, number, twice=way == "in a thread")
    assert status == 128 + number
    assert [line for line in said if "forgetfilter: " in line] == said[-1:]
    assert not [line for line in said if "Traceback" in line or "ignored" in line]
    assert f"interrupted by {number.name}; the last decision in {finished} stands, whole" in said[-1]
    # Where unwinding was not possible, the next command takes back what was half done.
    assert main(["decide", str(finished), "--threshold", "nonsense"]) == 2
    assert {name: (finished / name).read_bytes() for name in DECIDED} == before


def test_a_signal_that_is_to_be_ignored_is():
    code = "import signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code += "from forgetfilter.__main__ import start\nfrom forgetfilter import cli\n"
    code += "signal.raise_signal(signal.SIGHUP)\nsys.argv = ['forgetfilter', '--version']\n"
    code += "cli.main = lambda: signal.raise_signal(signal.SIGHUP) or 0\nstart()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_run_goes_on_to_the_same_end(model, tmp_path, number):
    noisy = write_jsonl(tmp_path / "noisy.jsonl", [{**row, "id": f"{i}"} for i, row in enumerate(NOISY * 40)])
    safe = write_jsonl(tmp_path / "safe.jsonl", SAFE)
    arguments = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), *QUICK, "--epochs", "3"]
    assert main([*arguments, "--output", str(tmp_path / "whole")]) == 0
    command = [*arguments, "--output", str(tmp_path / "run")]
    for after in ("reading", "into tokens", "loading the model", "learning the data", "scoring", "review"):
        status, said = interrupted([sys.executable, "-m", "forgetfilter", *command], number, after=after)
        assert status == 128 + number, said
        assert f"what is finished in {tmp_path / 'run'} is kept" in said[-1]
    assert main(command) == 0
    for name in ("kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "examples.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rows"] == len(NOISY) * 40
