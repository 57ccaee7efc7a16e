"""Forgetting shared among rows of similar words."""

import numpy as np
import pytest

from forgetfilter.forgetting.sharing import RIDGE, smoothed
from forgetfilter.suspicion.ridge import folds, predict
from forgetfilter.suspicion.word_table import word_table

WORDS = ["insult", "slur", "flower", "garden"]


def two_topics(rows: int = 200, seed: int = 0):
    """Rows of two topics, the first forgotten more; noise hides it in a single row. Scores, words, topic."""
    generator = np.random.default_rng(seed)
    topic = np.arange(rows) % 2 == 0
    documents = [
        [*generator.choice(WORDS[:2] if first else WORDS[2:], 1), f"filler{generator.integers(30)}"] for first in topic
    ]
    learned = generator.normal(0, 1, rows)
    scores = np.stack([learned, learned - topic - generator.normal(0, 2, rows)], axis=1)
    return scores, documents, topic


def test_rows_of_the_same_words_come_together():
    scores, documents, topic = two_topics()
    table, fold_of = word_table(documents), folds([str(i) for i in range(200)])
    forgetting = np.subtract(*smoothed(scores, table, fold_of).T)
    own = np.subtract(*scores.T)

    def apart(values):
        return (values[topic].mean() - values[~topic].mean()) / values.std()

    assert apart(forgetting) > 1.3 * apart(own)


def test_words_that_tell_nothing_change_nothing():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(300, 2))
    documents = [[f"word{generator.integers(40)}"] for _ in range(300)]
    found = smoothed(scores, word_table(documents), folds([str(i) for i in range(300)]))
    own, shared = np.subtract(*scores.T), np.subtract(*found.T)
    assert np.corrcoef(own, shared)[0, 1] > 0.95
    assert shared.std() == pytest.approx(own.std(), rel=0.2)


@pytest.mark.parametrize("documents", [[["a"], ["b"], ["c"]], [[], [], []], [["a"], ["a"], ["a"]]])
def test_without_shared_words_the_scores_stay(documents):
    scores = np.array([[1.0, 0.5], [2.0, 0.0], [0.0, 0.0]])
    assert np.array_equal(smoothed(scores, word_table(documents), folds(["x", "y", "z"])), scores)


def test_the_order_of_rows_does_not_matter():
    scores, documents, _ = two_topics()
    ids = [f"id{i}" for i in range(200)]
    straight = smoothed(scores, word_table(documents), folds(ids))
    order = np.random.default_rng(2).permutation(200)
    shuffled = smoothed(scores[order], word_table([documents[i] for i in order]), folds([ids[i] for i in order]))
    assert np.allclose(shuffled, straight[order], atol=1e-6)


def test_a_table_is_the_same_in_parts(monkeypatch):
    scores, documents, _ = two_topics()
    fold_of = folds([str(i) for i in range(200)])
    whole = smoothed(scores, word_table(documents), fold_of)
    monkeypatch.setattr("forgetfilter.suspicion.word_table._ENTRIES", 7)
    assert np.array_equal(smoothed(scores, word_table(documents), fold_of), whole)


def test_words_of_one_row_and_of_most_rows_are_left_out():
    table = word_table([["a", "b", "b"], ["once", "all"], ["b", "all"], [], ["a", "all", "all"]])
    assert list(zip(table.rows.tolist(), table.words.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 1), (4, 0)]
    assert (table.count, table.vocabulary) == (5, 2)
    # Both words are in two of five rows; the first row has two of them, and the median row one.
    assert table.weights == pytest.approx([0.5**0.5, 0.5**0.5, 1, 1])


def test_the_prediction_is_that_of_ridge_regression():
    scores, documents, _ = two_topics(60)
    table = word_table(documents)
    matrix = np.zeros((60, table.vocabulary))
    matrix[table.rows, table.words] = table.weights
    known, values = np.arange(60) % 3 > 0, scores[:, 0] - scores[:, 0].mean()
    gram = matrix[known].T @ matrix[known] + RIDGE * np.eye(table.vocabulary)
    expected = matrix @ np.linalg.solve(gram, matrix[known].T @ values[known])
    assert np.allclose(predict(values, known.astype(float), table, RIDGE), expected, atol=1e-3)


def test_no_row_takes_part_in_its_own_prediction():
    scores, documents, _ = two_topics()
    table, fold_of = word_table(documents), folds([str(i) for i in range(200)])
    known = fold_of != fold_of[7]
    changed = scores[:, 0].copy()
    changed[7] += 100
    assert np.array_equal(
        predict(scores[:, 0], known.astype(float), table, RIDGE), predict(changed, known.astype(float), table, RIDGE)
    )
