"""Safe examples of another kind than the data are told before anything is trained."""

import numpy as np
import pytest

from forgetfilter.suspicion.nearest import safe_examples_are_unlike, share_of_data_nearest


def around(place, count, seed, width=16):
    """States of rows of one kind, which lies in some direction."""
    centre = np.zeros(width)
    centre[place] = 4.0
    return centre + np.random.default_rng(seed).normal(size=(count, width))


@pytest.mark.parametrize("harmless", [40, 100, 200])
def test_the_data_has_rows_of_the_kind_of_the_safe_examples(harmless):
    data = np.concatenate([around(0, harmless, 1), around(1, 200 - harmless, 2)])
    shuffled = data[np.random.default_rng(0).permutation(len(data))]
    assert safe_examples_are_unlike(shuffled, around(0, 120, 3)) is None


def test_rows_of_the_same_kind_are_half_of_the_nearest():
    assert share_of_data_nearest(around(0, 300, 1), around(0, 300, 2)) == pytest.approx(0.5, abs=0.1)


def test_the_data_has_none():
    told = safe_examples_are_unlike(around(1, 150, 1), around(0, 120, 3))
    assert told.startswith("the safe examples are hardly like the data")
    assert "only 1% are rows of the data" in told


def test_copies_of_safe_examples_are_no_kind_of_their_own():
    safe = np.repeat(around(0, 30, 3), 8, axis=0)
    assert safe_examples_are_unlike(around(0, 200, 1), safe) is None


def test_a_few_rows_tell_nothing():
    assert safe_examples_are_unlike(around(1, 49, 1), around(0, 120, 3)) is None
    assert safe_examples_are_unlike(around(1, 150, 1), around(0, 49, 3)) is None
