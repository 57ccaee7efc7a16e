"""Describe how families of guard models are asked, and find the family of a model.

Everything that is particular to a family is data: a file in `guards/`, with the keys that `Family` describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "guards"
_ZERO_SHOT = "zero-shot"
_CONVERSATION = ({"role": "user", "content": "{prompt}"}, {"role": "assistant", "content": "{answer}"})


@dataclass(frozen=True)
class Question:
    """One of the questions that a family is asked about a row.

    Attributes:
        category: What an unsafe verdict finds; empty for a general question.
        variables: What the chat template takes beside the turns, and what stands for `{name}` in these.
        of_unsafe: Whether it is asked about unsafe rows alone, for their categories.
    """

    category: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    of_unsafe: bool = False


@dataclass(frozen=True)
class Categories:
    """Where a family that lists categories after an unsafe verdict does so.

    Attributes:
        listed: Expression whose first group is the list, with commas between.
        named: Expression that finds a category's code and its name in the question; empty where there are no codes.
        tokens: Most tokens to generate for the list.
    """

    listed: str
    named: str = ""
    tokens: int = 32


@dataclass(frozen=True)
class Reasoning:
    """How long a family reasons before its verdict, and after what the verdict stands.

    Attributes:
        after: Text that ends the reasoning, special tokens included.
        tokens: Most tokens to generate, the verdict's included.
    """

    after: str
    tokens: int


@dataclass(frozen=True)
class Family:
    """A kind of model that judges answers.

    Attributes:
        name: Its name, which a user can give after `#`.
        title: Its name in sentences.
        verdicts: How much of "unsafe" each verdict counts, 0 to 1, by its words.
        in_template: Texts that its chat template contains, all of them; empty where the template does not tell.
        in_name: Texts of which a model's name contains one, in lower case.
        turns: The messages for the chat template, with `{prompt}`, `{answer}` and variables.
        text: All of the question, where the family has no chat template.
        without_template: What follows the turns' content where the tokenizer has no chat template.
        leads: What may stand before the verdict; that with which a verdict is likeliest is taken.
        variables: As of each question.
        questions: The row is as unsafe as the most unsafe answer to those that are asked about all rows.
        categories: How it lists categories, if it does.
        reasoning: How it reasons, if it does.
        policy: The policy that it judges by, which a user can replace; empty where it has its own.
        opens_answer: Whether its template opens the answer of the model (`add_generation_prompt`).
    """

    name: str
    title: str
    verdicts: Mapping[str, float]
    in_template: tuple[str, ...] = ()
    in_name: tuple[str, ...] = ()
    turns: tuple[Mapping[str, str], ...] = _CONVERSATION
    text: str = ""
    without_template: str = ""
    leads: tuple[str, ...] = ("",)
    variables: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[Question, ...] = (Question(),)
    categories: Categories | None = None
    reasoning: Reasoning | None = None
    policy: str = ""
    opens_answer: bool = True


def zero_shot() -> Family:
    """Return how any language model is asked, in a prompt of our own."""
    return _read(_ZERO_SHOT)


@cache
def guard_families() -> dict[str, Family]:
    """Return the families of guard models by name, those that are told by the most first."""
    names = sorted(file.stem for file in _FOLDER.glob("*.yaml") if file.stem != _ZERO_SHOT)
    families = sorted(map(_read, names), key=lambda family: -len(family.in_template))
    return {family.name: family for family in families}


def find_family(tokenizer: Any, model: str = "") -> Family | None:
    """Tell the family of a guard model by its chat template, or else by its name; None where it is none.

    Args:
        tokenizer: The model's tokenizer.
        model: Its name: a hub id, or a folder.
    """
    families = guard_families().values()
    # A folder's own name is at its end.
    called, template = Path(model).name.lower(), str(tokenizer.chat_template or "")
    by_template = (f for f in families if f.in_template and all(mark in template for mark in f.in_template))
    by_name = (f for f in families if any(mark in called for mark in f.in_name))
    return next(by_template, None) or next(by_name, None)


@cache
def _read(name: str) -> Family:
    values = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    parts: dict[str, Any] = {"categories": Categories, "reasoning": Reasoning}
    for key, value in values.items():
        if key in parts:
            values[key] = parts[key](**value)
        elif key == "questions":
            values[key] = tuple(Question(**question) for question in value)
        elif isinstance(value, list):
            values[key] = tuple(value)
    return Family(name, **values)
