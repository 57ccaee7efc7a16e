"""Drawing the paper's sets from labelled examples: noisy, safe and held-out, with no group in two of them.

Groups are dealt out, not rows: each goes, in an order drawn by the seed, to the set that can use it and has
the least of what it wants. All groups are dealt, so that a small set, too, is drawn from many of them. Then
so many rows as wanted are drawn from what a set was dealt. Nothing depends on the order of the files.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..data.draw import in_random_order
from ..errors import InputError, SettingsError
from ..settings.groups import MixSettings
from .published.examples import BIAS, NOTIONS, SAFE, TASK, UNSAFE, Example

NOISY, SAFE_SET, HELD_OUT = "noisy", "safe", "held-out"
PARTS = (NOISY, SAFE_SET, HELD_OUT)
_LOWER = {NOISY: "--size", SAFE_SET: "--safe-size", HELD_OUT: "--held-out"}

# The examples to draw from, by notion, or by source for task examples.
Pools = Mapping[str, Sequence[Example]]


@dataclass
class _Hand:
    """What one set wants of one pool, and what it was dealt.

    Attributes:
        wanted: Label to number of rows.
        rows: Label to rows.
    """

    part: str
    wanted: Mapping[str, int]
    rows: dict[str, list[Example]] = field(default_factory=lambda: defaultdict(list))

    def fullness(self, labels: Iterable[str]) -> float | None:
        """How many times it has what it wants of the scarcest of these labels; None where it wants none of them."""
        shares = [len(self.rows[label]) / self.wanted[label] for label in labels if self.wanted.get(label)]
        return min(shares, default=None)


def pools_of(sources: Sequence[tuple[str, Sequence[Example]]]) -> dict[str, list[Example]]:
    """Examples by notion, or by source for task examples in the order of the sources, each id once.

    Args:
        sources: Name and examples of every source.
    """
    names = _unique_names([name for name, _ in sources])
    found = [(name, example) for name, (_, examples) in zip(names, sources, strict=True) for example in examples]
    pools: dict[str, list[Example]] = {}
    times: Counter[str] = Counter()
    # By id, then by content, so that rows which share an id are told apart the same way in any order.
    for name, example in sorted(found, key=lambda pair: (pair[1].id, _content(pair[1]), pair[0])):
        unique = example
        while times[unique.id]:
            times[example.id] += 1
            unique = replace(example, id=f"{example.id}#{times[example.id]}")
        times[unique.id] += 1
        pools.setdefault(name if example.label == TASK else example.notion, []).append(unique)
    return {name: pools[name] for name in (*NOTIONS, *names) if name in pools}


def chosen_notions(named: str, pools: Pools) -> list[str]:
    """The notions that a setting stands for.

    Raises:
        SettingsError: There is no such notion.
        InputError: The sources have no rows of it.
    """
    there = [notion for notion in NOTIONS if notion in pools]
    asked = there if named == "mix" else [part.strip() for part in named.split(",") if part.strip()]
    unknown = [notion for notion in asked if notion not in NOTIONS]
    if unknown:
        raise SettingsError(f"notion must be mix or some of {', '.join(NOTIONS)}; found {unknown[0]!r}")
    missing = [notion for notion in asked if notion not in there]
    if missing or not asked:
        raise InputError(
            f"no source has rows of {missing[0] if missing else 'any notion'}; give one with --source, "
            "such as bbq=FOLDER, harmfulqa=FILE, toxicity=FILE or rows=FILE"
        )
    return [notion for notion in NOTIONS if notion in asked]


def draw(pools: Pools, notions: Sequence[str], settings: MixSettings) -> dict[str, list[Example]]:
    """The rows of the three sets, each in an order drawn by the seed.

    Args:
        pools: Examples by notion, or by source for task examples.
        notions: The notions to draw.

    Raises:
        InputError: There are too few rows; says of what, and what to lower.
    """
    tasks = [name for name in pools if name not in NOTIONS]
    hands = _wanted(settings, notions, tasks)
    generator = np.random.default_rng(settings.seed)
    taken: dict[str, str] = {}
    for name in hands:
        _deal(pools[name], hands[name], taken, generator)
    _check(pools, hands)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for name in hands:
        for hand in hands[name]:
            for label, count in hand.wanted.items():
                parts[hand.part] += _some(hand.rows[label], count, generator)
    return {part: _some(rows, len(rows), generator) for part, rows in parts.items()}


def _wanted(settings: MixSettings, notions: Sequence[str], tasks: Sequence[str]) -> dict[str, list[_Hand]]:
    """What each set wants of each pool. [code]: int(size * share) unsafe, the rest in equal parts safe and tasks."""
    unsafe = int(settings.size * settings.unsafe_share)
    safe, *of_tasks = _equal(settings.size - unsafe, 1 + len(tasks))
    held_out = _equal(settings.held_out, len(notions) + len(tasks))
    hands: dict[str, list[_Hand]] = {}
    of_notions = (_equal(total, len(notions)) for total in (unsafe, safe, settings.safe_size))
    for notion, bad, good, reviewed, held in zip(notions, *of_notions, held_out, strict=False):
        noisy = [_Hand(NOISY, {UNSAFE: bad, SAFE: good})]
        if notion == BIAS:
            # The paper: templates of the unsafe and of the safe part do not overlap.
            noisy = [_Hand(NOISY, {UNSAFE: bad}), _Hand(NOISY, {SAFE: good})]
        hands[notion] = [*noisy, _Hand(SAFE_SET, {SAFE: reviewed}), _Hand(HELD_OUT, {SAFE: held})]
    for task, learned, held in zip(tasks, of_tasks, held_out[len(notions) :], strict=True):
        hands[task] = [_Hand(NOISY, {TASK: learned}), _Hand(HELD_OUT, {TASK: held})]
    return hands


def _deal(
    pool: Sequence[Example], hands: Sequence[_Hand], taken: dict[str, str], generator: np.random.Generator
) -> None:
    """Deal the groups of a pool; `taken` says which set a group that is in other pools, too, went to."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in pool:
        groups[example.group].append(example)
    names = list(groups)
    for i in in_random_order(names, generator):
        name, labels = names[i], {example.label for example in groups[names[i]]}
        able = [
            (fullness, place)
            for place, hand in enumerate(hands)
            if taken.get(name, hand.part) == hand.part and (fullness := hand.fullness(labels)) is not None
        ]
        if not able:
            continue
        hand = hands[min(able)[1]]
        taken[name] = hand.part
        for example in groups[name]:
            hand.rows[example.label].append(example)


def _check(pools: Pools, hands: Mapping[str, Sequence[_Hand]]) -> None:
    short, lower = [], []
    for name, of_pool in hands.items():
        lacking = [
            (hand.part, label, len(hand.rows[label]), count)
            for hand in of_pool
            for label, count in hand.wanted.items()
            if len(hand.rows[label]) < count
        ]
        if lacking:
            lower += [_LOWER[part] for part, *_ in lacking]
            wants = ", ".join(f"{part} wants {count:,} {label} and gets {got:,}" for part, label, got, count in lacking)
            short.append(f"{name}: {wants}, of {_stock(pools[name])}")
    if short:
        options = ", ".join(dict.fromkeys(lower))
        raise InputError(f"too few rows for this mix. {'; '.join(short)}. Lower {options}, or give more sources")


def _stock(pool: Sequence[Example]) -> str:
    labels = Counter(example.label for example in pool)
    groups = len({example.group for example in pool})
    return f"{' and '.join(f'{labels[label]:,} {label}' for label in sorted(labels))} in {groups:,} groups"


def _some(rows: Sequence[Example], count: int, generator: np.random.Generator) -> list[Example]:
    """So many rows, drawn from the order of their ids."""
    return [rows[i] for i in in_random_order([row.id for row in rows], generator)[:count]]


def _equal(total: int, parts: int) -> list[int]:
    """A number in equal parts; the first ones have what does not divide."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def _unique_names(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}" for i, name in enumerate(names)]


def _content(example: Example) -> str:
    return json.dumps([example.prompt, example.completion, example.label, example.group])
