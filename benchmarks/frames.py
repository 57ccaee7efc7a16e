"""Show which frames `--own-words auto` finds in real data, and compare it with an expression.

    python benchmarks/frames.py --data ../shared/data/normalised --framed bbq_official 'ans\\d: (.*)'

Each data set of the folder is searched by itself: how many answers are taken out of a frame, and which frames. Then
the framed one is mixed with all others at several shares, and what is left of each answer is compared with what the
expression leaves.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from forgetfilter.console import printable
from forgetfilter.data.chats import Chat
from forgetfilter.data.frame_search import ANSWERS_SEEN
from forgetfilter.data.own_words import AUTO, FrameCounts, OwnWords

_SHARES, _ROWS = (0.03, 0.06, 0.1, 0.33, 0.5, 0.8), (200, 1000, 5000)


def read(path: Path) -> list[Chat]:
    """Read the rows of one data set."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Chat.of(row["prompt"], row["completion"]) for row in rows]


def with_frames_of(rows: Sequence[Chat]) -> OwnWords:
    """Find the frames that the filter would find in these rows."""
    words = OwnWords(AUTO)
    words.look_at(random.Random(0).sample(rows, min(ANSWERS_SEEN, len(rows))))
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of jsonl files with prompt and completion")
    parser.add_argument("--framed", nargs=2, metavar=("NAME", "EXPRESSION"), required=True)
    options = parser.parse_args()
    sets = {path.stem: read(path) for path in sorted(options.data.glob("*.jsonl"))}
    print("| data set | rows | seconds | taken out of a frame |\n|---|---|---|---|")
    for name, rows in sets.items():
        began = time.perf_counter()
        words = with_frames_of(rows)
        seconds = time.perf_counter() - began
        counts: FrameCounts = Counter()
        for row in rows:
            words.of(row, counts)
        print(f"| {name} | {len(rows):,} | {seconds:.2f} | {printable(words.describe(counts) or 'none')} |")
    name, expression = options.framed
    others = [row for other, rows in sets.items() if other != name for row in rows]
    print("\n| framed rows | of rows | left otherwise than by the expression |\n|---|---|---|")
    for count in _ROWS:
        for share in _SHARES:
            draw = random.Random(0)
            framed = round(share * count)
            rows = draw.sample(sets[name], framed) + draw.sample(others, count - framed)
            by_looking, by_expression = with_frames_of(rows), OwnWords(expression)
            different = sum(by_looking.of(row) != by_expression.of(row) for row in rows)
            print(f"| {framed:,} | {count:,} | {different:,} |")


if __name__ == "__main__":
    main()
