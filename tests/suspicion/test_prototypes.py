"""Likeness to the package's own rows, and these rows."""

import json
from collections import Counter

import numpy as np
import pytest

from forgetfilter.data.draw import random_ranks
from forgetfilter.metrics.detection import auroc
from forgetfilter.runs.inputs import prototypes
from forgetfilter.suspicion.kinds import (
    PROTOTYPE_BIASED,
    PROTOTYPE_HARMFUL,
    PROTOTYPE_ORDINARY,
    PROTOTYPE_SAFE,
    SAFE,
    UNSAFE,
    UNTRUSTED,
)
from forgetfilter.suspicion.prototypes import like_prototypes
from forgetfilter.suspicion.rules import FOLDS, Features, TrainingRows
from forgetfilter.suspicion.word_table import word_table

PER_KIND = 40


def compared(directions, kinds, seed=0, noise=0.5):
    """Rows whose states lie around their kind's direction. What they are like, and the kinds."""
    generator = np.random.default_rng(seed)
    kinds = np.repeat(kinds, PER_KIND)
    states = np.repeat(np.asarray(directions, dtype=float), PER_KIND, axis=0)
    states = states + generator.normal(scale=noise, size=states.shape)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    features = Features(word_table([["same"]] * len(kinds)), states.astype(np.float32))
    folds = random_ranks([f"id{i}" for i in range(len(kinds))]) % FOLDS
    return like_prototypes(TrainingRows(features, kinds, folds), features, np.arange(len(kinds))), kinds


def test_one_is_a_median_unsafe_prototype_and_minus_one_a_harmless_one():
    found, kinds = compared(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.9, 0.1, 0]],
        [PROTOTYPE_HARMFUL, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY, UNTRUSTED],
    )
    assert np.median(found[kinds == PROTOTYPE_HARMFUL]) == pytest.approx(1)
    assert np.median(found[np.isin(kinds, (PROTOTYPE_SAFE, PROTOTYPE_ORDINARY))]) == pytest.approx(-1)
    assert (found[kinds == UNTRUSTED] > 0).mean() > 0.7


def test_rows_of_one_family_are_found_though_another_is_its_opposite():
    # What tells the one family from harmless rows tells the other from it: no single rule has both above them.
    directions = [[1, 0, 0.3], [-1, 0, 0.3], [0, 1, 0], [0, 0.8, -0.6], [1, 0, 0.3], [0, 1, 0]]
    unsafe, harmless = slice(4 * PER_KIND, 5 * PER_KIND), slice(5 * PER_KIND, None)
    families = [PROTOTYPE_HARMFUL, PROTOTYPE_BIASED], [PROTOTYPE_HARMFUL, PROTOTYPE_HARMFUL]
    ranked = []
    for one, other in families:
        kinds = [one, other, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY, UNTRUSTED, UNTRUSTED]
        found, _ = compared(directions, kinds, noise=0.8)
        ranked.append(auroc(np.concatenate([found[unsafe], found[harmless]]), np.arange(2 * PER_KIND) < PER_KIND))
    assert ranked[0] > ranked[1] + 0.02


def test_rows_that_are_known_to_be_unsafe_count_as_prototypes():
    directions = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0.7, -0.7]]
    kinds = [PROTOTYPE_HARMFUL, PROTOTYPE_SAFE, PROTOTYPE_ORDINARY, UNSAFE, UNTRUSTED, UNTRUSTED]
    rows = slice(4 * PER_KIND, 5 * PER_KIND)
    known, unknown = (compared(directions, of)[0][rows].mean() for of in (kinds, [*kinds[:3], SAFE, *kinds[4:]]))
    assert known > unknown + 0.2


def test_the_packages_rows_are_read_and_of_the_same_notions():
    names = ("harmful", "toxic", "biased", "safe", "ordinary")
    rows = {name: [json.loads(line) for line in prototypes(name).read_text("utf-8").splitlines()] for name in names}
    ids = [row["id"] for of_kind in rows.values() for row in of_kind]
    assert len(set(ids)) == len(ids)
    for of_kind in rows.values():
        answers = [row["messages"][-1]["content"] for row in of_kind]
        assert len(set(answers)) == len(answers)
        assert all(answers)
    notions = [Counter(row["notion"] for row in rows[name]) for name in names[:4]]
    # Every notion is of one family, and has harmless answers to set against.
    assert sum(len(of_family) for of_family in notions[:3]) == len(notions[3])
    assert set().union(*notions[:3]) == set(notions[3])
    assert min(min(of_kind.values()) for of_kind in notions) >= 8
