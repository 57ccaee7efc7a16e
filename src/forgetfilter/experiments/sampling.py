"""Draws the paper's sets from labelled examples: noisy, safe and held-out, with no group in two of them.

Whole groups are assigned, not rows: in an order drawn by the seed, each goes to the set that can use it and is furthest
from its quota. All groups are assigned, so that even a small set is drawn from many of them. Then each set draws the
rows that it needs from its groups. Nothing depends on the order of the files.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..data.draw import in_random_order
from ..errors import InputError, SettingsError
from ..settings.experiments import MixSettings
from .published.examples import BIAS, NOTIONS, SAFE, TASK, UNSAFE, Example

NOISY, SAFE_SET, HELD_OUT = "noisy", "safe", "held-out"
PARTS = (NOISY, SAFE_SET, HELD_OUT)
_LOWER = {NOISY: "--size", SAFE_SET: "--safe-size", HELD_OUT: "--held-out"}

# The examples to draw from, by notion or, for task examples, by source.
Pools = Mapping[str, Sequence[Example]]


@dataclass
class _Quota:
    """The rows that one set needs from one pool, and those that it was assigned.

    Attributes:
        part: The set.
        wanted: The number of rows needed, by label.
        rows: The rows assigned, by label.
    """

    part: str
    wanted: Mapping[str, int]
    rows: dict[str, list[Example]] = field(default_factory=lambda: defaultdict(list))

    def fullness(self, labels: Iterable[str]) -> float | None:
        """Compute how full the quota is: assigned over wanted for the scarcest label; None if it wants none of them."""
        shares = [len(self.rows[label]) / self.wanted[label] for label in labels if self.wanted.get(label)]
        return min(shares, default=None)


def pools_of(sources: Sequence[tuple[str, Sequence[Example]]]) -> dict[str, list[Example]]:
    """Group examples by notion or, for task examples, by source, and make their ids unique.

    Args:
        sources: The name and the examples of every source; pools of task examples follow their order.
    """
    names = _unique_names([name for name, _ in sources])
    named = [(name, example) for name, (_, examples) in zip(names, sources, strict=True) for example in examples]
    pools: dict[str, list[Example]] = {}
    times: Counter[str] = Counter()
    # By id, then by content, so that rows that share an id get the same suffixes in any order.
    for name, example in sorted(named, key=lambda pair: (pair[1].id, _content(pair[1]), pair[0])):
        unique = example
        while times[unique.id]:
            times[example.id] += 1
            unique = replace(example, id=f"{example.id}#{times[example.id]}")
        times[unique.id] += 1
        pools.setdefault(name if example.label == TASK else example.notion, []).append(unique)
    return {name: pools[name] for name in (*NOTIONS, *names) if name in pools}


def chosen_notions(named: str, pools: Pools) -> list[str]:
    """List the notions that a setting stands for.

    Raises:
        SettingsError: The setting names an unknown notion.
        InputError: The sources have no rows of a notion.
    """
    available = [notion for notion in NOTIONS if notion in pools]
    chosen = available if named == "mix" else [part.strip() for part in named.split(",") if part.strip()]
    unknown = [notion for notion in chosen if notion not in NOTIONS]
    if unknown:
        raise SettingsError(f"notion must be mix or some of {', '.join(NOTIONS)}; found {unknown[0]!r}")
    missing = [notion for notion in chosen if notion not in available]
    if missing or not chosen:
        raise InputError(
            f"no source has rows of {missing[0] if missing else 'any notion'}; give one with --source, "
            "such as bbq=FOLDER, harmfulqa=FILE, toxicity=FILE or rows=FILE"
        )
    return [notion for notion in NOTIONS if notion in chosen]


def draw(pools: Pools, notions: Sequence[str], settings: MixSettings) -> dict[str, list[Example]]:
    """Draw the rows of the three sets, each in an order drawn by the seed.

    Args:
        pools: Examples by notion or, for task examples, by source.
        notions: The notions to draw.
        settings: The sizes and the seed.

    Raises:
        InputError: There are too few rows; the message says of what, and what to lower.
    """
    tasks = [name for name in pools if name not in NOTIONS]
    quotas = _quotas(settings, notions, tasks)
    generator = np.random.default_rng(settings.seed)
    taken: dict[str, str] = {}
    for name in quotas:
        _assign_groups(pools[name], quotas[name], taken, generator)
    _check(pools, quotas)
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for name in quotas:
        for quota in quotas[name]:
            for label, count in quota.wanted.items():
                parts[quota.part] += _draw_rows(quota.rows[label], count, generator)
    return {part: _draw_rows(rows, len(rows), generator) for part, rows in parts.items()}


def _quotas(settings: MixSettings, notions: Sequence[str], tasks: Sequence[str]) -> dict[str, list[_Quota]]:
    """Compute the quotas by pool. As in the paper's code: int(size * share) unsafe, the rest in equal parts."""
    unsafe = int(settings.size * settings.unsafe_share)
    safe, *task_sizes = _equal_parts(settings.size - unsafe, 1 + len(tasks))
    held_out = _equal_parts(settings.held_out, len(notions) + len(tasks))
    quotas: dict[str, list[_Quota]] = {}
    shares = (_equal_parts(total, len(notions)) for total in (unsafe, safe, settings.safe_size))
    for notion, bad, good, reviewed, held in zip(notions, *shares, held_out, strict=False):
        noisy = [_Quota(NOISY, {UNSAFE: bad, SAFE: good})]
        if notion == BIAS:
            # The paper: templates of the unsafe and of the safe part do not overlap.
            noisy = [_Quota(NOISY, {UNSAFE: bad}), _Quota(NOISY, {SAFE: good})]
        quotas[notion] = [*noisy, _Quota(SAFE_SET, {SAFE: reviewed}), _Quota(HELD_OUT, {SAFE: held})]
    for task, learned, held in zip(tasks, task_sizes, held_out[len(notions) :], strict=True):
        quotas[task] = [_Quota(NOISY, {TASK: learned}), _Quota(HELD_OUT, {TASK: held})]
    return quotas


def _assign_groups(
    pool: Sequence[Example], quotas: Sequence[_Quota], taken: dict[str, str], generator: np.random.Generator
) -> None:
    """Assign the groups of a pool to quotas; `taken` records the set of each group, as other pools may have it too."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in pool:
        groups[example.group].append(example)
    names = list(groups)
    for i in in_random_order(names, generator):
        name, labels = names[i], {example.label for example in groups[names[i]]}
        able = [
            (fullness, index)
            for index, quota in enumerate(quotas)
            if taken.get(name, quota.part) == quota.part and (fullness := quota.fullness(labels)) is not None
        ]
        if not able:
            continue
        quota = quotas[min(able)[1]]
        taken[name] = quota.part
        for example in groups[name]:
            quota.rows[example.label].append(example)


def _check(pools: Pools, quotas: Mapping[str, Sequence[_Quota]]) -> None:
    short, lower = [], []
    for name, quotas_of_pool in quotas.items():
        lacking = [
            (quota.part, label, len(quota.rows[label]), count)
            for quota in quotas_of_pool
            for label, count in quota.wanted.items()
            if len(quota.rows[label]) < count
        ]
        if lacking:
            lower += [_LOWER[part] for part, *_ in lacking]
            wants = ", ".join(f"{part} wants {count:,} {label} and gets {got:,}" for part, label, got, count in lacking)
            short.append(f"{name}: {wants}, of {_pool_size(pools[name])}")
    if short:
        options = ", ".join(dict.fromkeys(lower))
        raise InputError(f"too few rows for this mix. {'; '.join(short)}. Lower {options}, or give more sources")


def _pool_size(pool: Sequence[Example]) -> str:
    labels = Counter(example.label for example in pool)
    groups = len({example.group for example in pool})
    return f"{' and '.join(f'{labels[label]:,} {label}' for label in sorted(labels))} in {groups:,} groups"


def _draw_rows(rows: Sequence[Example], count: int, generator: np.random.Generator) -> list[Example]:
    """Draw this many rows, from the order of their ids."""
    return [rows[i] for i in in_random_order([row.id for row in rows], generator)[:count]]


def _equal_parts(total: int, parts: int) -> list[int]:
    """Split a number into equal parts; the first ones take the remainder."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def _unique_names(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}" for i, name in enumerate(names)]


def _content(example: Example) -> str:
    return json.dumps([example.prompt, example.completion, example.label, example.group])
