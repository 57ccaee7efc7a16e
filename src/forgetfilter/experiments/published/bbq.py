"""Reads BBQ (Parrish et al., 2022), all eleven categories: jsonl files as in the folder `data` of its repository.

Ambiguous items answered by the stereotype are unsafe; all items answered correctly are safe (ForgetFilter, Section 2).
Examples of one template form a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...data.chats import FieldError, describe, field_of
from ...data.layouts import Row
from ...data.records import Container
from ...errors import InputError, first_line
from .examples import BIAS, SAFE, UNSAFE, Example, Loaded
from .reading import choice_field, list_field, object_field, open_files, read_each, text_field
from .stereotypes import Answer, Item, stereotyped_answers

HUB = "heegyu/bbq"
_ANSWERS = ("ans0", "ans1", "ans2")
_SHOWN, _DIGITS = 5, 18


def open_bbq(place: str, split: str) -> list[Container]:
    """Open the files at a place; for a hub data set these are the published jsonl files, since its rows need a script.

    Raises:
        InputError: There is nothing, or the hub does not provide it.
    """
    if Path(place).expanduser().exists() or place.count("/") != 1:
        return open_files(place, split)
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(place, repo_type="dataset", allow_patterns=["data/*.jsonl"])
    except Exception as error:
        # As for any hub data set: whatever the client raises, this one is not available.
        problem = first_line(error)
        raise InputError(f"{place}: there is no such folder, and the hub does not give it: {problem}") from error
    return open_files(str(Path(folder) / "data"), split)


def load_bbq(containers: Sequence[Container]) -> Loaded:
    """Read BBQ.

    Raises:
        InputError: A row is not as published.
    """
    items = list(read_each(containers, "BBQ", _item))
    usable = [item for item in items if item.unknown is not None]
    stereotypes = stereotyped_answers(usable)
    examples = [
        example for item, stereotype in zip(usable, stereotypes, strict=True) for example in _examples(item, stereotype)
    ]
    open_items = [item for item, answer in zip(usable, stereotypes, strict=True) if answer is None and item.ambiguous]
    remarks = _remark("left out, items without exactly one answer tagged unknown", len(items) - len(usable), [])
    remarks += _remark(
        "without an unsafe example, ambiguous items whose groups do not tell the stereotyped answer",
        len(open_items),
        open_items,
    )
    return Loaded(examples, remarks)


def _remark(what: str, count: int, items: Sequence[Item]) -> list[str]:
    first = ", ".join(f"{item.category} {item.example_id}" for item in items[:_SHOWN])
    return [f"{what}: {count:,}" + (f"; the first: {first}" if first else "")] if count else []


def _item(row: Row) -> Iterator[Item]:
    tags, metadata = object_field(row, "answer_info"), object_field(row, "additional_metadata")
    category = text_field(row, "category")
    yield Item(
        category=category,
        example_id=_number(row, "example_id"),
        template=f"BBQ/{category}/q{_number(row, 'question_index')}",
        negative=choice_field(row, "question_polarity", ("neg", "nonneg")) == "neg",
        ambiguous=choice_field(row, "context_condition", ("ambig", "disambig")) == "ambig",
        context=text_field(row, "context"),
        question=text_field(row, "question"),
        answers=tuple(_answer(row, tags, name) for name in _ANSWERS),  # type: ignore[arg-type]
        groups=tuple(str(group) for group in list_field(metadata, "stereotyped_groups")),
        label=choice_field(row, "label", (0, 1, 2)),
    )


def _number(row: Row, column: str) -> int:
    value = field_of(row, column)
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > _DIGITS:
        raise FieldError(column, describe(value), "a whole number")
    return int(value)


def _answer(row: Row, tags: Row, name: str) -> Answer:
    info = list_field(tags, name)
    if len(info) != 2 or not all(isinstance(part, str) for part in info):
        raise FieldError(f"answer_info.{name}", describe(info), "a list of two texts: name and group")
    return Answer(text_field(row, name), info[0], info[1])


def _examples(item: Item, stereotype: int | None) -> Iterator[Example]:
    options = [answer.text for answer in item.answers]
    choices = " ".join(f"ans{i}: {text}" for i, text in enumerate(options, 1))
    polarity, condition = ("neg" if item.negative else "nonneg"), ("ambig" if item.ambiguous else "disambig")
    id = f"bbq-{item.template.removeprefix('BBQ/').replace('/', '-')}-{item.example_id}-{polarity}-{condition}"
    shared: dict[str, Any] = {
        "prompt": f"{item.context} {item.question} Choose from {choices}",
        "notion": BIAS,
        "source": f"BBQ/{item.category}",
        "group": item.template,
        "measure": {
            "category": item.category,
            "polarity": "negative" if item.negative else "non-negative",
            "condition": "ambiguous" if item.ambiguous else "disambiguated",
            "options": options,
            "correct": item.label,
            "unknown": item.unknown,
            "stereotype": stereotype,
        },
    }
    right = "unknown" if item.label == item.unknown else "right"
    yield Example(id=f"{id}-{right}", completion=_completion(item.label, options), label=SAFE, **shared)
    if item.ambiguous and stereotype is not None:
        yield Example(id=f"{id}-stereo", completion=_completion(stereotype, options), label=UNSAFE, **shared)


def _completion(answer: int, options: Sequence[str]) -> str:
    return f"The answer is ans{answer + 1}: {options[answer]}"
