"""Rate text by what tells unsafe text by itself: a judge, a classifier, a word list."""

from __future__ import annotations

import numpy as np

from ..classifiers.judge import judge as judged
from ..classifiers.judge import load_judge
from ..classifiers.toxicity import WORDS, toxicity_classifier
from ..models.stage_runner import BASE
from .context import Desk, FloatArray
from .texts import texts


def judge(desk: Desk) -> FloatArray:
    """Estimate P(unsafe) of the completion as answer to its prompt, 0 to 1, by `--judge` or else by M0."""
    bench = desk.bench
    name = bench.settings.classifiers.judge
    if name:
        other = load_judge(name, bench.settings.model)
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
        bench.settings.passes.tokens_per_batch and 2 * bench.settings.passes.tokens_per_batch,
    )


def toxicity(desk: Desk) -> FloatArray:
    """Rate the toxicity of the completion, 0 to 1, by `--toxicity-classifier`."""
    return _rate(desk, desk.bench.settings.classifiers.toxicity_classifier)


def listed_words(desk: Desk) -> FloatArray:
    """Rate the toxicity of the completion by the built-in word list, 0 to 1."""
    return _rate(desk, WORDS)


def _rate(desk: Desk, classifier: str) -> FloatArray:
    completions = [completion for _, completion in texts(desk)]
    return np.asarray(toxicity_classifier(classifier, desk.bench.settings.model.device).scores(completions))
