"""A step for pipelines of datatrove: it drops documents that are like those that a run removed.

    from datatrove.executor import LocalPipelineExecutor
    from forgetfilter.integrations.datatrove import ForgetFilterStep

    LocalPipelineExecutor([reader, ForgetFilterStep("run", exclusion_writer=removed), writer], tasks=8).run()

It runs in every executor of datatrove (local, Slurm, Ray). A worker needs the run folder, and with states its model.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from ..applying.scorer import COLUMN, RowScorer

REASON = "forgetfilter_reason"
# What datatrove counts dropped documents under; a sentence for each would be a count for each.
_DROPPED = "suspicious"


class ForgetFilterStep(BaseFilter):  # type: ignore[misc]
    """Keeps documents at or below a run's cut, and writes the others with the reason; nothing is trained.

    Each document gets its suspicion as `forgetfilter_suspicion` in its metadata, a dropped one also a sentence as
    `forgetfilter_reason`. A document without any words has the suspicion NaN and is kept.

    Args:
        run: The folder of a run that was decided by suspicion.
        evidence, threshold, device: As `RowScorer.load` takes them.
        exclusion_writer: Writes the documents that are dropped.
        batch_size: How many documents are scored together.

    Raises:
        ForgetFilterError: The run cannot be applied, or a setting is not what it can be.
    """

    name = "forgetfilter"

    def __init__(
        self,
        run: str | os.PathLike[str],
        evidence: str = "words",
        *,
        threshold: str | float = "auto",
        device: str | None = None,
        exclusion_writer: DiskWriter | None = None,
        batch_size: int = 1000,
    ) -> None:
        super().__init__(exclusion_writer, batch_size)
        # What is wrong with the run shows here, before any worker starts; the rule is fitted here, too.
        self.agreement = RowScorer.load(run, evidence, threshold=threshold).agreement
        folder = Path(run).absolute()
        self._load = partial(RowScorer.load, folder, evidence, threshold=threshold, device=device)
        self._scorer: RowScorer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_scorer": None}

    @property
    def scorer(self) -> RowScorer:
        """Load the scorer, once in each worker."""
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Tell whether a document is kept."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """Tell of each document whether it is kept."""
        scored = self.scorer.score_texts(document.text for document in batch)
        results: list[bool | tuple[bool, str]] = []
        for document, suspicion, words in zip(batch, scored.suspicion.tolist(), scored.words, strict=True):
            # Always a number, so that writers of tables find one type; NaN where there is no suspicion.
            document.metadata[COLUMN] = suspicion
            kept = self.scorer.keeps(suspicion)
            if not kept:
                document.metadata[REASON] = self.scorer.reason(suspicion, words)
            results.append(kept or (False, _DROPPED))
        return results
