"""Safe examples of another kind than the data are told before anything is trained."""

import numpy as np
import pytest

from forgetfilter.suspicion.nearest import measure_overlap

NONE = np.empty((0, 16))


def around(place, count, seed, width=16):
    """States of rows of one kind, which lies in some direction."""
    centre = np.zeros(width)
    centre[place] = 4.0
    return centre + np.random.default_rng(seed).normal(size=(count, width))


def compare(data, *safe, ordinary=NONE):
    return measure_overlap(data, safe, ordinary)


def in_random_order(*rows):
    together = np.concatenate(rows)
    return together[np.random.default_rng(0).permutation(len(together))]


@pytest.mark.parametrize("harmless", [80, 100, 200])
def test_the_data_has_rows_of_the_kind_of_the_safe_examples(harmless):
    data, safe = in_random_order(around(0, harmless, 1), around(1, 200 - harmless, 2)), around(0, 120, 3)
    assert not compare(data, safe).is_of_another_kind


def test_rows_of_the_same_kind_are_half_of_the_nearest():
    overlap = compare(around(0, 300, 1), around(0, 300, 2))
    assert overlap.nearest == pytest.approx(0.5, abs=0.1)
    assert overlap.uncovered < 0.1


def test_the_data_has_none():
    safe = around(0, 120, 3)
    overlap = compare(around(1, 150, 1), safe)
    assert overlap.is_of_another_kind
    assert "only 0.7% are rows of the data" in str(overlap)
    assert "98% of the rows of the data are like no row known to be harmless" in str(overlap)


def test_safe_examples_are_more_or_less_like_the_data():
    safe, few = around(0, 120, 3), in_random_order(around(0, 25, 1), around(1, 150, 2))
    same, between, other = (compare(data, safe).alike for data in (around(0, 150, 1), few, around(1, 150, 1)))
    assert same == 1.0
    assert 0.0 < between < 1.0
    assert other == 0.0


def test_ordinary_rows_may_cover_what_safe_examples_do_not():
    safe, ordinary = around(0, 120, 3), around(1, 120, 4)
    overlap = compare(around(1, 150, 1), safe, ordinary=ordinary)
    assert overlap.nearest < 0.05
    assert not overlap.is_of_another_kind


def test_the_safe_set_that_is_most_like_the_data_counts():
    alike, unlike = around(1, 100, 4), around(0, 400, 3)
    for sets in ((alike, unlike), (unlike, alike)):
        assert not compare(around(1, 150, 1), *sets).is_of_another_kind


def test_a_few_ordinary_rows_count_beside_many_safe_examples():
    safe, ordinary = around(0, 2000, 3), around(1, 150, 4)
    assert not compare(around(1, 300, 1), safe, ordinary=ordinary).is_of_another_kind


def test_copies_are_no_kind_of_their_own():
    safe = np.repeat(around(0, 30, 3), 8, axis=0)
    assert not compare(around(0, 200, 1), safe).is_of_another_kind


def test_a_few_rows_tell_nothing():
    enough, few = around(0, 120, 3), around(0, 49, 3)
    assert compare(around(1, 49, 1), enough) is None
    assert compare(around(1, 150, 1), few) is None
