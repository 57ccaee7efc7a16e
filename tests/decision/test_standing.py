"""The last decision stands, whole, wherever deciding again fails: at every file that is opened, moved or flushed."""

import errno
import json
import os
import shutil
import sys

import pytest

from forgetfilter.cli import main
from forgetfilter.runs.layout import BEFORE
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl

DECIDED = ["kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "planted.parquet", "report.html"]
DECIDED += ["overrides.json", "summary.json"]
MAKES = {"open", "os.mkdir", "os.link", "os.fsync"}
CHANGES = MAKES | {"os.rename", "os.remove", "os.rmdir"}


class Refusals:
    """Makes the system refuse a change to files: the n-th, or from the n-th on all that need room."""

    def __init__(self):
        self.folder, self.left, self.lasting, self.refused = "", 0, False, 0
        sys.addaudithook(self.hook)
        self._fsync = os.fsync

    def fsync(self, handle):
        self.hook("os.fsync", (self.folder,))
        self._fsync(handle)

    def hook(self, event, arguments):
        if not self.folder or event not in CHANGES or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.left -= 1
        if self.left == 0 or (self.lasting and self.left < 0 and event in MAKES):
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


@pytest.fixture(scope="module")
def refusals():
    return Refusals()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model):
    """A finished run, decided by a person too, so that every file of a decision is there."""
    place = tmp_path_factory.mktemp("finished")
    noisy, safe = write_jsonl(place / "noisy.jsonl", NOISY), write_jsonl(place / "safe.jsonl", SAFE)
    run = place / "run"
    assert main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *QUICK]) == 0
    (place / "person.json").write_text(json.dumps({"reviewer": "Ann", "decisions": {"n1": "removed"}}))
    assert main(["decide", str(run), "--overrides", str(place / "person.json")]) == 0
    return run


def read(run):
    return {name: (run / name).read_bytes() for name in DECIDED if (run / name).exists()}


@pytest.mark.parametrize(
    ("lasting", "every"),
    [
        pytest.param(False, 3, id="one refusal"),
        pytest.param(True, 3, id="a full disk"),
        pytest.param(False, 1, id="each single refusal", marks=pytest.mark.slow),
        pytest.param(True, 1, id="a disk that is full from each on", marks=pytest.mark.slow),
    ],
)
def test_the_last_decision_stands_whatever_is_refused(
    finished, refusals, lasting, every, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, "fsync", refusals.fsync)
    run, before, failed = tmp_path / "run", read(finished), 0
    assert set(before) == set(DECIDED)
    for place in range(1, 1000, every):
        shutil.copytree(finished, run)
        refusals.folder, refusals.left, refusals.lasting, refusals.refused = str(run), place, lasting, 0
        status = main(["decide", str(run), "--threshold", "top:50%"])
        refusals.folder = ""
        said = capsys.readouterr().err.splitlines()
        if status == 0:
            # The log is no part of the decision, links may be replaced by copies, and rubbish does no harm.
            assert json.loads((run / "summary.json").read_text())["threshold"] == "top:50%"
        else:
            assert status == 2
            assert "no space left" in said[-1]
            assert f"the last decision in {run} stands" in said[-1]
            if (run / BEFORE).exists():
                # What was refused was putting it back; whoever works in the folder next does it first.
                assert main(["decide", str(run), "--threshold", "nonsense"]) == 2
            assert read(run) == before, place
            failed += 1
        if not refusals.refused:
            break
        shutil.rmtree(run)
    assert failed > 30 / every
    # What failed before is done now.
    expected = read(run)
    shutil.rmtree(run)
    shutil.copytree(finished, run)
    assert main(["decide", str(run), "--threshold", "top:50%"]) == 0
    assert read(run) == expected
