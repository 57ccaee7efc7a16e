"""How much was forgotten along the review, on average over some rows that were looked at on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..decision.suspicion import by_review
from ..forgetting.measuring import columns_of
from ..forgetting.signals import LIKELIHOOD_MEAN
from ..metrics.intervals import mean_interval
from ..runs.layout import DATA, FORGETTING, REVIEWED, table_of
from ..runs.run import Run

# Groups of the looked-at rows that can be told apart in one picture.
MOST_GROUPS = 6


@dataclass(frozen=True)
class ReviewCurve:
    """Forgetting of some rows along the review.

    Attributes:
        steps: Optimizer steps of the review after which they were looked at, from 0, shape (k,).
        rows: Positions of the rows in the input, in rising order, shape (n,).
        forgetting: How much less likely each row's completion had become, shape (n, k), in nats per token: the
            plain mean over its tokens, whatever the run's signal.
    """

    steps: NDArray[np.intp]
    rows: NDArray[np.int64]
    forgetting: NDArray[np.floating]

    def means(self, groups: Sequence[str]) -> dict[str, tuple[int, NDArray[np.floating], NDArray[np.floating]]]:
        """Of each group of rows, the most forgotten first: how many, their means, half their 95% intervals (k,).

        Args:
            groups: The group of each row, shape (n,).
        """
        members: dict[str, list[int]] = defaultdict(list)
        for i, group in enumerate(groups):
            members[group].append(i)
        found = {group: (len(of), *mean_interval(self.forgetting[of])) for group, of in members.items()}
        return dict(sorted(found.items(), key=lambda item: -float(item[1][1][-1])))


def read_curve(run: Run) -> ReviewCurve | None:
    """The curve of a run whose review is over, of several the first; None where nothing was looked at.

    Where rows are scored by likelihood, the ends of the curve are the scores under M1 and M2.
    """
    if not run.has(FORGETTING):
        return None
    watched, last = run.points(REVIEWED), len(run.history(REVIEWED))
    rows = np.array(watched.get("rows", []), dtype=np.int64)
    looks = {int(step): np.array(values) for step, values in watched.get("mean_logprob", {}).items()}
    stage = by_review(run.settings).get(FORGETTING, FORGETTING)
    path, columns = run.folder(stage) / table_of(DATA), columns_of(LIKELIHOOD_MEAN)[:2]
    if set(columns) <= set(pq.read_schema(path).names):
        scores = pq.read_table(path, columns=["row", *columns])
        at = np.searchsorted(scores.column("row").to_numpy(), rows)
        looks |= {step: scores.column(name).to_numpy()[at] for step, name in zip((0, last), columns, strict=True)}
    if not len(rows) or 0 not in looks:
        return None
    order = np.argsort(rows, kind="stable")
    steps = sorted(looks)
    forgetting = np.stack([looks[0] - looks[step] for step in steps], axis=1)
    return ReviewCurve(np.array(steps, dtype=np.intp), rows[order], forgetting[order])
