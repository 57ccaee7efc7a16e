"""A rule that imitates a run's suspicion, and what is told of its agreement with the run."""

import numpy as np
import pytest

from forgetfilter.suspicion.distilled import Agreement, DistilledRule, as_strict, compare_with_run, distil
from forgetfilter.suspicion.rules import Features
from forgetfilter.suspicion.word_table import word_table


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    documents = [[f"{'bad' if i % 4 == 0 else 'good'}{generator.integers(4)}", f"any{i % 7}"] for i in range(80)]
    states = generator.normal(size=(80, 8)).astype(np.float32)
    return Features(word_table(documents), states / np.linalg.norm(states, axis=1, keepdims=True))


@pytest.fixture
def suspicion():
    return np.where(np.arange(80) % 4 == 0, 3.0, 0.0) + np.random.default_rng(1).normal(size=80) / 10


def test_a_rule_finds_again_what_it_was_distilled_from(features, suspicion, tmp_path):
    rule, predicted = distil(suspicion, features, np.arange(80))
    assert predicted[::4].min() > predicted[np.arange(80) % 4 > 0].max()
    rule.save(tmp_path / "rule.npz")
    by_words, by_states = DistilledRule.load(tmp_path / "rule.npz").parts(features)
    assert np.corrcoef(by_words + by_states, suspicion)[0, 1] > 0.95
    assert not features.without_states().by_states(rule.coefficients[: features.words.width]).any()


def test_no_row_takes_part_in_its_own_prediction(features, suspicion):
    _, predicted = distil(suspicion, features, np.arange(80))
    changed = suspicion.copy()
    changed[5] += 100
    _, again = distil(changed, features, np.arange(80))
    assert again[5] == predicted[5]
    assert np.abs(again - predicted).max() > 1


def test_agreement_by_hand():
    predicted, suspicion = np.array([3.0, 2.0, 1.0, 0.0]), np.array([4.0, 1.0, 2.0, 0.0])
    removed = np.array([True, False, True, False])
    cut = as_strict(predicted, 2)
    assert cut == 1.5
    agreement = compare_with_run(predicted, suspicion, removed, cut)
    # Of the four pairs of a removed and a kept row, three are in order; two of four decisions are the same.
    assert (agreement.rows, agreement.same.value, agreement.auroc) == (4, 0.5, 0.75)
    assert agreement.correlation == pytest.approx(0.8)
    assert agreement.same.low == pytest.approx(0.15, abs=0.005)
    assert str(agreement) == (
        "on 4 rows held out in the run: the same decision for 50% (15% to 85%), removed above kept rows in 75% of "
        "pairs, rank correlation 0.80"
    )


def test_nothing_to_agree_about():
    nothing = compare_with_run(np.empty(0), np.empty(0), np.empty(0, dtype=bool), None)
    assert nothing == Agreement(0, None, None, None)
    assert str(nothing) == "on 0 rows held out in the run: nothing to compare"
    alike = compare_with_run(np.ones(3), np.ones(3), np.zeros(3, dtype=bool), None)
    assert (alike.same.value, alike.auroc, alike.correlation) == (1, None, None)


def test_a_run_on_few_rows_is_doubted():
    assert "only 99 rows" in Agreement(99, None, None, None).doubt
    assert not Agreement(100, None, None, None).doubt


@pytest.mark.parametrize(("removed", "above"), [(0, 0), (1, 1), (3, 3), (4, 4)])
def test_a_cut_is_as_strict_as_the_run(removed, above):
    predicted = np.array([0.5, 2.0, -1.0, 7.0])
    cut = as_strict(predicted, removed)
    assert (cut is None) == (removed == 0)
    assert (predicted > (np.inf if cut is None else cut)).sum() == above
