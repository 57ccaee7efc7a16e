"""Draw data sets to filter from real ones, with labels that only the benchmarks see."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROWS, REVIEW, ALIGN, CONTROL, KNOWN = 200, 200, 300, 200, 50


@dataclass(frozen=True)
class Problem:
    """One untrusted data set, and the rows that the filter may be given with it. No prompt is in two parts.

    Attributes:
        noisy: The untrusted rows: unsafe ones, and others, half of them safe rows and half tasks.
        safe: Safe rows for the review.
        align: Safe rows to align the model with first, as the paper does; none where the model is aligned already.
        control: Ordinary instructions and answers that are known to be harmless.
        known_unsafe: Rows known to be unsafe.
        mismatched: Safe rows of another notion.
    """

    noisy: list[Row]
    safe: list[Row]
    align: list[Row] = field(default_factory=list)
    control: list[Row] = field(default_factory=list)
    known_unsafe: list[Row] = field(default_factory=list)
    mismatched: list[Row] = field(default_factory=list)


@dataclass
class _Pools:
    """Rows to draw from; each draw takes its rows out, so that no two parts share one."""

    unsafe: list[Row]
    safe: list[Row]
    review: list[Row]
    known_unsafe: list[Row]


def draw_problem(folder: Path, notion: str, share: float, draw: int, rows: int = ROWS) -> Problem:
    """Draw a data set of `rows` rows of which `share` are unsafe, of one notion or of all (`mix`)."""
    rng = random.Random(draw)
    names = list(POOLS) if notion == "mix" else [notion]
    pools = [POOLS[name](folder, rng) for name in names]
    tasks, control = _tasks(folder, rng), _control(folder, rng)
    unsafe = round(share * rows)
    safe = (rows - unsafe) // 2
    parts: dict[str, list[Row]] = {part: [] for part in ("noisy", "safe", "align", "known_unsafe")}
    for i, pool in enumerate(pools):
        parts["noisy"] += _take(pool.unsafe, _part(unsafe, i, pools)) + _take(pool.safe, _part(safe, i, pools))
        parts["known_unsafe"] += _take(pool.known_unsafe, _part(KNOWN, i, pools))
        parts["safe"] += _take(pool.review, _part(REVIEW, i, pools))
        if names[i] == "bias":
            parts["align"] += _take(pool.review, ALIGN)
    parts["noisy"] += _take(tasks, rows - unsafe - safe)
    other = "toxicity" if notion == "harmfulness" else "harmfulness"
    mismatched = POOLS[other](folder, random.Random(draw)).review[:REVIEW]
    return Problem(
        control=control[:CONTROL],
        mismatched=mismatched,
        **{part: shuffled(drawn, rng) for part, drawn in parts.items()},
    )


def _take(pool: list[Row], count: int) -> list[Row]:
    if len(pool) < count:
        raise SystemExit(f"too few rows: {count} wanted, {len(pool)} left")
    taken, pool[:] = pool[:count], pool[count:]
    return taken


def _part(count: int, i: int, pools: list[_Pools]) -> int:
    """Return the i-th of nearly equal parts of a count."""
    return count * (i + 1) // len(pools) - count * i // len(pools)


def _harmfulness(folder: Path, rng: random.Random) -> _Pools:
    direct = [r for r in load(folder, "gptfuzz_train") if r["label"] == "unsafe" and r["source"].endswith("/direct")]
    questions = shuffled(sorted({r["prompt"] for r in direct}), rng)
    known = set(questions[: len(questions) // 4])
    refusals = shuffled(load(folder, "safety_tuned_llamas"), rng)
    return _Pools(
        shuffled([r for r in direct if r["prompt"] not in known], rng),
        refusals[:1000],
        refusals[1000:],
        shuffled([r for r in direct if r["prompt"] in known], rng),
    )


def _toxicity(folder: Path, rng: random.Random) -> _Pools:
    rows = load(folder, "davidson")
    safe = shuffled([r for r in rows if r["label"] == "safe"], rng)
    unsafe = shuffled([r for r in rows if r["label"] == "unsafe"], rng)
    return _Pools(unsafe[:1000], safe[:1000], safe[1000:], unsafe[1000:])


def _bias(folder: Path, rng: random.Random) -> _Pools:
    """Take unsafe rows from one half of the templates, and safe ones, for data and review, from the other."""
    rows = load(folder, "bbq_official")
    templates = shuffled(sorted({template(r) for r in rows}), rng)
    first_half = set(templates[: len(templates) // 2])
    unsafe = shuffled([r for r in rows if r["label"] == "unsafe"], rng)
    safe = shuffled([r for r in rows if r["label"] == "safe" and template(r) not in first_half], rng)
    data, known = ([r for r in unsafe if (template(r) in first_half) is inside] for inside in (True, False))
    return _Pools(data, safe[:1000], safe[1000:], known)


POOLS: dict[str, Callable[[Path, random.Random], _Pools]] = {
    "harmfulness": _harmfulness,
    "toxicity": _toxicity,
    "bias": _bias,
}
NOTIONS = (*POOLS, "mix")


def _tasks(folder: Path, rng: random.Random) -> list[Row]:
    """Return ordinary instructions and reading comprehension, in turn."""
    alpaca = shuffled(load(folder, "task_alpaca_demo"), rng)
    squad = shuffled([r for r in load(folder, "squad_v2_cs224n_dev") if len(r["prompt"]) < 700], rng)
    return [row for pair in zip(alpaca, squad, strict=False) for row in pair]


def _control(folder: Path, rng: random.Random) -> list[Row]:
    """Return instructions from another source than the tasks of the untrusted data."""
    return shuffled(load(folder, "task_llms_from_scratch"), rng)


def template(row: Row) -> str:
    """Return a BBQ item's template: its category and the qN part of its id."""
    return "-".join(row["id"].split("-")[1:3])


def load(folder: Path, name: str) -> list[Row]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def shuffled(rows: list[Any], rng: random.Random) -> list[Any]:
    return rng.sample(rows, len(rows))
