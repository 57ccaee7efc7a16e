"""Rehearsing a run: what it will need is told, and nothing stays."""

import tempfile

import pytest

from forgetfilter.progress import Effort, Plan, Step
from forgetfilter.rehearsal import Needs
from support.quick_runs import run


def test_a_rehearsal_tells_every_step_and_leaves_nothing(command, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = sorted(tmp_path.iterdir())
    without_output = [word for i, word in enumerate(command) if "--output" not in command[max(0, i - 1) : i + 1]]
    assert run(without_output, "--dry-run", "--finetune", "--safe", "self") == 0
    shown = capsys.readouterr()
    steps = [line.split("  ")[0] for line in shown.out.splitlines()[1 : shown.out.splitlines().index("")]]
    assert steps == [
        "the model answers prompts of the data",
        "learning the data",
        "scoring rows after learning",
        "safety review",
        "scoring rows after the review",
        "safety review with the safe-2 rows",
        "scoring rows after the review with the safe-2 rows",
        "asking the model for examples",
        "fine-tuning on the kept rows",
        "all of it",
    ]
    assert "nothing was written" in shown.out
    assert sorted(tmp_path.iterdir()) == before
    assert list(folder.iterdir()) == []


def test_what_would_stop_the_run_stops_the_rehearsal(command, noisy, capsys):
    noisy.write_text("[1]\n")
    assert run(command, "--dry-run") == 2
    assert capsys.readouterr().err.count("forgetfilter: ") == 1


@pytest.mark.parametrize(
    ("accelerator", "said"), [(None, "memory: 2.0 GB, as"), (3_000_000_000, "memory: 2.0 GB, 3.0 GB of the GPU's, as")]
)
def test_time_is_a_range_by_kind_of_work(accelerator, said):
    steps = {
        "learned": Step("learning", Effort(training=1000), Effort(training=250)),
        "scored": Step("scoring", Effort(preparing=100, scoring=100)),
        "short": Step("short", Effort(training=15), Effort(training=1)),
    }
    rates = {"training": 6.0, "scoring": 60.0, "preparing": 0.0, "writing": 0.0}
    told = Needs(Plan(steps), rates, 2_000_000_000, accelerator, 5_000_000, 1).table()
    # 25 to 100 min and 100 min, with a quarter of doubt.
    assert "learning   about 20 min to 2.1 h" in told
    assert "scoring    about 80 min to 2.1 h" in told
    assert "all of it  about 1.7 to 4.2 h" in told
    assert "short      up to 2 min" in told
    assert said in told
    assert "disk: 5 MB while it runs, 1 MB afterwards" in told
