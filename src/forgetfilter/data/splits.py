"""Choose which rows of a data set with splits are read, by the rules of `datasets`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import datasets

ALL, DEFAULT = "all", "train"
_NAME = re.compile(r"\w+(\.\w+)*")
_SHOWN = 10


@dataclass(frozen=True)
class Chosen:
    """The chosen rows of a data set that has splits.

    Attributes:
        splits: The rows of each split that is read, in the order in which they were named.
        together: Whether they are written back as a DatasetDict.
        not_read: What is not read, a line each.
    """

    splits: dict[str, datasets.Dataset]
    together: bool
    not_read: tuple[str, ...]


def choose_splits(splits: Mapping[str, datasets.Dataset], named: str, name: str) -> Chosen:
    """Choose splits, as `--split` asks for them: `test`, `train+test`, `train[:10%]`, or `all`.

    Args:
        splits: All splits, by name.
        named: Which to read.
        name: What to call the data set in messages.

    Raises:
        InputError: There is no such split or slice, or a name of a split that cannot be a folder.
    """
    from datasets import ReadInstruction

    there = ", ".join(splits)
    odd = [split for split in splits if not _NAME.fullmatch(split)]
    if odd or not splits:
        raise InputError(f"{name}: {f'the split {odd[0]!r} is not a valid name' if odd else 'has no splits'}")
    if named == ALL:
        return Chosen(dict(splits), True, ())
    try:
        instruction = ReadInstruction.from_spec(named)
        parts = instruction.to_absolute({split: len(rows) for split, rows in splits.items()})
    except (ValueError, AssertionError) as error:
        missing = re.fullmatch(r'Unknown split "(.*?)"\..*', str(error), re.DOTALL)
        problem = (
            f"has no split '{missing[1]}'; it has {there}; choose with --split {next(iter(splits))} (of safe examples: "
            "--safe-split)"
            if missing
            else f"cannot read the split '{named}': {error}"
        )
        raise InputError(f"{name}: {' '.join(problem.split())}") from error
    ranges: dict[str, list[range]] = defaultdict(list)
    for part in parts:
        ranges[part.splitname].append(range(part.from_, part.to))
    chosen = {split: _select(splits[split], of) for split, of in ranges.items()}
    return Chosen(chosen, len(chosen) > 1, tuple(_left(splits, ranges, name)))


def _select(rows: datasets.Dataset, ranges: list[range]) -> datasets.Dataset:
    if ranges == [range(len(rows))]:
        return rows
    return rows.select([place for of in ranges for place in of])


def _left(splits: Mapping[str, datasets.Dataset], ranges: Mapping[str, list[range]], name: str) -> list[str]:
    """Say what is not read, a line each."""
    lines = []
    for split, of in ranges.items():
        read = np.zeros(len(splits[split]), dtype=bool)
        for one in of:
            read[one.start : one.stop] = True
        if not read.all():
            lines.append(
                f"{name}: {int((~read).sum()):,} of the {len(read):,} rows of the split '{split}' are not read"
            )
    others = [
        f"{split} ({len(rows):,} row{'s' * (len(rows) != 1)})" for split, rows in splits.items() if split not in ranges
    ]
    if others:
        more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
        lines.append(
            f"{name}: not read are the splits {', '.join(others[:_SHOWN])}{more}; "
            f"to read them: --split {ALL}, or --split {'+'.join([*ranges, others[0].split(' ')[0]])}"
        )
    return lines
