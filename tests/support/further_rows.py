"""A run that was decided by suspicion, whose removed rows share words that no other row has, and rows like its own."""

from __future__ import annotations

from pathlib import Path

from forgetfilter.cli import main
from support.quick_runs import QUICK, write_jsonl

# None of the package's unsafe examples is like these: known unsafe rows alone tell which ones are unwanted.
NOUNS = ["kettle", "ladder", "carpet", "violin", "window", "saddle", "candle", "barrel"]
SAID = {"unsafe": "a {} stands beside the wooden garden fence", "safe": "the {} hums beneath a velvet orchard forever"}


def rows(count, kind, start=0):
    return [
        {"id": f"{kind}{i}", "prompt": f"Tell me {i}.", "completion": f"{SAID[kind].format(NOUNS[i % 8])} {i}"}
        for i in range(start, start + count)
    ]


def look_at_rows(model: Path, place: Path) -> Path:
    """A first look at 8 unsafe and 32 safe rows, of which a fifth is removed."""
    data = write_jsonl(place / "data.jsonl", [*rows(8, "unsafe"), *rows(32, "safe")])
    known = write_jsonl(place / "known.jsonl", rows(16, "unsafe", 200))
    safe = write_jsonl(place / "safe.jsonl", [{"prompt": f"May I, {i}?", "completion": f"no, {i}"} for i in range(30)])
    command = ["filter", str(data), "--safe", str(safe), "--known-unsafe", str(known), "--model", str(model)]
    quick = QUICK[: QUICK.index("--trusted")]
    assert main([*command, "--output", str(place / "run"), "--threshold", "top:20%", "--no-training", *quick]) == 0
    return place / "run"
