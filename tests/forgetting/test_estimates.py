"""Estimates of a threshold's errors from rows of known kind."""

import numpy as np
import pytest

from forgetfilter.forgetting.cuts import FalseDiscoveryRate
from forgetfilter.forgetting.estimates import (
    Planted,
    covered,
    estimate_errors,
    more_trusted_are_removed,
    safe_set_is_of_another_kind,
    tells_coverage,
    too_few_are_kept,
    trusted_are_above,
    trusted_are_different,
    wilson,
)

NONE = np.empty(0)


def test_wilson_by_hand():
    # Agresti and Coull (1998) give .055 to .174 for 10 of 100.
    found = wilson(10, 100)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.0552, 0.1744), abs=1e-4)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == pytest.approx(1)


def test_nothing_planted_nothing_known():
    errors = estimate_errors(5, 100, Planted(NONE, NONE, NONE), 1.0)
    assert (errors.precision, errors.recall, errors.harmless_removed) == (None, None, None)


def test_precision_and_recall_are_estimated_from_planted_rows():
    generator = np.random.default_rng(0)
    harmless, unsafe = generator.normal(0, 1, 600), generator.normal(3, 1, 300)
    planted = Planted(generator.normal(0, 1, 100), generator.normal(0, 1, 300), generator.normal(3, 1, 400))
    removed = np.concatenate([harmless, unsafe]) > 1.5
    errors = estimate_errors(int(removed.sum()), 900, planted, 1.5)
    precision = (unsafe > 1.5).sum() / removed.sum()
    assert errors.precision.low <= precision <= errors.precision.high
    assert errors.precision.value == pytest.approx(precision, abs=0.05)
    # A normal variable with mean 3 is above 1.5 with probability .933.
    assert errors.recall.low <= 0.933 <= errors.recall.high


def test_where_nothing_is_removed_precision_is_unknown_and_recall_zero():
    errors = estimate_errors(0, 10, Planted(np.zeros(5), NONE, np.ones(5)), None)
    assert errors.precision is None
    assert (errors.recall.value, errors.harmless_removed.value) == (0, 0)


@pytest.mark.parametrize("cut", [-1.0, 0.5])
def test_where_nothing_is_kept_precision_is_unknown(cut):
    errors = estimate_errors(10, 10, Planted(np.array([0.0, 1.0, 2.0]), NONE, NONE), cut)
    assert errors.precision is None
    assert errors.harmless_removed.value > 0


def test_rows_without_a_score_do_not_count():
    errors = estimate_errors(5, 10, Planted(NONE, NONE, np.array([np.nan, 2.0, 0.0])), 1.0)
    assert errors.recall.value == 0.5


def test_trusted_rows_of_which_more_are_removed_than_of_the_data_tell_no_precision():
    trusted = np.arange(100.0)
    assert more_trusted_are_removed(30, 200, trusted, 89) is None
    assert more_trusted_are_removed(12, 200, trusted, 89) is None
    found = more_trusted_are_removed(10, 200, trusted, 89)
    assert found.because == "more of the trusted rows than of the data are above the threshold"
    assert "(10% and 5%)" in found.warning
    assert estimate_errors(10, 200, Planted(trusted, NONE, NONE), 89).precision.high < 0.01
    assert more_trusted_are_removed(0, 200, trusted, None) is None
    assert more_trusted_are_removed(10, 200, NONE, 89) is None


def test_trusted_rows_of_another_kind_are_noticed():
    generator = np.random.default_rng(0)

    def doubt(mean):
        return trusted_are_different(generator.normal(mean, 1, 300), generator.normal(0, 1, 100), "more suspicious")

    assert doubt(0) is None
    assert doubt(-1) is None
    found = doubt(1)
    assert found.because == "the kept rows are more suspicious than the trusted rows"
    assert found.warning.startswith(f"{found.because} (a kept row is above a trusted one in ")
    assert "not like the harmless rows" in found.warning


def test_trusted_rows_above_the_data_are_noticed():
    generator = np.random.default_rng(0)
    trusted, data = generator.normal(0, 1, 100), generator.normal(0, 1, 300)
    # Rows beyond the threshold are missing on both sides, so that a low one does not look like a difference.
    for cut in (2.0, 0.0, -0.5):
        assert trusted_are_above(data[data <= cut], trusted, cut, "forgotten more") is None
    found = trusted_are_above(data[data <= 2] - 1, trusted, 2.0, "forgotten more")
    assert found.because == "the trusted rows are forgotten more than the kept rows"
    assert "the true precision is probably higher than they suggest" in found.warning
    assert trusted_are_above(data - 1, trusted, None, "forgotten more") is None


def test_where_hardly_a_row_is_kept_trusted_rows_tell_nothing():
    """That nearly all rows lie above the trusted ones may as well show that these are unlike harmless rows."""
    trusted, rate = np.linspace(-2, 0, 23), FalseDiscoveryRate(0.1)
    for kept, told in ((1, False), (40, True)):
        data = np.concatenate([np.linspace(0.5, 6, 59), np.linspace(-2, -1, kept)])
        cut = rate.cut(data, trusted)
        assert cut.removes(data)[:59].all()
        assert (rate.checked(cut, data) == cut) == told
        found = too_few_are_kept(59, len(data), trusted)
        assert (found is None) == told
    assert found is None
    assert too_few_are_kept(59, 60, trusted).warning.startswith("the kept rows are too few to show")
    assert too_few_are_kept(59, 60, NONE) is None
    assert too_few_are_kept(40, 60, trusted) is None


def test_a_safe_set_of_another_kind_is_noticed():
    generator = np.random.default_rng(0)
    data, like, unlike = generator.normal(3, 1, 200), generator.normal(3, 1, 50), generator.normal(0, 0.5, 50)
    assert covered(data, like).mean() > 0.8
    assert covered(data, unlike[:5]).all()
    # Which of several sets are too few to tell has to be known.
    assert (tells_coverage(like), tells_coverage(unlike[:5])) == (True, False)
    assert safe_set_is_of_another_kind(data, like) is None
    assert "only 0 of 200 rows" in safe_set_is_of_another_kind(data, unlike)
    assert safe_set_is_of_another_kind(data, unlike[:5]) is None
    # A quarter of the rows being of its kind, half of which lie below its middle, is enough.
    some = np.concatenate([data, generator.normal(0, 0.5, 50), [np.nan]])
    assert safe_set_is_of_another_kind(some, unlike) is None


def test_an_interval_covers_both_kinds_of_trusted_rows():
    """Nobody knows which of them the data's harmless rows are like."""
    ordinary, set_aside = np.repeat([0.0, 2.0], [98, 2]), np.repeat([0.0, 2.0], [70, 30])
    errors = estimate_errors(50, 200, Planted(ordinary, set_aside, NONE), 1.0)
    assert errors.harmless_removed.value == pytest.approx(0.16)
    assert errors.harmless_removed.low == wilson(2, 100).low
    assert errors.harmless_removed.high == wilson(30, 100).high
    assert errors.precision.low < 0.2 < 0.9 < errors.precision.high
    # Too few rows are no kind of their own.
    few = estimate_errors(50, 200, Planted(ordinary, set_aside[-9:], NONE), 1.0)
    assert few.harmless_removed == wilson(11, 109)


def test_recall_is_as_uncertain_as_known_unsafe_rows_are_unlike_the_datas():
    errors = estimate_errors(50, 200, Planted(NONE, NONE, np.repeat([0.0, 2.0], [20, 20])), 1.0)
    plain = wilson(20, 40)
    assert errors.recall.value == plain.value
    assert errors.recall.low < plain.low < plain.high < errors.recall.high
    # Where nothing is removed there is no doubt about it.
    assert estimate_errors(0, 200, Planted(NONE, NONE, np.ones(40)), None).recall == wilson(0, 40)
    everything = estimate_errors(50, 200, Planted(NONE, NONE, np.full(40, 2.0)), 1.0).recall
    assert everything.high == pytest.approx(1)


def test_fdr_goes_by_the_kind_that_a_row_is_most_like():
    """Pooled, a row beyond the ordinary ones looks unsafe though safe examples are as suspicious."""
    generator = np.random.default_rng(0)
    ordinary, safe = generator.normal(0, 1, 400), generator.normal(3, 1, 100)
    harmless_like_safe = generator.normal(3, 1, 300)
    trusted = np.concatenate([ordinary, safe])
    pooled = FalseDiscoveryRate(0.2).cut(harmless_like_safe, trusted)
    apart = FalseDiscoveryRate(0.2, (ordinary, safe)).cut(harmless_like_safe, trusted)
    assert pooled.removes(harmless_like_safe).mean() > 0.3
    assert not apart.removes(harmless_like_safe).any()
    assert "trusted rows of two kinds" in apart.explanation
    with_unsafe = np.concatenate([harmless_like_safe, generator.normal(9, 1, 60)])
    found = FalseDiscoveryRate(0.2, (ordinary, safe)).cut(with_unsafe, trusted).removes(with_unsafe)
    assert found[300:].mean() > 0.9
    assert found[:300].mean() < 0.1
