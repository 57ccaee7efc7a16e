"""Gather what the removed rows are about, for the page: a few groups, their telling words, and near-copies."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..classifiers.toxicity import WORDS, toxicity_classifier
from ..data.rows import Rows
from ..metrics.text import words
from .grouping import find_near_copies, group_by_words

# Rows in groups. Beside those above the cut there are as many below it, or at least these, for a lower threshold.
_MEMBERS, _BELOW = 5000, 200
# Where nothing is above the cut this share of the rows, or at least these, stand for the removed ones.
_SHARE, _LEAST = 0.05, 20
# Characters of a prompt, and of an answer, that a row is grouped by.
_READ = 2000
# A word of this share of the package's safe demonstrations, which are about anything, is an everyday word.
_EVERYDAY = 0.05


def choose_members(suspicion: NDArray[np.floating], cut: float | None) -> NDArray[np.intp]:
    """Choose the places of the rows to group, the largest values first: those above the cut and the next ones below."""
    scored = int((~np.isnan(suspicion)).sum())
    above = _above(suspicion, cut) or max(_LEAST, int(_SHARE * scored))
    count = min(_MEMBERS, max(2 * above, above + _BELOW), scored)
    return np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")[:count]


def _above(suspicion: NDArray[np.floating], cut: float | None) -> int:
    return 0 if cut is None else int((suspicion > cut).sum())


def gather_topics(rows: Rows, members: pa.Table, cut: float | None) -> dict[str, Any]:
    """Group rows by what they are about. The order of the input makes no difference.

    Args:
        rows: The data.
        members: The rows to group, with the columns `id`, `row` and `suspicion`.
        cut: The rows above it determine the groups, which the others join; where there are none, the first half does.

    Returns:
        `telling`: for every group its telling words, and whether each is on the list of offensive words; and for every
        row, those with the largest values first, `ids`, `suspicion`, `of`: its group, and `copies`: the place of the
        row that it nearly repeats, or its own.
    """
    members = members.select(["id", "row", "suspicion"]).sort_by([("suspicion", "descending"), ("id", "ascending")])
    suspicion, positions = members.column("suspicion").to_numpy(), members.column("row").to_pylist()
    text_of = {row: f"{chat.prompt[:_READ]}\n{chat.completion[:_READ]}" for row, chat in rows.at(positions)}
    texts = [text_of[position] for position in positions]
    copies = find_near_copies(texts)
    grouping = group_by_words(texts, _above(suspicion, cut) or -(-len(texts) // 2), _everyday_words())
    listed = toxicity_classifier(WORDS)
    return {
        "telling": [
            [
                {"word": word, "listed": bool(score > 0)}
                for word, score in zip(telling, listed.scores(telling), strict=True)
            ]
            for telling in grouping.telling
        ],
        "ids": members.column("id").to_pylist(),
        "suspicion": suspicion.tolist(),
        "of": grouping.of[copies].tolist(),
        "copies": copies.tolist(),
    }


@cache
def _everyday_words() -> frozenset[str]:
    """Return the stemmed words that are frequent in any English text."""
    lines = (files("forgetfilter.builtin") / "safe.jsonl").read_text(encoding="utf-8").splitlines()
    texts = (" ".join(message["content"] for message in json.loads(line)["messages"]) for line in lines)
    counts = Counter(word for text in texts for word in set(words(text)))
    return frozenset(word for word, count in counts.items() if count >= _EVERYDAY * len(lines))
