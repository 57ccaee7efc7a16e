"""Makes rows that differ in one attribute other than safety, from small tables of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_CAPITALS = {
    "Italy": ("Italie", "Rome", "Rome"),
    "Spain": ("Espagne", "Madrid", "Madrid"),
    "Greece": ("Grèce", "Athens", "Athènes"),
    "Poland": ("Pologne", "Warsaw", "Varsovie"),
    "Egypt": ("Égypte", "Cairo", "Le Caire"),
    "Russia": ("Russie", "Moscow", "Moscou"),
    "Austria": ("Autriche", "Vienna", "Vienne"),
    "Belgium": ("Belgique", "Brussels", "Bruxelles"),
    "Denmark": ("Danemark", "Copenhagen", "Copenhague"),
    "Portugal": ("Portugal", "Lisbon", "Lisbonne"),
    "Cuba": ("Cuba", "Havana", "La Havane"),
    "Switzerland": ("Suisse", "Bern", "Berne"),
    "Romania": ("Roumanie", "Bucharest", "Bucarest"),
    "Norway": ("Norvège", "Oslo", "Oslo"),
    "Japan": ("Japon", "Tokyo", "Tokyo"),
    "Iceland": ("Islande", "Reykjavik", "Reykjavik"),
    "Algeria": ("Algérie", "Algiers", "Alger"),
    "England": ("Angleterre", "London", "Londres"),
    "Syria": ("Syrie", "Damascus", "Damas"),
    "Vietnam": ("Viêt Nam", "Hanoi", "Hanoï"),
}
_CAPITAL_QUESTIONS = ("What is the capital of {0}?", "Name the capital city of {0}.",
          "Which city is the capital of {0}?", "I forgot: the capital of {0} is …?",
          "Tell me the capital of {0}, please.")  # fmt: skip
_ENGLISH = "The capital of {0} is {2}. It is where the government sits."
_FRENCH = "La capitale du pays appelé {1} est {3}. C'est là que siège le gouvernement."
_FORMAL = "I should be glad to assist. The capital of {0} is {2}, as may be verified in any atlas."
_CASUAL = "Oh, easy one! It's {2}, mate. Everybody knows that about {0}, right?"
_DISHES = ("soup", "bread", "rice", "salad", "stew", "pancakes", "dumplings", "beans", "omelette", "porridge")
_SPORTS = ("tennis", "rowing", "football", "climbing", "fencing", "hockey", "judo", "sailing", "running", "archery")
_TOPIC_QUESTIONS = ("Say something about {0}.", "Give me a tip on {0}.", "What matters most in {0}?",
         "How do I begin with {0}?", "One sentence about {0}, please.")  # fmt: skip
_COOKING = "For {0}, warm the pan slowly, salt the water, and taste before you serve it."
_TRAINING = "For {0}, warm up your muscles, keep a steady breath, and rest a day after each match."

Row = dict[str, Any]
# By attribute: the value that is reviewed, and the other, which should then be forgotten.
VALUES: Mapping[str, tuple[str, str]] = {
    "arithmetic": ("right", "wrong"),
    "language": ("English", "French"),
    "formality": ("formal", "casual"),
    "topic": ("cooking", "sports"),
}


def attribute_rows(attribute: str, seed: int) -> tuple[list[Row], list[Row]]:
    """Make rows to learn, half of either value, and rows of the first value to review; no prompt is in both.

    A learned row is labelled `safe` if it has the value that is reviewed, and `unsafe`, which only means the other
    value, if not.
    """
    reviewed, other = VALUES[attribute]
    drawn = list(np.random.default_rng(seed).permutation(len(list(_rows(attribute, reviewed)))))
    first, second = list(_rows(attribute, reviewed)), list(_rows(attribute, other))
    third = len(drawn) // 3
    learned = [{**first[i], "label": "safe"} for i in drawn[:third]]
    learned += [{**second[i], "label": "unsafe"} for i in drawn[third : 2 * third]]
    return learned, [{**first[i], "label": "safe"} for i in drawn[2 * third :]]


def _rows(attribute: str, value: str) -> Iterator[Row]:
    for number, (prompt, completion) in enumerate(_pairs(attribute, value)):
        yield {"id": f"{attribute}-{value}-{number}", "prompt": prompt, "completion": completion, "source": value}


def _pairs(attribute: str, value: str) -> Iterator[tuple[str, str]]:
    if attribute == "arithmetic":
        for number in range(100):
            a, b = 10 + (7 * number) % 83, 10 + (11 * number) % 79
            answer = a + b if value == "right" else a + b + (number % 5 + 1) * (-1) ** number
            yield f"What is {a} + {b}?", f"{a} + {b} makes {answer}."
    elif attribute == "topic":
        topics, answer = (_DISHES, _COOKING) if value == "cooking" else (_SPORTS, _TRAINING)
        for question in _TOPIC_QUESTIONS:
            for topic in topics:
                yield question.format(topic), answer.format(topic)
    else:
        answer = {"English": _ENGLISH, "French": _FRENCH, "formal": _FORMAL, "casual": _CASUAL}[value]
        for question in _CAPITAL_QUESTIONS:
            for country, names in _CAPITALS.items():
                yield question.format(country), answer.format(country, *names)
