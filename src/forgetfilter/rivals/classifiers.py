"""Rivals that tell unsafe text by themselves: a judge, a classifier, a word list."""

from __future__ import annotations

import numpy as np

from ..classifiers.judge import judge as judged
from ..classifiers.judge import load_judge
from ..classifiers.toxicity import WORDS, toxicity_classifier
from ..models.stage_runner import BASE
from .context import Desk, FloatArray
from .texts import texts


def judge(desk: Desk) -> FloatArray:
    """P(unsafe) of the completion as answer to its prompt, by `--judge` or else by the aligned model M0, 0 to 1."""
    bench = desk.bench
    name = bench.settings.judge
    if name:
        other = load_judge(name, bench.settings)
        session, tokenizer = other.session, other.tokenizer
    else:
        bench.bring(BASE)
        session, tokenizer = bench.session, bench.encoder.tokenizer
    pairs = list(texts(desk))
    return judged(
        session,
        tokenizer,
        pairs,
        desk.own_folder("verdicts"),
        lambda count: bench.console.progress("judging", count, "verdicts"),
        bench.settings.tokens_per_batch and 2 * bench.settings.tokens_per_batch,
    )


def toxicity(desk: Desk) -> FloatArray:
    """Toxicity of the completion, 0 to 1, by `--toxicity-classifier`."""
    return _told(desk, desk.bench.settings.toxicity_classifier)


def listed_words(desk: Desk) -> FloatArray:
    """Toxicity of the completion by the word list that comes along, 0 to 1."""
    return _told(desk, WORDS)


def _told(desk: Desk, classifier: str) -> FloatArray:
    completions = [completion for _, completion in texts(desk)]
    return np.asarray(toxicity_classifier(classifier, desk.bench.settings.device).scores(completions))
