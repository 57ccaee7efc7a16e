"""Rate text by what tells unsafe text by itself: a judge, a classifier, a word list."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..classifiers.judge import judge as judged
from ..classifiers.judge import judge_by_guard, load_guard, load_judge
from ..classifiers.toxicity import WORDS, toxicity_classifier
from ..errors import SettingsError, first_line
from ..models.stage_runner import BASE
from ..settings.groups import RivalSettings, Settings
from .context import FloatArray, Opinion, RivalContext
from .texts import texts


def judge(context: RivalContext) -> FloatArray:
    """Estimate P(unsafe) of the completion as answer to its prompt, 0 to 1, by `--judge` or else by M0."""
    runner = context.runner
    name = runner.settings.classifiers.judge
    if name:
        other = load_judge(name, runner.settings.model)
        model, tokenizer, family = other.model, other.tokenizer, other.family
    else:
        runner.bring(BASE)
        model, tokenizer, family = runner.model, runner.encoder.tokenizer, None
    pairs = list(texts(context))
    return judged(
        model,
        tokenizer,
        pairs,
        context.own_folder("verdicts"),
        lambda count: runner.console.progress("judging", count, "verdicts"),
        runner.settings.passes.tokens_per_batch and 2 * runner.settings.passes.tokens_per_batch,
        family,
    )


def guard(context: RivalContext) -> Opinion:
    """Estimate P(unsafe) of the completion as answer to its prompt, 0 to 1, by `--guard`, with categories."""
    settings = context.runner.settings
    judgement = judge_by_guard(
        load_guard(settings.rivals.guard, settings.model),
        list(texts(context)),
        context.own_folder("verdicts"),
        lambda count: context.runner.console.progress("asking the guard model", count, "verdicts"),
        settings.passes.tokens_per_batch and 2 * settings.passes.tokens_per_batch,
        _policy(settings.rivals),
    )
    return Opinion(judgement.unsafe, judgement.categories)


def guard_told_by(settings: Settings) -> str:
    """Tell which guard model `--guard` names, and the policy that it is to judge by.

    Raises:
        SettingsError: It names none, or the policy cannot be read.
    """
    named = settings.rivals.guard
    if not named:
        raise SettingsError("guard: the rival guard needs a guard model; name one with --guard MODEL")
    policy = _policy(settings.rivals)
    return f"{named}\n{policy}" if policy else named


def _policy(settings: RivalSettings) -> str:
    if not settings.guard_policy:
        return ""
    try:
        policy = Path(settings.guard_policy).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"guard_policy: {settings.guard_policy} cannot be read: {first_line(error)}") from error
    if not policy:
        raise SettingsError(f"guard_policy: {settings.guard_policy} is empty")
    return policy


def toxicity(context: RivalContext) -> FloatArray:
    """Rate the toxicity of the completion, 0 to 1, by `--toxicity-classifier`."""
    return _rate(context, context.runner.settings.classifiers.toxicity_classifier)


def listed_words(context: RivalContext) -> FloatArray:
    """Rate the toxicity of the completion by the built-in word list, 0 to 1."""
    return _rate(context, WORDS)


def _rate(context: RivalContext, classifier: str) -> FloatArray:
    completions = [completion for _, completion in texts(context)]
    return np.asarray(toxicity_classifier(classifier, context.runner.settings.model.device).scores(completions))
