"""The words of rows, numbered in order of appearance, some batches at a time."""

import numpy as np
import pytest

from forgetfilter.suspicion import word_table as module
from forgetfilter.suspicion.word_table import shared_words


def rows(count, start=0):
    """Rows of two common words, of two that are shared by two rows, and of three of their own."""
    for i in range(start, start + count):
        yield [
            f"common{i % 3}",
            f"pair{i // 2}",
            f"common{i % 5}",
            f"pair{i // 2 + 1}",
            *(f"{i}-{k}" for k in range(3)),
        ]


def arrays_of(table):
    return table.count, table.vocabulary, table.rows.tolist(), table.words.tolist(), table.weights.tobytes()


@pytest.mark.parametrize("entries", [1, 7, 50])
def test_batches_of_any_size_make_the_same_tables(monkeypatch, entries):
    documents = [[], *rows(60), [], ["common1"]]
    further = [*rows(40, 30), [], ["pair3", "unheard of"], []]
    table, vocabulary = shared_words(documents)
    weighed = vocabulary.weigh(further)
    monkeypatch.setattr(module, "_ENTRIES", entries)
    again, same = shared_words(documents)
    assert arrays_of(again) == arrays_of(table)
    assert (same.words.to_pylist(), same.numbers.tolist()) == (
        vocabulary.words.to_pylist(),
        vocabulary.numbers.tolist(),
    )
    assert arrays_of(same.weigh(further)) == arrays_of(weighed)


def test_a_number_is_the_place_of_a_word_among_all_words():
    table, vocabulary = shared_words([["a", "b"], ["b", "c"], [], ["c", "d", "e"], ["e"], [], []])
    assert vocabulary.words.to_pylist() == ["b", "c", "e"]
    assert vocabulary.numbers.tolist() == [1, 2, 4]
    assert table.words.tolist() == [1, 1, 2, 2, 4, 4]
    np.testing.assert_array_equal(table.rows, [0, 1, 1, 3, 3, 4])


def test_what_is_hashed_grows_with_the_words_and_not_with_batches_times_words(monkeypatch):
    hashed, look_up = [], module._AllWords.look_up
    monkeypatch.setattr(module, "_ENTRIES", 10)
    monkeypatch.setattr(
        module._AllWords, "look_up", lambda self, words: hashed.append(len(self.words)) or look_up(self, words)
    )
    shared_words(rows(1000))
    words = 5 + 1001 + 3000
    assert sum(hashed) < 2 * words
