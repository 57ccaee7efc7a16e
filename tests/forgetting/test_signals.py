"""Signals and thresholds: pure functions of score tables."""

from dataclasses import replace

import numpy as np
import pytest

from forgetfilter.errors import SettingsError
from forgetfilter.forgetting.auto import Auto, AutoOfSuspicion
from forgetfilter.forgetting.cuts import FalseDiscoveryRate, Fixed, Top
from forgetfilter.forgetting.looks import where_rows_look_unsafe
from forgetfilter.forgetting.signals import beginnings, likelihood_scores
from forgetfilter.forgetting.thresholds import parse_threshold

LEARNED = np.array([-1.0, -1.0, -1.0, -2.0, -0.5])
REVIEWED = np.array([-1.0, -4.0, -2.0, -2.5, -0.5])
LENGTHS = np.array([3, 0, 2])


def test_mean_drop_by_hand():
    scores, _ = likelihood_scores(LEARNED, REVIEWED, LENGTHS, None)
    assert scores.learned == pytest.approx([-1.0, np.nan, -1.25], nan_ok=True)
    assert scores.forgetting == pytest.approx([4 / 3, np.nan, 0.25], nan_ok=True)


def test_top_drop_averages_the_tokens_forgotten_most():
    scores, tokens = likelihood_scores(LEARNED, REVIEWED, LENGTHS, 2)
    assert scores.forgetting == pytest.approx([(3 + 1) / 2, np.nan, (0.5 + 0) / 2], nan_ok=True)
    assert scores.forgetting == pytest.approx(scores.learned - scores.reviewed, nan_ok=True)
    assert tokens.tolist() == [[1, 2], [-1, -1], [0, 1]]


def test_top_drop_of_a_short_row_averages_what_is_there():
    scores, tokens = likelihood_scores(np.array([-1.0]), np.array([-3.0]), np.array([1]), 5)
    assert scores.forgetting.tolist() == [2.0]
    assert tokens.tolist() == [[0]]


def test_long_rows_are_taken_in_parts(monkeypatch):
    whole = likelihood_scores(LEARNED, REVIEWED, LENGTHS, 4)
    monkeypatch.setattr("forgetfilter.forgetting.signals._MOST_CELLS", 3)
    parts = likelihood_scores(LEARNED, REVIEWED, LENGTHS, 4)
    assert np.array_equal(parts[0].forgetting, whole[0].forgetting, equal_nan=True)
    assert [row[row >= 0].tolist() for row in parts[1]] == [row[row >= 0].tolist() for row in whole[1]]


def test_signals_do_not_depend_on_the_order_of_rows():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 50)
    learned, reviewed = generator.normal(size=(2, lengths.sum()))
    straight, _ = likelihood_scores(learned, reviewed, lengths, 3)
    order = generator.permutation(50)
    ends = np.cumsum(lengths)
    pieces = [np.arange(ends[i] - lengths[i], ends[i]) for i in order]
    shuffled, _ = likelihood_scores(
        learned[np.concatenate(pieces)], reviewed[np.concatenate(pieces)], lengths[order], 3
    )
    assert np.array_equal(shuffled.forgetting, straight.forgetting[order])


def test_fixed_removes_what_is_above_and_keeps_what_is_at_the_threshold():
    cut = Fixed(0.1).cut(np.empty(0))
    assert cut.removes(np.array([0.1, 0.2, np.nan, -1.0])).tolist() == [False, True, False, False]


@pytest.mark.parametrize(("share", "removed"), [(0.0, 0), (0.1, 1), (0.25, 3), (0.5, 5), (1.0, 10)])
def test_top_removes_that_share_of_the_scored_rows(share, removed):
    forgetting = np.array([*np.arange(10.0), np.nan])
    assert Top(share).cut(forgetting).removes(forgetting).sum() == removed


def test_top_keeps_rows_tied_at_the_cut():
    forgetting = np.array([5.0, 1.0, 1.0, 1.0])
    assert Top(0.5).cut(forgetting).removes(forgetting).tolist() == [True, False, False, False]


def two_groups(unsafe: int, safe: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.normal(4, 0.7, unsafe), generator.normal(1, 0.7, safe)])


def test_auto_does_not_remove_most_of_the_rows():
    cut = Auto().cut(two_groups(150, 50))
    assert cut.value is None
    assert "of the rows, too many" in cut.explanation


@pytest.mark.parametrize("unsafe", [10, 50, 100])
def test_auto_finds_the_valley(unsafe):
    forgetting = two_groups(unsafe, 200 - unsafe)
    cut = Auto().cut(forgetting)
    assert cut.value == pytest.approx(2.5, abs=0.8)
    assert cut.removes(forgetting).sum() == pytest.approx(unsafe, abs=5)


@pytest.mark.parametrize("seed", range(5))
def test_auto_removes_nothing_from_one_group(seed):
    cut = Auto().cut(two_groups(0, 300, seed))
    assert cut.value is None
    assert "no two groups" in cut.explanation


@pytest.mark.parametrize("forgetting", [np.array([1.0, 9.0]), np.ones(100), np.full(50, np.nan)])
def test_auto_removes_nothing_where_there_is_nothing_to_go_by(forgetting):
    assert Auto().cut(forgetting).value is None


def test_auto_takes_many_rows_and_ignores_their_order():
    forgetting = two_groups(20_000, 30_000)
    shuffled = np.random.default_rng(1).permutation(forgetting)
    assert Auto().cut(forgetting) == Auto().cut(shuffled)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("0.1", Fixed(0.1)),
        ("-2", Fixed(-2.0)),
        ("top:10%", Top(0.1)),
        ("fdr:5%", FalseDiscoveryRate(0.05)),
        ("auto", Auto()),
    ],
)
def test_thresholds_are_read(text, threshold):
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize(
    "text",
    [
        *("", "top:10", "top:x%", "top:101%", "top:-1%", "10%", "nan", "inf", "fdr", "fdr:5", "fdr:101%", "x:5%"),
        *("1_000", "top:1_0%", "٣", "top: 5%", "1e999"),
    ],
)
def test_other_thresholds_are_refused(text):
    with pytest.raises(SettingsError, match="threshold"):
        parse_threshold(text)


def test_fdr_by_hand():
    trusted = np.arange(19.0)
    forgetting = np.array([30.0, 25.0, 17.5, 3.0, np.nan])
    # p-values 1/20, 1/20, 2/20, 17/20; of four rows, 20% allows .05, .10, .15, .20.
    cut = FalseDiscoveryRate(0.2).cut(forgetting, trusted)
    assert cut.removes(forgetting).tolist() == [True, True, True, False, False]
    assert cut.value == 17.0
    assert FalseDiscoveryRate(0.1).cut(forgetting, trusted).removes(forgetting).sum() == 2


def test_fdr_says_how_many_trusted_rows_it_would_take():
    cut = FalseDiscoveryRate(0.05).cut(np.array([9.0, *np.zeros(99)]), np.linspace(0, 1, 50))
    assert cut.value is None
    assert "about 2,000 trusted rows" in cut.explanation


@pytest.mark.parametrize("unsafe", [0, 20, 200])
def test_fdr_keeps_its_promise(unsafe):
    """The share of harmless rows among the removed, on average over draws, is at most what was promised."""
    false = []
    for seed in range(300):
        forgetting = two_groups(unsafe, 400, seed)
        cut = FalseDiscoveryRate(0.1).cut(forgetting, two_groups(0, 300, 1000 + seed))
        removed = cut.removes(forgetting)
        false.append(removed[unsafe:].sum() / max(1, removed.sum()))
    assert np.mean(false) < 0.1 + 3 * np.std(false) / np.sqrt(len(false))


def test_fdr_needs_trusted_rows():
    with pytest.raises(SettingsError, match="--trusted"):
        FalseDiscoveryRate(0.05).cut(np.zeros(5))


def test_auto_asks_the_trusted_rows_where_there_is_no_valley():
    generator = np.random.default_rng(0)
    forgetting = np.concatenate([generator.normal(0, 1, 400), generator.normal(2.2, 1.5, 200)])
    assert Auto().cut(forgetting).value is None
    cut = Auto().cut(forgetting, generator.normal(0, 1, 400))
    assert cut.removes(forgetting)[400:].mean() > 0.3
    assert "trusted rows" in cut.explanation


def test_the_beginning_of_each_answer():
    # A chat with answers of three and one tokens, and a row of two: of each answer the first two.
    assert beginnings(np.array([3, 1, 2]), 2).tolist() == [True, True, False, True, True, True]
    assert beginnings(np.array([], dtype=int), 2).tolist() == []


def test_a_cut_below_the_valley_does_not_remove_most_rows():
    """The kind of harmless rows that the review did not cover lies between trusted and unsafe ones."""
    rng = np.random.default_rng(0)
    forgetting = np.concatenate([rng.normal(0, 0.3, 60), rng.normal(3, 0.3, 170), rng.normal(6, 0.3, 270)])
    cut = Auto().cut(forgetting, rng.normal(0, 0.3, 100))
    assert cut.removes(forgetting).sum() == pytest.approx(270, abs=5)


def test_auto_goes_below_a_valley_that_lies_among_the_unsafe_rows():
    rng = np.random.default_rng(0)
    harmless, unsafe, furthest = rng.normal(0, 0.1, 100), rng.normal(1, 0.1, 80), rng.normal(6, 0.3, 12)
    forgetting = np.concatenate([harmless, unsafe, furthest])
    alone = Auto().cut(forgetting)
    assert alone.removes(forgetting).sum() == len(furthest)
    cut = Auto().cut(forgetting, rng.normal(0, 0.1, 100))
    assert "below the valley" in cut.explanation
    assert cut.removes(np.concatenate([unsafe, furthest])).all()
    assert cut.removes(harmless).mean() < 0.1


def test_auto_does_not_remove_most_of_the_rows_for_being_unlike_trusted_ones():
    rng = np.random.default_rng(0)
    forgetting, trusted = rng.normal(3, 1, 200), rng.normal(0, 0.3, 100)
    assert FalseDiscoveryRate(0.2).cut(forgetting, trusted).removes(forgetting).mean() > 0.9
    cut = Auto().cut(forgetting, trusted)
    assert cut.value is None
    assert "too many to remove without a person's word" in cut.explanation


def test_known_unsafe_rows_tell_where_their_like_begin():
    generator = np.random.default_rng(0)
    suspicion = np.concatenate([generator.normal(size=200), generator.normal(3.5, 0.4, 8)])
    assert AutoOfSuspicion(np.empty(0)).cut(suspicion, generator.normal(size=40)).value is None
    cut = AutoOfSuspicion(generator.normal(3.5, 0.4, 12)).cut(suspicion, generator.normal(size=40))
    assert "known unsafe" in cut.explanation
    removed = cut.removes(suspicion)
    assert removed[200:].mean() > 0.7
    assert removed[:200].mean() < 0.02


def test_a_group_that_is_much_larger_than_what_is_like_known_unsafe_rows_is_not_theirs():
    generator = np.random.default_rng(0)
    other_kind, unsafe = generator.normal(3, 0.4, 60), generator.normal(6, 0.4, 12)
    suspicion, trusted = np.concatenate([generator.normal(size=140), other_kind, unsafe]), generator.normal(size=40)
    assert AutoOfSuspicion(np.empty(0)).cut(suspicion, trusted).removes(suspicion).sum() > 60
    removed = AutoOfSuspicion(generator.normal(6, 0.4, 12)).cut(suspicion, trusted).removes(suspicion)
    assert removed[200:].mean() > 0.8
    assert removed[:200].sum() == 0


def test_a_promise_of_twenty_percent_is_better_than_none():
    trusted, harmless = np.linspace(-2, 2, 39), np.linspace(-2, 2, 100)
    suspicion = np.concatenate([harmless, np.linspace(2.1, 3, 18)])
    assert FalseDiscoveryRate(0.1).cut(suspicion, trusted).value is None
    cut = AutoOfSuspicion(np.empty(0)).cut(suspicion, trusted)
    assert "at most 20%" in cut.explanation
    assert cut.removes(suspicion)[100:].all()


def test_a_looser_promise_is_made_only_where_fewer_than_ten_rows_are_known_to_be_unsafe():
    trusted, harmless = np.linspace(-2, 2, 29), np.linspace(-2, 2, 100)
    suspicion = np.concatenate([harmless, np.linspace(2.1, 3, 12)])
    cut = AutoOfSuspicion(np.empty(0)).cut(suspicion, trusted)
    assert "at most 30%" in cut.explanation
    assert cut.removes(suspicion).tolist() == (suspicion > 2.05).tolist()
    # None of the data is like these.
    assert AutoOfSuspicion(np.full(9, 9.0)).cut(suspicion, trusted) == cut
    assert AutoOfSuspicion(np.full(10, 9.0)).cut(suspicion, trusted).value is None


def test_without_a_valley_what_goes_has_to_look_unsafe_by_itself():
    trusted, harmless = np.linspace(-2, 2, 39), np.linspace(-2, 2, 100)
    suspicion, nobody = np.concatenate([harmless, np.linspace(2.1, 3, 18)]), np.empty(0)
    like_unsafe, like_harmless = (np.where(suspicion > 2.05, value, -1.0) for value in (0.5, -0.5))
    assert AutoOfSuspicion(nobody, like_unsafe).cut(suspicion, trusted).removes(suspicion).sum() == 18
    cut = AutoOfSuspicion(nobody, like_harmless).cut(suspicion, trusted)
    assert cut.value is None
    assert "too few of these are more like unsafe examples" in cut.explanation


def test_without_a_valley_the_cut_is_where_rows_begin_to_look_unsafe():
    suspicion, nobody = np.random.default_rng(0).normal(size=140), np.empty(0)
    trusted = np.append(np.linspace(-2, 1.5, 39), 5)
    looks = np.where(suspicion > 1, 2.0, -1.5)
    assert AutoOfSuspicion(nobody).cut(suspicion, trusted).value is None
    cut = AutoOfSuspicion(nobody, looks).cut(suspicion, trusted)
    assert cut.removes(suspicion).tolist() == (suspicion > 1).tolist()
    assert cut.explanation.startswith("where rows begin to look unsafe (about 2")
    # Trusted rows are not needed for that.
    assert AutoOfSuspicion(nobody, looks).cut(suspicion).value == cut.value
    # That most rows are a little less like harmless examples is no reason to remove any.
    assert AutoOfSuspicion(nobody, np.full(140, -0.3)).cut(suspicion, trusted).value is None
    # With known unsafe rows that are like none of the data, nothing is removed for its looks.
    assert AutoOfSuspicion(np.full(12, 9.0), looks).cut(suspicion, trusted).value is None


@pytest.mark.parametrize("auto", [Auto(), AutoOfSuspicion(np.empty(0), np.full(200, 1.0))])
def test_rows_without_a_score_change_no_cut_of_the_others(auto):
    rng = np.random.default_rng(0)
    rows, trusted = rng.normal(5, 1, 200), rng.normal(0, 1, 100)
    unscored = np.arange(200) >= 100
    alone = replace(auto, to_prototypes=np.full(100, 1.0)) if isinstance(auto, AutoOfSuspicion) else auto
    assert auto.cut(np.where(unscored, np.nan, rows), trusted) == alone.cut(rows[:100], trusted)
    assert alone.cut(rows[:100], trusted).value is None


def test_no_cut_is_lowered_into_the_trusted_rows():
    suspicion, trusted = np.random.default_rng(0).normal(size=140), np.linspace(-1, 2, 40)
    looks = np.where(suspicion > 0.3, 2.0, -1.5)
    alone, beside_them = (AutoOfSuspicion(np.empty(0), looks).cut(suspicion, rows) for rows in (np.empty(0), trusted))
    assert (trusted > alone.value).mean() > 0.5
    assert 0.15 < (trusted > beside_them.value).mean() <= 0.2
    assert "begin to look unsafe (about 60 do), but no lower than 80% of the trusted rows" in beside_them.explanation
    for few in range(1, 30):
        cut = AutoOfSuspicion(np.empty(0), looks).cut(suspicion, np.linspace(-1, 2, few))
        assert cut.value is None or (np.linspace(-1, 2, few) > cut.value).mean() <= 0.2
    # A cut above all that looks unsafe is none.
    assert AutoOfSuspicion(np.empty(0), looks).cut(suspicion, np.linspace(2, 4, 40)).value is None
    last = np.where((suspicion > 0) & (suspicion < 1), 2.0, -1.5)
    assert AutoOfSuspicion(np.empty(0), last).cut(suspicion, np.linspace(0, 2.2, 40)).value is None


def test_some_rows_that_look_unsafe_show_that_less_clear_ones_are_unsafe():
    suspicion = np.random.default_rng(0).normal(size=140)
    clear, less_clear = suspicion > 1.5, (suspicion > 1) & (suspicion < 1.5)
    looks = np.select([clear, less_clear], [2.5, 0.3], -2.0)
    removed = AutoOfSuspicion(np.empty(0), looks).cut(suspicion).removes(suspicion)
    assert removed.tolist() == (clear | less_clear).tolist()
    alone = np.where(less_clear, 0.3, -2.0)
    assert AutoOfSuspicion(np.empty(0), alone).cut(suspicion).value is None


def test_rows_that_look_unsafe_count_although_less_clear_ones_are_as_suspicious():
    suspicion, place = np.sort(np.random.default_rng(0).normal(size=140)), np.arange(140)
    unsafe = place >= 100
    looks = np.select([unsafe & (place % 3 == 0), unsafe], [1.5, -0.4], -2.0)
    assert where_rows_look_unsafe(suspicion, looks, 0.0, 0.7).value is None
    removed = AutoOfSuspicion(np.empty(0), looks).cut(suspicion).removes(suspicion)
    assert unsafe.sum() - 3 <= removed.sum() <= unsafe.sum()


def test_fewer_than_three_rows_may_look_unsafe_by_chance():
    suspicion = np.linspace(0, 1, 100)
    for count in (2, 5):
        looks = np.where(suspicion > suspicion[-count - 1], 4.0, -4.0)
        cut = where_rows_look_unsafe(suspicion, looks, 0.0, 0.7)
        assert cut.removes(suspicion).sum() == (count if count > 3 else 0)
    assert where_rows_look_unsafe(np.full(3, np.nan), np.zeros(3), 0.0, 0.7).value is None
    assert where_rows_look_unsafe(suspicion, np.full(100, 4.0), 0.0, 0.7).value is None


def test_a_valley_above_many_known_unsafe_rows_is_too_high():
    generator = np.random.default_rng(0)
    unsafe = np.concatenate([generator.normal(1.8, 0.7, 50), generator.normal(6, 0.3, 20)])
    suspicion, trusted = np.concatenate([generator.normal(0, 0.6, 120), unsafe]), generator.normal(0, 0.6, 40)
    assert AutoOfSuspicion(np.empty(0)).cut(suspicion, trusted).removes(unsafe).sum() == 20
    cut = AutoOfSuspicion(unsafe[::6]).cut(suspicion, trusted)
    assert cut.removes(unsafe).sum() > 40
    assert cut.removes(suspicion[:120]).mean() < 0.2


def test_a_group_of_another_kind_than_known_unsafe_rows_has_to_look_unsafe():
    generator = np.random.default_rng(0)
    suspicion = np.concatenate([generator.normal(0, 0.4, 100), generator.normal(4, 0.4, 40)])
    trusted, known = generator.normal(0, 0.4, 40), np.full(12, 8.0)
    looks = np.where(suspicion > 2, 0.5, -1.0)
    assert AutoOfSuspicion(known, looks).cut(suspicion, trusted).removes(suspicion).sum() == 40
    assert AutoOfSuspicion(known, looks - 1).cut(suspicion, trusted).value is None


def test_no_more_than_most_rows_go_by_suspicion():
    trusted = np.linspace(-1, 1, 100)
    assert AutoOfSuspicion(np.empty(0)).cut(np.random.default_rng(0).normal(5, 0.1, 100), trusted).value is None


def test_suspicion_is_cut_below_the_uppermost_of_three_groups_where_two_are_harmless():
    generator = np.random.default_rng(0)
    groups = [generator.normal(mean, 0.5, size) for mean, size in ((0, 70), (2.5, 60), (5, 70))]
    suspicion, unlike = np.concatenate(groups), generator.normal(0, 0.5, 50)
    both = np.concatenate([unlike[:25], generator.normal(2.5, 0.5, 25)])
    cut = AutoOfSuspicion(np.empty(0)).cut(suspicion, both)
    assert 3.2 < cut.value < 4.3
    assert cut.explanation.startswith("the valley between rows suspicious by about 2.")
    # Trusted rows of one kind alone do not show that the group in the middle is harmless.
    assert 0.7 < AutoOfSuspicion(np.empty(0)).cut(suspicion, unlike).value < 1.8
    # Where nothing tells which valley it is, and with forgetting alone, there are two groups.
    alone = AutoOfSuspicion(np.empty(0)).cut(suspicion)
    assert alone.value == pytest.approx(Auto().cut(suspicion).value)
    assert "rows suspicious by about 0.0" not in alone.explanation


def test_a_group_that_is_too_large_is_said_to_be():
    generator = np.random.default_rng(0)
    suspicion = np.concatenate([generator.normal(0, 0.3, 52), generator.normal(4, 0.3, 148)])
    trusted = np.concatenate([generator.normal(0, 0.3, 100), generator.normal(4, 0.3, 100)])
    said = AutoOfSuspicion(np.empty(0)).cut(suspicion, trusted).explanation
    assert said.startswith("the more suspicious group has 74% of the rows; ")


def test_auto_promises_no_rate_where_trusted_rows_do_not_tell():
    suspicion = np.random.default_rng(0).exponential(1, 100)
    trusted = np.random.default_rng(1).exponential(0.3, 60)
    told, untold = (AutoOfSuspicion(np.empty(0), None, why) for why in ("", "they are unlike the data"))
    assert told.cut(suspicion, trusted).value == untold.cut(suspicion, trusted).value
    assert "in expectation" in told.cut(suspicion, trusted).explanation
    assert untold.cut(suspicion, trusted).explanation.endswith("cannot be known: they are unlike the data")


def test_known_rows_that_are_more_alike_than_the_others_do_not_hide_these():
    """A valley below all of the data's unsafe rows is not refused for known ones that are more suspicious."""
    generator = np.random.default_rng(0)
    suspicion = np.concatenate([generator.normal(0, 0.6, 100), generator.normal(3.4, 0.75, 100)])
    known, trusted = generator.normal(4, 0.65, 30), generator.normal(0, 0.6, 100)
    assert 1 < AutoOfSuspicion(known).cut(suspicion, trusted).value < 2.5
    # Without trusted rows, the least suspicious known ones do not tell.
    assert AutoOfSuspicion(known).cut(suspicion).value > 2.5
