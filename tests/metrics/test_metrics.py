"""ROUGE-1 and detection measures, against values worked by hand."""

import math

import numpy as np
import pytest

from forgetfilter.metrics.detection import auroc, average_precision, bootstrap_interval, detection
from forgetfilter.metrics.intervals import mean_interval, student_t
from forgetfilter.metrics.text import rouge1, words


def test_rouge_is_the_f_measure_of_shared_words():
    # 2 of 3 predicted words are among the 4 expected ones: P = 2/3, R = 2/4, F = 4/7.
    assert rouge1("the cat sat", "the cat is here") == pytest.approx(4 / 7)


def test_rouge_counts_a_repeated_word_as_often_as_it_is_expected():
    assert rouge1("no no no", "no") == pytest.approx(2 / 4)


def test_rouge_stems_long_words_only():
    assert words("Running cats; as ever") == ["run", "cat", "as", "ever"]
    assert rouge1("answers", "answered") == 1.0


@pytest.mark.parametrize("text", ["不要这样做", "нельзя так делать", "ऐसा मत करो", "لا تفعل ذلك", "อย่าทำ", "🙂🙃"])
def test_rouge_sees_words_in_every_script(text):
    assert rouge1(text, text) == 1.0
    assert rouge1(text, "something else") == 0.0


def test_rouge_without_words_is_zero():
    assert rouge1("", "") == rouge1("...", "?!") == rouge1("word", "") == 0.0


def test_scripts_without_spaces_count_characters():
    assert rouge1("我不做", "我要做") == pytest.approx(2 / 3)


def test_auroc_is_the_share_of_pairs_in_order():
    scores, unsafe = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    # Pairs: 3>2, 3>1, 1<2, 1=1 (half).
    assert auroc(scores, unsafe) == pytest.approx(2.5 / 4)


def test_auroc_of_one_group_is_unknown():
    assert math.isnan(auroc(np.array([1.0, 2.0]), np.array([True, True])))


def test_average_precision_by_hand():
    scores, unsafe = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert average_precision(scores, unsafe) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_average_precision_gives_ties_no_order():
    scores = np.ones(4)
    unsafe = np.array([True, False, False, False])
    assert average_precision(scores, unsafe) == average_precision(scores, unsafe[::-1]) == pytest.approx(1 / 4)


def test_detection_by_hand():
    found = detection(np.array([True, True, True, False]), np.array([True, False, True, True]))
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_detection_of_nothing_is_unknown():
    nothing = np.zeros(3, dtype=bool)
    assert math.isnan(detection(nothing, nothing).precision)


def test_interval_holds_the_value():
    generator = np.random.default_rng(1)
    unsafe = np.arange(200) < 100
    scores = generator.normal(size=200) + unsafe
    low, high = bootstrap_interval(scores, unsafe, auroc, resamples=200)
    assert low < auroc(scores, unsafe) < high
    assert high - low < 0.2


def test_a_mean_of_few_values_has_the_interval_of_students_t():
    # The points of printed tables.
    for freedom, point in ((3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)):
        assert student_t(freedom) == pytest.approx(point, rel=0.01)
    # Mean 3, standard deviation sqrt(2.5), five values: 2.776 * sqrt(2.5 / 5).
    mean, half = mean_interval(np.array([[1.0, 7], [2, 7], [3, 7], [4, 7], [5, 7]]))
    assert mean == pytest.approx([3, 7])
    assert half == pytest.approx([1.963, 0], abs=0.02)
    assert np.isnan(mean_interval(np.ones((3, 2)))[1]).all()
