"""What each piece of speed code gains in the whole filter: with it and without it, in turn.

    python benchmarks/pieces.py --data ../shared/data/normalised --rounds 3
    python benchmarks/pieces.py --data ../shared/data/normalised --rounds 3 --dtype bfloat16 --only lanes,blocks

Each turn filters the same rows in a process of its own, with one piece left out; in each round every piece is left out
once, and nothing once. Sessions have fixed lengths, so that all turns do the same work, and no examples are asked for.
Quoted is how many times as long the filter takes without the piece, as a ratio of medians, of its wall clock and of its
processor time (which other programs disturb less, but which cannot show what running side by side gains).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from problems import load, shuffled
from results import Table, add_json

SOURCES = ("bbq_official", "task_alpaca_demo", "squad_v2_cs224n_dev")
MODELS = "forgetfilter.models"
# Functions that install a piece, each by its module, and do nothing where the piece is left out.
INSTALLED = {
    "attention": ("forward_path.use_own_attention",),
    "blocks": ("forward_path.use_fast_blocks",),
    "blocks and lora": ("forward_path.use_fast_blocks", "forward_path.fuse_lora"),
}
# Attributes that say whether a scorer makes use of a piece.
USED = {"shared prefix": "shares", "activation cache": "skips", "head by parts": "by_parts"}
LANES, NOTHING = "lanes", "nothing"
PIECES = (NOTHING, *INSTALLED, *USED, LANES)


def leave_out(piece: str) -> None:
    """Take a piece out of the package, for the rest of this process."""
    for place in INSTALLED.get(piece, ()):
        module, function = place.split(".")
        setattr(import_module(f"{MODELS}.{module}"), function, _nothing)
    if piece in USED:
        scorer = import_module(f"{MODELS}.forward").CompletionScorer
        set_up = scorer.__init__

        def changed(self: Any, *values: Any, **named: Any) -> None:
            set_up(self, *values, **named)
            setattr(self, USED[piece], False)

        scorer.__init__ = changed
    if piece == LANES:
        import_module(f"{MODELS}.cpu.threads").Lanes.__init__.__defaults__ = (1, 1)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand in for what installs a piece."""


def turn(piece: str, options: argparse.Namespace) -> None:
    """Filter the rows without a piece, and print the seconds of it by both clocks."""
    from forgetfilter import ForgetFilter

    # What the filter imports is not timed.
    import_module(f"{MODELS}.stage_runner")
    leave_out(piece)
    each = options.rows // len(SOURCES)
    rng = random.Random(0)
    rows = [row for source in SOURCES for row in shuffled(load(options.data, source), rng)[:each]]
    safe = shuffled(load(options.data, "safety_tuned_llamas"), rng)[: options.safe]
    settings: dict[str, Any] = {"epochs": 3, "review_steps": 10, "threshold": "top:10%", "examples": 0}
    with TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        tool = ForgetFilter(model=options.model, device="cpu", dtype=options.dtype, **settings)
        tool.run(rows, safe, output=Path(folder) / "run")
        print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 3")
    parser.add_argument("--safe", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PIECES), help="pieces to leave out, with commas between")
    parser.add_argument("--turn", choices=PIECES, help=argparse.SUPPRESS)
    add_json(parser)
    options = parser.parse_args()
    if options.turn:
        turn(options.turn, options)
        return
    pieces = [NOTHING, *(name for name in options.only.split(",") if name != NOTHING)]
    if unknown := [name for name in pieces if name not in PIECES]:
        raise SystemExit(f"there is no piece {unknown[0]!r}; there are {', '.join(PIECES)}")
    taken: dict[str, list[list[float]]] = {name: [] for name in pieces}
    for _ in range(options.rounds):
        for name in pieces:
            told = subprocess.run([sys.executable, *sys.argv, "--turn", name], check=True, capture_output=True).stdout
            taken[name].append(json.loads(told.splitlines()[-1]))
            print(f"  without {name}: {taken[name][-1][0]:.1f} s, {taken[name][-1][1]:.1f} s", flush=True)
    wall, processor = ({name: median(t[clock] for t in turns) for name, turns in taken.items()} for clock in (0, 1))
    table = Table("left out", "seconds (lowest–highest)", "times as long", "processor time")
    for name, turns in taken.items():
        spread = f"{wall[name]:.1f} ({min(t[0] for t in turns):.1f}–{max(t[0] for t in turns):.1f})"
        table.add(name, spread, f"{wall[name] / wall[NOTHING]:.2f}", f"{processor[name] / processor[NOTHING]:.2f}")
    table.keep(options.json, f"The whole filter with one piece of speed code left out, in {options.dtype}")


if __name__ == "__main__":
    main()
