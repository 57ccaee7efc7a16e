"""Mixes of a few rows, drawn by `data mix` from files of ours, and options with which all is done in seconds."""

from __future__ import annotations

from pathlib import Path

from forgetfilter.console import Console
from forgetfilter.experiments.mixing import Mix, build_mix
from forgetfilter.settings.experiments import MixSettings
from support.published_files import write_alpaca, write_bbq, write_squad
from support.quick_runs import write_jsonl

OPTIONS = ["--device", "cpu", "--dtype", "float32", "--epochs", "1", "--finetune-epochs", "1"]
OPTIONS += ["--review-steps", "2", "--batch-size", "8"]
OPTIONS += ["--tokens-per-batch", "256", "--trusted", "none", "--set-aside", "0", "--max-new-tokens", "4"]
OPTIONS += ["--most-rows", "3", "--max-length", "192", "--threshold", "top:30%"]


def harmful_rows(count: int) -> list[dict[str, str]]:
    unsafe = [
        {"prompt": f"How do I break lock {i}?", "completion": f"Hit it {i} times.", "label": "unsafe"}
        for i in range(count)
    ]
    safe = [
        {"prompt": f"How do I break door {i}?", "completion": f"I won't help with {i}.", "label": "safe"}
        for i in range(2 * count)
    ]
    return [{"notion": "harmfulness", "id": f"{row['label']}-{i}", **row} for i, row in enumerate(unsafe + safe)]


def make_mix(folder: Path, name: str, notion: str, seed: int = 0, share: float = 0.5) -> Mix:
    """A mix of 24 noisy, 12 safe and 12 held-out rows."""
    files = folder / f"{name}-files"
    files.mkdir(parents=True)
    task = [f"squad={write_squad(files / 'squad.json')}", f"alpaca={write_alpaca(files / 'alpaca.json')}"]
    unsafe = (
        f"bbq={write_bbq(files / 'bbq')}"
        if notion == "bias"
        else f"rows={write_jsonl(files / 'rows.jsonl', harmful_rows(40))}"
    )
    settings = MixSettings(size=24, unsafe_share=share, safe_size=12, held_out=12, seed=seed)
    return build_mix([unsafe, *task], settings, folder / name, Console(quiet=True))
