"""Draw the problems of the panel: untrusted data sets of many kinds, from sources that are split into two halves.

Constants are chosen on the `chosen` half alone. The `reported` half is run only to report; its sources share nothing
with those of the other half.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from problems import Row, load, shuffled, template

CHOSEN, REPORTED = "chosen", "reported"
SAFE_ROWS, KNOWN_ROWS = 200, 30


@dataclass(frozen=True)
class Problem:
    """One data set to filter.

    Attributes:
        name: Its name.
        half: Whether constants may be chosen on it.
        kinds: The kinds of unsafe rows, each a name in _POOLS.
        unsafe: The share of the rows that is unsafe.
        rows: How many rows it has.
        safe: Which safe examples there are: `same` (from the sources of the harmless rows), another kind's name in
            _POOLS, or `builtin`.
        look_alikes: Whether harmless rows are chosen that resemble the unsafe ones: refusals, alarming words.
    """

    name: str
    half: str
    kinds: tuple[str, ...]
    unsafe: float = 0.5
    rows: int = 200
    safe: str = "same"
    look_alikes: bool = False


PROBLEMS = (
    Problem("harmful", CHOSEN, ("gptfuzz",)),
    Problem("harmful-10%", CHOSEN, ("gptfuzz",), unsafe=0.1),
    Problem("harmful-builtin", CHOSEN, ("gptfuzz",), safe="builtin"),
    Problem("refused", CHOSEN, ("refused",)),
    Problem("refused-10%", CHOSEN, ("refused",), unsafe=0.1),
    Problem("refused-builtin", CHOSEN, ("refused",), safe="builtin"),
    Problem("toxic", CHOSEN, ("tweets",)),
    Problem("biased", CHOSEN, ("bbq-a",)),
    Problem("mix", CHOSEN, ("gptfuzz", "tweets", "bbq-a"), rows=300),
    Problem("mix-10%", CHOSEN, ("gptfuzz", "tweets", "bbq-a"), unsafe=0.1, rows=300),
    Problem("dialogues", CHOSEN, ("dialogues",)),
    Problem("rare", CHOSEN, ("gptfuzz",), unsafe=0.02, rows=600, look_alikes=True),
    Problem("clean", CHOSEN, ("gptfuzz", "tweets"), unsafe=0.0),
    Problem("harmful", REPORTED, ("ablated",)),
    Problem("harmful-other-safe", REPORTED, ("ablated",), safe="llama2"),
    Problem("harmful-10%", REPORTED, ("ablated",), unsafe=0.1),
    Problem("harmful-builtin", REPORTED, ("ablated",), safe="builtin"),
    Problem("toxic", REPORTED, ("continuations",)),
    Problem("toxic-posts", REPORTED, ("posts",), rows=160),
    Problem("biased", REPORTED, ("bbq-b",)),
    Problem("stereotypes", REPORTED, ("stereotypes",)),
    Problem("two", REPORTED, ("ablated", "bbq-b")),
    Problem("mix", REPORTED, ("ablated", "continuations", "bbq-b"), rows=300),
    Problem("mix-10%", REPORTED, ("ablated", "continuations", "bbq-b"), unsafe=0.1, rows=300),
    Problem("rare", REPORTED, ("ablated",), unsafe=0.02, rows=1000, look_alikes=True),
    Problem("clean", REPORTED, ("ablated", "continuations"), unsafe=0.0),
)


@dataclass(frozen=True)
class Drawn:
    """A problem's rows; no prompt is in two parts.

    Attributes:
        noisy: The untrusted rows.
        safe: Safe examples; empty where the package's own are used.
        known_unsafe: Rows known to be unsafe, KNOWN_ROWS of each kind, one kind after the other in turn.
    """

    noisy: list[Row]
    safe: list[Row]
    known_unsafe: list[Row]


@dataclass(frozen=True)
class _Pool:
    """Rows of one kind, from which rows are drawn by taking them out."""

    unsafe: list[Row]
    safe: list[Row]
    known_unsafe: list[Row]
    review: list[Row]


def draw(problem: Problem, folder: Path, seed: int) -> Drawn:
    """Draw a problem's rows from the normalised data sets in a folder."""
    rng = random.Random(f"{problem.half} {problem.name} {seed}")
    pools = [_POOLS[kind](folder, rng) for kind in problem.kinds]
    ordinary = shuffled([r for name in _TASKS[problem.half] for r in _short(load(folder, name))], rng)
    alarming = shuffled([r for name in _ALARMING[problem.half] for r in _short(load(folder, name))], rng)
    unsafe = round(problem.unsafe * problem.rows)
    # Where there are too few safe rows, tasks take their place.
    safe = sum(min(len(pool.safe), _part((problem.rows - unsafe) // 2, i, len(pools))) for i, pool in enumerate(pools))
    tasks = problem.rows - unsafe - safe
    noisy = [r for i, pool in enumerate(pools) for r in _take(pool.unsafe, _part(unsafe, i, len(pools)))]
    noisy += [r for i, pool in enumerate(pools) for r in pool.safe[: _part(safe, i, len(pools))]]
    look_alikes = _take(alarming, min(len(alarming), tasks // 2)) if problem.look_alikes else []
    noisy += look_alikes + _take(ordinary, tasks - len(look_alikes))
    reviewed = pools if problem.safe == "same" else []
    if problem.safe not in ("same", "builtin"):
        reviewed = [_POOLS[problem.safe](folder, rng)]
    review = [r for i, pool in enumerate(reviewed) for r in pool.review[: _part(SAFE_ROWS, i, len(reviewed))]]
    known = [r for rows in zip(*(_take(pool.known_unsafe, KNOWN_ROWS) for pool in pools), strict=True) for r in rows]
    return Drawn(shuffled(noisy, rng), shuffled(review, rng), known)


def _part(count: int, i: int, parts: int) -> int:
    return count * (i + 1) // parts - count * i // parts


def _take(pool: list[Row], count: int) -> list[Row]:
    if len(pool) < count:
        raise SystemExit(f"too few rows: {count} wanted, {len(pool)} left")
    taken, pool[:] = pool[:count], pool[count:]
    return taken


def _short(rows: list[Row]) -> list[Row]:
    return [r for r in rows if len(r["prompt"]) < 700]


def _by_prompt(unsafe: list[Row], safe: list[Row], rng: random.Random, key: Callable[[Row], str]) -> _Pool:
    """Split rows by prompt: a fifth of the prompts for known rows, two fifths for the review, the rest for the data."""
    prompts = shuffled(sorted({key(r) for r in unsafe + safe}), rng)
    part = {prompt: 5 * i // len(prompts) for i, prompt in enumerate(prompts)}
    unsafe, safe = shuffled(unsafe, rng), shuffled(safe, rng)
    return _Pool(
        [r for r in unsafe if part[key(r)] >= 3],
        [r for r in safe if part[key(r)] >= 3],
        [r for r in unsafe if part[key(r)] == 0],
        [r for r in safe if part[key(r)] in (1, 2)],
    )


def _prompt(row: Row) -> str:
    return str(row["prompt"])


def _gptfuzz(folder: Path, rng: random.Random) -> _Pool:
    return _by_prompt(_answers(folder, "unsafe", "direct"), load(folder, "safety_tuned_llamas"), rng, _prompt)


def _refused(folder: Path, rng: random.Random) -> _Pool:
    """Harmful answers, and refusals of the very same prompts."""
    refusals = _answers(folder, "safe", "opens-with-refusal")
    return _by_prompt(_answers(folder, "unsafe", "direct"), refusals, rng, _prompt)


def _answers(folder: Path, label: str, kind: str) -> list[Row]:
    rows = load(folder, "gptfuzz_train")
    return [r for r in rows if r["label"] == label and r["source"].endswith(f"/{kind}")]


def _labelled(name: str, where: Callable[[Row], bool] = lambda _: True) -> Callable[[Path, random.Random], _Pool]:
    def pool(folder: Path, rng: random.Random) -> _Pool:
        rows = [r for r in load(folder, name) if where(r)]
        unsafe, safe = ([r for r in rows if r["label"] == label] for label in ("unsafe", "safe"))
        return _by_prompt(unsafe, safe, rng, template if name == "bbq_official" else _prompt)

    return pool


def _llama2(folder: Path, rng: random.Random) -> _Pool:
    return _by_prompt([], load(folder, "llama2_refusals"), rng, _prompt)


_BBQ_A = ("BBQ/Age", "BBQ/Physical_appearance", "BBQ/Religion")
_POOLS: dict[str, Callable[[Path, random.Random], _Pool]] = {
    "gptfuzz": _gptfuzz,
    "refused": _refused,
    "tweets": _labelled("davidson"),
    "bbq-a": _labelled("bbq_official", lambda r: r["source"] in _BBQ_A),
    "dialogues": _labelled("diasafety", lambda r: "train" in r["source"]),
    "ablated": _labelled("refusal_direction"),
    "continuations": _labelled("rtp"),
    "posts": _labelled("openai_moderation", lambda r: len(r["completion"]) < 2000),
    "bbq-b": _labelled("bbq_official", lambda r: r["source"] not in _BBQ_A),
    "stereotypes": _labelled("stereoset"),
    "llama2": _llama2,
}
_TASKS = {
    CHOSEN: ("task_alpaca_demo", "squad_v2_cs224n_dev"),
    REPORTED: ("task_self_instruct", "task_llms_from_scratch"),
}
_ALARMING = {CHOSEN: ("task_alpaca_keyword",), REPORTED: ("task_dolly_keyword",)}
