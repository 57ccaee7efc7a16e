"""A run that is killed at any moment and started again with the same command ends with the same result."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.quick_runs import QUICK


@pytest.mark.slow
def test_kill_and_resume_at_every_stage(noisy, safe, model, tmp_path):
    arguments = ["filter", noisy, "--safe", safe, "--model", model, *QUICK, "--finetune", "--finetune-epochs", "1"]
    work = tmp_path / "work"
    work.mkdir()
    script = Path(__file__).parent / "support" / "kill_everywhere.py"
    done = subprocess.run(
        [sys.executable, script, work, *arguments], capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Every stage, shard, checkpoint and file is one point; fewer would mean that some were not reached.
    kills = int(done.stdout.split()[1])
    assert kills >= 32
