"""Varies which part of the model is trained: last block, adapters of several ranks, everything (paper, Appendix B)."""

from __future__ import annotations

from typing import Any

from .context import StudyContext
from .study import Finding, Study
from .variations import Outcome, describe_extremes, mean_outcome, outcomes_finding

_PARTS: dict[str, dict[str, Any]] = {
    "LoRA rank 1": {"lora_targets": "all-linear", "lora_rank": 1, "lora_alpha": 2.0},
    "LoRA rank 8": {"lora_targets": "all-linear", "lora_rank": 8, "lora_alpha": 16.0},
    "LoRA rank 32": {"lora_targets": "all-linear", "lora_rank": 32, "lora_alpha": 64.0},
    "LoRA query and value (paper)": {"lora_targets": "query-value", "lora_rank": 8, "lora_alpha": 16.0},
    "LoRA last block": {"lora_targets": "last-block", "lora_rank": 8, "lora_alpha": 16.0},
    # Full fine-tuning needs a lower rate than LoRA; None lets the session choose it.
    "everything": {"full_finetuning": True, "learning_rate": None},
}


def _run(context: StudyContext) -> Finding:
    outcomes: dict[tuple[str, ...], Outcome] = {
        (name,): mean_outcome(context, context.draws, **changes) for name, changes in _PARTS.items()
    }
    positive = [condition[0] for condition, o in outcomes.items() if o.auroc.low > 0.5]
    summary = (
        f"{describe_extremes(outcomes)} Unsafe rows are forgotten more than others, with 95% confidence, with "
        f"{len(positive)} of {len(outcomes)}: {', '.join(positive) or 'none'}. The paper sees the same pattern "
        "whatever part is trained."
    )
    return outcomes_finding(outcomes, ("trained",), summary)


STUDY = Study(
    "partial",
    "What part of the model is trained (Figure 6, Appendix B)",
    "Does the pattern depend on which weights learn and review?",
    _run,
)
