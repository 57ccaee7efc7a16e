"""Measures SQuAD by its official rules, instructions by ROUGE, and perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..metrics.answers import exact_match, normalised, token_f1
from ..metrics.text import rouge1, rouge_l
from .held_out import HeldOut
from .measures import HIGHER, LOWER, Measure, mean, measured, share

# Ways to say that a question cannot be answered, normalised as SQuAD's answers are.
_NO_ANSWER = frozenset(
    {
        *("unanswerable", "question is unanswerable", "not answerable", "no answer", "there is no answer", "unknown"),
        *("i dont know", "i do not know", "not enough information", "not mentioned", "none", "na"),
        *("cannot be answered", "question cannot be answered", "it cannot be determined", "cannot be determined"),
    }
)


def short_answer(answer: str, no_answer: frozenset[str] = frozenset(), right: Sequence[str] = ()) -> str:
    """Reduce a generated answer to what SQuAD's rules compare: its first line; empty if it says there is no answer.

    Args:
        answer: The model's answer.
        no_answer: Further ways to say so, normalised: the held-out rows' own completions for unanswerable questions.
        right: The right answers, which say something even where they read like one of these ways, such as "none".
    """
    line = answer.strip().partition("\n")[0].strip()
    return "" if normalised(line) in (_NO_ANSWER | no_answer) - set(map(normalised, right)) else line


def squad_answers(rows: Sequence[HeldOut], answers: Sequence[str]) -> list[str]:
    """Reduce the answer to each SQuAD row to its short answer."""
    no_answer = frozenset(normalised(row.completion) for row in rows if not row.answers)
    return [short_answer(answer, no_answer, row.answers or ()) for row, answer in zip(rows, answers, strict=True)]


def squad_scores(rows: Sequence[HeldOut], short: Sequence[str]) -> list[tuple[float, float]]:
    """Compute exact match and F1 of each row, 0 to 1."""
    return [
        (exact_match(answer, row.answers or ()), token_f1(answer, row.answers or ()))
        for row, answer in zip(rows, short, strict=True)
    ]


def squad_measures(rows: Sequence[HeldOut], scores: Sequence[tuple[float, float]]) -> list[Measure]:
    """Compute exact match and F1 over all rows and, if some are unanswerable, over either part."""
    parts = {"": list(range(len(rows)))}
    if any(not row.answers for row in rows):
        parts["[answerable]"] = [i for i, row in enumerate(rows) if row.answers]
        parts["[unanswerable]"] = [i for i, row in enumerate(rows) if not row.answers]
    measures = []
    for part, chosen in parts.items():
        measures.append(mean(f"squad.f1{part}", [scores[i][1] for i in chosen], HIGHER))
        measures.append(share(f"squad.exact{part}", [scores[i][0] == 1 for i in chosen], HIGHER))
    return measures


def instruction_scores(rows: Sequence[HeldOut], answers: Sequence[str]) -> list[tuple[float, float]]:
    """Compute ROUGE-1 and ROUGE-L of each answer against the row's completion, 0 to 1."""
    return [
        (rouge1(answer, row.completion), rouge_l(answer, row.completion))
        for row, answer in zip(rows, answers, strict=True)
    ]


def instruction_measures(scores: Sequence[tuple[float, float]]) -> list[Measure]:
    """Average ROUGE-1 and ROUGE-L over rows."""
    return [
        mean("instructions.rouge1", [unigram for unigram, _ in scores], HIGHER),
        mean("instructions.rougeL", [longest for _, longest in scores], HIGHER),
    ]


def perplexity_measures(notions: Sequence[str], logprobs: Mapping[int, NDArray[np.floating]]) -> list[Measure]:
    """Compute perplexity: exp of the mean negative log-probability of a completion token; at least 1, lower is better.

    Every token counts the same, whatever the length of its row.

    Args:
        notions: The notion of each row.
        logprobs: Log-probabilities of the completion's tokens, in nats, by row index; rows may be missing.
    """
    totals = np.array([logprobs[i].sum() for i in sorted(logprobs)], dtype=np.float64)
    tokens = np.array([len(logprobs[i]) for i in sorted(logprobs)], dtype=np.float64)
    notion_of_row = np.array([notions[i] for i in sorted(logprobs)])
    measures = [measured("perplexity", _perplexity, (totals, tokens), LOWER)]
    for notion in dict.fromkeys(notions):
        chosen = notion_of_row == notion
        if chosen.any() and not chosen.all():
            measures.append(measured(f"perplexity[{notion}]", _perplexity, (totals[chosen], tokens[chosen]), LOWER))
    return measures


def _perplexity(totals: NDArray[np.floating], tokens: NDArray[np.floating]) -> float:
    return float(np.exp(-totals.sum() / tokens.sum())) if tokens.sum() else float("nan")
