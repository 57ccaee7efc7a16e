"""Likeness to unsafe rows, from words and hidden states."""

import numpy as np
import pytest

from forgetfilter.data.draw import random_ranks
from forgetfilter.metrics.detection import auroc
from forgetfilter.suspicion import likeness
from forgetfilter.suspicion.kinds import HARMLESS, PROTOTYPE_HARMFUL, SAFE, TRUSTED, UNSAFE, UNTRUSTED
from forgetfilter.suspicion.likeness import beyond_harmless, measure_likeness
from forgetfilter.suspicion.rules import Features
from forgetfilter.suspicion.word_table import WordTable, word_table


def problem(counts, unsafe_share=0.5, seed=0):
    """Rows of each kind; unsafe ones have words and states of their own. Features, kinds, whether each is unsafe."""
    generator = np.random.default_rng(seed)
    kinds = np.repeat(list(counts), list(counts.values()))
    unsafe = np.isin(kinds, (UNSAFE, PROTOTYPE_HARMFUL))
    among = np.flatnonzero(kinds == UNTRUSTED)
    unsafe[among[: round(unsafe_share * len(among))]] = True
    documents = [
        [
            f"{'bad' if bad and generator.random() < 0.9 else 'good'}{generator.integers(8)}",
            f"any{generator.integers(30)}",
        ]
        for bad in unsafe
    ]
    states = generator.normal(size=(len(kinds), 16)) + np.outer(unsafe, np.full(16, 1.5))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    return Features(word_table(documents), states.astype(np.float32)), kinds, unsafe


def total(found):
    return found.by_words + found.by_states


def ids(count):
    return random_ranks([f"id{i}" for i in range(count)])


def test_unsafe_rows_come_first_without_any_that_is_known():
    features, kinds, unsafe = problem({UNTRUSTED: 200, SAFE: 60, TRUSTED: 40, PROTOTYPE_HARMFUL: 20})
    found, there = measure_likeness(features, kinds, ids(len(kinds))), kinds == UNTRUSTED
    assert auroc(total(found)[there], unsafe[there]) > 0.9
    suspected = found.suspected[there]
    assert suspected[unsafe[there]].mean() > 0.7 > 4 * suspected[~unsafe[there]].mean()


def test_clean_data_has_nothing_that_is_likely_unsafe():
    features, kinds, _ = problem({UNTRUSTED: 200, SAFE: 100, TRUSTED: 100, PROTOTYPE_HARMFUL: 20}, unsafe_share=0)
    found = measure_likeness(features, kinds, ids(len(kinds)))
    assert (found.suspected > 0.5).sum() <= 2


def test_a_label_of_one_row_tells_of_the_others():
    features, kinds, unsafe = problem({UNTRUSTED: 300, SAFE: 60, TRUSTED: 60}, unsafe_share=0.05)
    before = measure_likeness(features, kinds, ids(len(kinds)))
    labelled = kinds.copy()
    labelled[:8], labelled[100:120] = UNSAFE, HARMLESS
    after, rest = measure_likeness(features, labelled, ids(len(kinds))), labelled == UNTRUSTED
    assert auroc(total(after)[rest], unsafe[rest]) > auroc(total(before)[rest], unsafe[rest]) + 0.02


def test_no_row_takes_part_in_what_is_said_of_itself(monkeypatch):
    monkeypatch.setattr(likeness, "_ROUNDS", 0)
    features, kinds, _ = problem({UNTRUSTED: 100, SAFE: 50, TRUSTED: 50, UNSAFE: 10})
    fold_of, turned = ids(len(kinds)), kinds.copy()
    turned[205] = HARMLESS
    same = fold_of % 10 == fold_of[205] % 10
    one, other = (total(measure_likeness(features, of, fold_of)) for of in (kinds, turned))
    assert not np.allclose(one[~same], other[~same])
    # What the sides weigh in all changes with the row's kind, and nothing else.
    assert np.corrcoef(one[same], other[same])[0, 1] > 0.999


def test_with_many_rows_the_rule_is_fitted_to_some(monkeypatch):
    features, kinds, _ = problem({UNTRUSTED: 400, SAFE: 60, TRUSTED: 40, PROTOTYPE_HARMFUL: 20})
    whole = total(measure_likeness(features, kinds, ids(len(kinds))))
    monkeypatch.setattr(likeness, "_MOST_FITTED", 100)
    some = measure_likeness(features, kinds, ids(len(kinds)))
    assert np.corrcoef(whole, total(some))[0, 1] > 0.9
    assert some.suspected[:200].mean() > 1.3 * some.suspected[200:400].mean()


def test_the_posterior_is_one_less_the_false_discovery_rate():
    harmless = np.arange(50.0)
    found = beyond_harmless(np.array([1000.0, 40.0, -1.0, -2.0]), harmless)
    # One of fifty is left out as an outlier. Of four rows two lie below the others' median, so all may be harmless: one
    # in fifty is expected up there.
    assert found == pytest.approx([1 - 0.02 / 0.25, 1 - 0.2 / 0.5, 0, 0])
    assert np.array_equal(beyond_harmless(np.ones(3), np.empty(0)), np.zeros(3))


def test_a_word_table_is_kept_and_taken_from(tmp_path):
    table = word_table([["a", "b"], ["b", "c"], ["a", "c"], [], ["x"]])
    table.save(tmp_path)
    again, vector = WordTable.load(tmp_path), np.arange(1.0, table.vocabulary + 1)
    assert np.array_equal(again.times(vector), table.times(vector))
    assert np.array_equal(again.take(np.array([2, 0])).times(vector), table.times(vector)[[2, 0]])


def test_the_order_of_rows_does_not_matter(monkeypatch):
    monkeypatch.setattr(likeness, "_MOST_FITTED", 100)
    features, kinds, _ = problem({UNTRUSTED: 300, SAFE: 60, TRUSTED: 40, PROTOTYPE_HARMFUL: 20})
    order = np.random.default_rng(3).permutation(len(kinds))
    places = ids(len(kinds))
    straight = measure_likeness(features, kinds, places)
    turned = measure_likeness(features.take(order), kinds[order], places[order])
    assert np.allclose(total(turned), total(straight)[order], atol=1e-3)
    assert np.array_equal(turned.suspected > 0, straight.suspected[order] > 0)
