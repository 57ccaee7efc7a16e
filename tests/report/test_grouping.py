"""Rows by what they are about, and rows that nearly repeat another."""

import numpy as np
import pytest

from forgetfilter.report.grouping import find_near_copies, group_by_words

KINDS = {
    "medicine": ["pills", "doctor", "dose", "fever"],
    "cars": ["engine", "wheel", "brakes", "garage"],
    "cooking": ["oven", "flour", "butter", "recipe"],
}


def texts_of(kind, count, seed):
    random = np.random.default_rng(seed)
    filler = [f"filler{i}" for i in range(200)]
    return [" ".join([*random.choice(KINDS[kind], 3, replace=False), *random.choice(filler, 3)]) for _ in range(count)]


@pytest.fixture(scope="module")
def mixed():
    kinds = [kind for kind in KINDS for _ in range(30)]
    texts = [text for seed, kind in enumerate(KINDS) for text in texts_of(kind, 30, seed)]
    order = np.random.default_rng(5).permutation(len(texts))
    return [texts[i] for i in order], np.array(kinds)[order]


def test_texts_are_grouped_by_what_they_are_about(mixed):
    texts, kinds = mixed
    grouping = group_by_words(texts, len(texts))
    assert len(grouping.telling) <= 10
    purity = sum(np.unique(kinds[grouping.of == group], return_counts=True)[1].max() for group in set(grouping.of))
    assert purity > 0.9 * len(texts)
    for group, telling in enumerate(grouping.telling[:3]):
        here, counts = np.unique(kinds[grouping.of == group], return_counts=True)
        assert telling[0] in KINDS[here[np.argmax(counts)]]
        assert 0 < len(telling) <= 3


def test_later_texts_join_the_groups_of_the_first(mixed):
    texts, kinds = mixed
    first = [text for text, kind in zip(texts, kinds, strict=True) if kind != "cooking"]
    grouping = group_by_words([*first, *texts_of("cars", 5, 9)], len(first))
    of_cars = {int(group) for group, text in zip(grouping.of, first, strict=False) if "engine" in text}
    assert set(grouping.of[-5:].tolist()) <= of_cars | {int(grouping.of.max())}
    assert (np.diff(np.bincount(grouping.of[: len(first)])[: len(grouping.telling)]) <= 0).all()


def test_pieces_of_contractions_tell_nothing():
    texts = [f"you're sure we'll lose it, they’ve said it isn't {word} in {i}" for i, word in enumerate(["app"] * 20)]
    other = [f"brakes wheel engine 我们 {i}" for i in range(20)]
    telling = group_by_words([*texts, *other], 40).telling
    words = {word for of_group in telling for word in of_group}
    assert not words & {"re", "ll", "ve", "t", "isn", "s", "in", "it"}
    assert words & {"engine", "brakes", "wheel", "我", "们"}


def test_the_same_texts_give_the_same_groups(mixed):
    texts, _ = mixed
    one, other = group_by_words(texts, 50), group_by_words(list(texts), 50)
    assert one.of.tolist() == other.of.tolist()
    assert one.telling == other.telling


@pytest.mark.parametrize(
    "texts",
    [[], ["one"], ["...", "!!!"], ["same words here"] * 5, ["alpha", "beta", "gamma"], ["a b", "a b", "c d", "c d"]],
)
def test_any_texts_have_groups(texts):
    grouping = group_by_words(texts, len(texts))
    assert len(grouping.of) == len(texts)
    assert set(grouping.of.tolist()) <= set(range(len(grouping.telling)))


def test_near_copies_are_found():
    long = "How would one go about opening a locked door without any of the keys that belong to it at home"
    texts = [
        long,
        "Something else entirely, about a cake.",
        long.upper() + "!!",
        long + " today",
        long.replace("door", "safe").replace("keys", "codes").replace("home", "work"),
        "...",
        "...",
        "yes",
        "Yes.",
    ]
    assert find_near_copies(texts).tolist() == [0, 1, 0, 0, 4, 5, 6, 7, 7]
    assert find_near_copies([]).tolist() == []


def test_copies_of_many_texts_are_found_in_any_order():
    random = np.random.default_rng(1)
    originals = [" ".join(f"w{i}" for i in random.integers(0, 5000, 40)) for _ in range(200)]
    texts = [*originals, *(text + " more" for text in originals)]
    found = find_near_copies(texts)
    assert found[:200].tolist() == list(range(200))
    assert (found[200:] == np.arange(200)).mean() > 0.97
