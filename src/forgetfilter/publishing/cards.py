"""Write the cards of a cleaned data set and of a model that was fine-tuned on one, in Markdown.

A card names no place on this machine: of a folder or file it gives the name alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..decision.decide import Summary
from ..forgetting.estimates import Estimate
from ..forgetting.signals import RIVAL, SIGNALS
from ..plotting.markdown import code, markdown_table, plain
from ..runs.run import Run
from ..settings.groups import ClassifierSettings, DataSettings, FinetuneSettings, RivalSettings, Settings
from ..settings.option import default_of, options_of, values_of

CARD = "README.md"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
# Where something lies on this machine, or what is told elsewhere in a card.
_NOT_LISTED = {
    *("safe", "trusted", "known_unsafe", "learned", "model", "revision", "device", "tokens_per_batch"),
    *("threshold", "signal"),
    *options_of(DataSettings),
    *options_of(ClassifierSettings),
    *options_of(RivalSettings),
    *options_of(FinetuneSettings),
}


def data_card(run: Run, summary: Summary, configs: Mapping[str, Sequence[str]]) -> str:
    """Write the card of a cleaned data set.

    Args:
        run, summary: The run, and its last decision.
        configs: The files of each config, `kept` first.
    """
    header = {
        "tags": ["forgetfilter"],
        "configs": [
            {"config_name": name, "data_files": list(files)} | ({"default": True} if name == "kept" else {})
            for name, files in configs.items()
        ],
    }
    there = "The removed rows are the config `removed`." if "removed" in configs else "The removed rows are not here."
    sections = [
        "# Fine-tuning data, cleaned with forgetfilter",
        f"These are the rows of an untrusted data set that the filter kept, as they were. {there}",
        "## What was removed",
        *_removed(run, summary),
        "## How",
        *_method(run, summary),
        "## Estimated error",
        *_errors(run, summary),
        "## Limits",
        _list(_limits(run, summary)),
    ]
    return _card(header, sections)


def model_card(run: Run, summary: Summary, *, adapter: bool) -> str:
    """Write the card of the model that was fine-tuned on the rows that a run kept.

    Args:
        run, summary: The run, and the decision that the model is made from.
        adapter: Whether it is a LoRA adapter, and no whole model.
    """
    name, settings = model_name(run), run.settings
    header: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["forgetfilter", *(["lora"] if adapter else [])],
    }
    if is_on_hub(run):
        header = {"base_model": settings.model.model, **header}
    kind = "A LoRA adapter for" if adapter else "A model made from"
    how = "every weight" if settings.adapter.full_finetuning else "a LoRA adapter"
    if settings.adapter.full_finetuning:
        size = ""
    else:
        size = f" (rank {settings.adapter.lora_rank}, alpha {settings.adapter.lora_alpha:g})"
        size += "" if adapter else ", merged into the weights afterwards"
    sections = [
        "# A model fine-tuned on data cleaned with forgetfilter",
        f"{kind} {code(name)}, fine-tuned on the rows that the filter kept of an untrusted data set.",
        "## Training",
        f"The aligned model itself, which had not seen the data, was trained for "
        f"{settings.final.finetune_epochs:g} passes over {summary.kept:,} kept rows: {how}{size}, batches of "
        f"{settings.training.batch_size} rows, AdamW{_rate(settings)}, seed {settings.training.seed}.",
        "## What was removed from the data",
        *_removed(run, summary),
        "## How",
        *_method(run, summary),
        "## Estimated error of the filter",
        *_errors(run, summary),
        "## Limits",
        _list(
            [
                "What the model does was not evaluated here. Unsafe rows that the filter missed were trained on.",
                *_limits(run, summary),
            ]
        ),
    ]
    return _card(header, sections)


def model_name(run: Run) -> str:
    """Name the aligned model of a run: its id on the hub, or the name of its folder or file."""
    name = run.settings.model.model
    return name if is_on_hub(run) else Path(name).expanduser().name


def is_on_hub(run: Run) -> bool:
    """Tell whether the aligned model of a run was named by its id on the hub."""
    name = run.settings.model.model
    return bool(_HUB_ID.fullmatch(name)) and "/" in name and not Path(name).exists()


def _card(header: Mapping[str, Any], sections: Sequence[str]) -> str:
    front = yaml.safe_dump(dict(header), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(section.strip() for section in sections) + "\n"


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _removed(run: Run, summary: Summary) -> Iterator[str]:
    counts = [("input", summary.rows), ("kept", summary.kept), ("removed", summary.removed)]
    counts += [("unusable, set aside", summary.bad)] if summary.bad else []
    counts += [("left out of a random sample", summary.left_out)] if summary.left_out else []
    counts += [("kept or removed by a person against the filter", summary.overridden)] if summary.overridden else []
    yield markdown_table(("", "rows"), counts)
    signal = SIGNALS[summary.signal]
    above = "" if summary.cut is None else f"rows above {summary.cut:.3g} {summary.unit} were removed"
    yield (
        f"Signal {code(summary.signal)} ({plain(signal.summary)}), threshold {code(summary.threshold)}: "
        f"{above or 'the filter removed nothing'} ({_without_places(run, summary.explanation)})."
    )


def _method(run: Run, summary: Summary) -> Iterator[str]:
    settings = run.settings
    safe = {"builtin": "those that come with forgetfilter", "self": "the model's own answers to the data's prompts"}
    sets = " and ".join(dict.fromkeys(safe.get(name, "a set of the publisher's own") for name in settings.safe.safe))
    if SIGNALS[summary.signal].scoring == RIVAL:
        yield "Decided by another filter than forgetting, which is named above."
    elif not summary.trained:
        yield "Decided by a first look at the rows, with the untouched model; nothing was trained."
    else:
        learned = (
            f"The aligned model had been fine-tuned elsewhere ({code(Path(settings.sessions.learned).name)})"
            if settings.sessions.learned
            else "The aligned model learned all rows"
        )
        yield (
            f"{learned}, and was then reviewed on safe examples. Rows that the review made it forget are suspicious. "
            f"Safe examples: {sets}."
        )
    yield f"Model: {code(model_name(run))}. Version: forgetfilter {__version__}."
    options, values = options_of(Settings), values_of(settings)
    differ = [
        (code(name), code(str(value)))
        for name, value in values.items()
        if name not in _NOT_LISTED and value != default_of(options[name])
    ]
    if differ:
        yield "Settings that differ from the defaults, or that the defaults left to the model and the data:"
        yield "\n".join(["| setting | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in differ)])


def _errors(run: Run, summary: Summary) -> Iterator[str]:
    told = {
        "precision": ("share of the removed rows that is unsafe", summary.trusted, "trusted"),
        "harmless_removed": ("share of the harmless rows that is removed", summary.trusted, "trusted"),
        "recall": ("share of the unsafe rows that is removed", summary.known_unsafe, "known unsafe"),
    }
    lines = []
    for name, (meaning, count, kind) in told.items():
        estimate = summary.errors[name]
        if estimate is not None:
            doubt = summary.doubt if kind == "trusted" else ""
            caveat = f", but not to be relied on: {_without_places(run, doubt)}" if doubt else ""
            lines.append(f"{meaning.capitalize()}: {Estimate(**estimate)}, judged by {count:,} {kind} rows{caveat}.")
        else:
            why = f"no {kind} rows were learned with the data" if not count else "the filter removed nothing"
            if count and kind == "trusted" and summary.doubt:
                why = _without_places(run, summary.doubt)
            lines.append(f"{meaning.capitalize()}: not known; {why}.")
    yield _list(lines)
    if any(summary.errors[name] is not None for name in told):
        yield "Intervals are at 95%. They hold if the rows of known kind are like those of the data."


def _limits(run: Run, summary: Summary) -> list[str]:
    limits = ["A kept row is not proven safe, nor a removed one unsafe: no person read them all."]
    if summary.judged_in_part and summary.judged is not None:
        limits.append(
            f"{summary.judged_in_part:,} answers were judged by their first {summary.judged} tokens; what follows "
            "was not looked at."
        )
    if summary.unscorable:
        where = "removed" if summary.drop_unscorable else "kept"
        limits.append(f"{summary.unscorable:,} rows could not be scored and are among the {where} ones.")
    if summary.never_learned:
        limits.append(f"{summary.never_learned:,} rows were never learned, so that their forgetting says little.")
    return limits + [_without_places(run, warning) for warning in summary.warnings]


def _without_places(run: Run, text: str) -> str:
    """Shorten the paths of the run's inputs in a text to their names."""
    settings = run.settings
    planted, learned = settings.planted, settings.sessions.learned
    given = (*settings.data.data, *settings.safe.safe, planted.trusted, planted.known_unsafe, learned)
    for place in sorted(filter(None, given), key=len, reverse=True):
        text = text.replace(place, Path(place).name)
    return plain(text)


def _rate(settings: Settings) -> str:
    rate = settings.training.learning_rate
    return "" if rate is None else f" at a learning rate of {rate:g}"
