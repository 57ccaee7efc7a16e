"""A few rows to filter, the options with which that takes a second, and what such a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from forgetfilter.cli import main

NOISY = [
    {"id": f"n{i}", "prompt": f"Question number {i}?", "completion": text, "label": label, "extra": [i, None]}
    for i, (text, label) in enumerate(
        [("Yes, do it now.", "unsafe"), ("No, I would rather not.", "safe"), ("Forty-two.", "task")] * 4
    )
]
SAFE = [{"prompt": f"May I do {i}?", "completion": "No, please do not."} for i in range(6)]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# Small enough to take a second, long enough to have several steps of everything. Forgetting alone decides, of which
# tests can tell what it should be; all evidence together has tests of its own (test_suspicion.py).
QUICK = ["--device", "cpu", "--epochs", "1", "--review-steps", "2", "--batch-size", "4", "--tokens-per-batch", "128"]
QUICK += ["--dtype", "float32", "--trusted", "none", "--set-aside", "0", "--signal", "likelihood"]


def reviewing(command: list[str], *safe: str | Path) -> list[str]:
    """The same command with other safe sets."""
    place = command.index("--safe")
    named = [word for name in safe for word in ("--safe", str(name))]
    return [*command[:place], *command[place + 2 :], *named]


def run(command, *more):
    return main([*command, *more])


def scores(folder):
    return pq.read_table(folder / "scores.parquet").to_pydict()
