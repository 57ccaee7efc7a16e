"""Read how much was forgotten along the review, from rows that were scored after some of its steps."""

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

# Groups that a reader can tell apart in one figure.
MOST_GROUPS = 6


@dataclass(frozen=True)
class ReviewCurve:
    """Forgetting of some rows along the review.

    Attributes:
        steps: Optimizer steps of the review after which the rows were scored, from 0, shape (k,).
        rows: Positions of the rows in the input, in ascending order, shape (n,).
        forgetting: Forgetting of each row after each of these steps, shape (n, k), in nats per token: the plain mean
            over its tokens, whatever the run's signal.
    """

    steps: NDArray[np.intp]
    rows: NDArray[np.int64]
    forgetting: NDArray[np.floating]

    def means(self, groups: Sequence[str]) -> dict[str, tuple[int, NDArray[np.floating], NDArray[np.floating]]]:
        """Return each group's count, means and half widths of 95% intervals (k,); the most forgotten group first.

        Args:
            groups: The group of each row, shape (n,).
        """
        members: dict[str, list[int]] = defaultdict(list)
        for i, group in enumerate(groups):
            members[group].append(i)
        means = {group: (len(rows), *mean_interval(self.forgetting[rows])) for group, rows in members.items()}
        return dict(sorted(means.items(), key=lambda item: -float(item[1][1][-1])))


def read_curve(run: Run) -> ReviewCurve | None:
    """Read the curve of a run's review, the first of several; None where it is unfinished or no rows were scored.

    Where rows are scored by likelihood, the scores under M1 and M2 are the ends of the curve.
    """
    if not run.has(FORGETTING):
        return None
    points, last = run.points(REVIEWED), len(run.history(REVIEWED))
    rows = np.array(points.get("rows", []), dtype=np.int64)
    logprobs = {int(step): np.array(values) for step, values in points.get("mean_logprob", {}).items()}
    stage = by_review(run.settings.safe).get(FORGETTING, FORGETTING)
    path, columns = run.folder(stage) / table_of(DATA), columns_of(LIKELIHOOD_MEAN)[:2]
    if set(columns) <= set(pq.read_schema(path).names):
        scores = pq.read_table(path, columns=["row", *columns])
        at = np.searchsorted(scores.column("row").to_numpy(), rows)
        logprobs |= {step: scores.column(name).to_numpy()[at] for step, name in zip((0, last), columns, strict=True)}
    if not len(rows) or 0 not in logprobs:
        return None
    order = np.argsort(rows, kind="stable")
    steps = sorted(logprobs)
    forgetting = np.stack([logprobs[0] - logprobs[step] for step in steps], axis=1)
    return ReviewCurve(np.array(steps, dtype=np.intp), rows[order], forgetting[order])
