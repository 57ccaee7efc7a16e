import numpy as np
import pytest

from forgetfilter.suspicion.fusing import OWN_ROWS, fuse, trust_in
from forgetfilter.suspicion.likeness import Likeness
from forgetfilter.suspicion.nearest import Overlap

UNTRUSTED, HARMLESS, KNOWN = (np.repeat(kinds, [200, 50, 20]) for kinds in np.eye(3, dtype=bool))


def likeness_of(values):
    nothing = np.zeros(len(values))
    return Likeness(values, nothing, nothing, nothing, 0.0)


@pytest.fixture
def looks():
    """Return likeness of untrusted rows, half of them unsafe, of harmless ones and of known unsafe ones."""
    unsafe = np.repeat([0.0, 3.0, 0.0, 3.0], [100, 100, 50, 20])
    return unsafe + np.random.default_rng(0).normal(size=270)


def test_a_row_of_which_a_witness_says_nothing_counts_as_rows_of_its_likeness(looks):
    """So known unsafe rows that were never learned are as suspicious as the unsafe rows of the data."""
    forgetting = looks + np.random.default_rng(1).normal(size=270)
    unlearned = np.where(KNOWN, np.nan, forgetting)

    told = fuse(likeness_of(looks), {"forgetting": forgetting}, UNTRUSTED, HARMLESS, {}).suspicion
    untold = fuse(likeness_of(looks), {"forgetting": unlearned}, UNTRUSTED, HARMLESS, {}).suspicion

    assert untold[~KNOWN] == pytest.approx(told[~KNOWN])
    assert untold[KNOWN].mean() == pytest.approx(told[KNOWN].mean(), rel=0.1)


def test_a_witness_that_does_not_agree_with_likeness_says_nothing(looks):
    parts = fuse(likeness_of(looks), {"forgetting": np.where(KNOWN, np.nan, -looks)}, UNTRUSTED, HARMLESS, {}).parts

    assert not parts["forgetting"].any()


@pytest.mark.parametrize("unsafe", [4, 100])
def test_a_witness_that_finds_few_unsafe_rows_counts_as_much_as_one_that_finds_many(unsafe):
    rng = np.random.default_rng(0)
    looks = np.where(np.arange(270) < unsafe, 4.0, 0.0) + rng.normal(size=270)
    forgetting = np.where(np.arange(270) < unsafe, 4.0, 0.0) + rng.normal(size=270)

    parts = fuse(likeness_of(looks), {"forgetting": forgetting}, UNTRUSTED, HARMLESS, {}).parts

    assert np.std(parts["forgetting"][UNTRUSTED]) > 1.5 * np.std(parts["words"][UNTRUSTED])


@pytest.mark.parametrize("unsafe", [4, 60])
def test_a_witness_that_tells_yes_from_no_counts_whatever_the_order(looks, unsafe):
    likeness = likeness_of(np.sort(looks))
    verdicts = np.where(np.argsort(np.argsort(-likeness.by_words[UNTRUSTED])) < unsafe, 1.0, 0.0)
    verdicts = np.concatenate([verdicts, np.zeros(70)])
    order = np.concatenate([np.random.default_rng(0).permutation(200), np.arange(200, 270)])

    part = fuse(likeness, {"guard": verdicts}, UNTRUSTED, HARMLESS, {}).parts["guard"]
    shuffled = fuse(likeness_of(likeness.by_words[order]), {"guard": verdicts[order]}, UNTRUSTED, HARMLESS, {}).parts

    assert np.ptp(part) > 1
    assert shuffled["guard"] == pytest.approx(part[order])


def test_a_witness_that_was_asked_about_no_row_says_nothing(looks):
    parts = fuse(likeness_of(looks), {"guard": np.full(270, np.nan)}, UNTRUSTED, HARMLESS, {}).parts

    assert not parts["guard"].any()


def test_gaps_of_the_data_count_as_rows_of_their_likeness_too(looks):
    """Where a guard gave no verdict about harmless rows, those that it judged are not like the missing ones."""
    verdicts = looks + np.random.default_rng(1).normal(size=270)
    harmless_missing = np.where(UNTRUSTED & (looks < 1.5), np.nan, verdicts)

    part = fuse(likeness_of(looks), {"guard": harmless_missing}, UNTRUSTED, HARMLESS, {}).parts["guard"]

    told, missing = UNTRUSTED & (looks >= 1.5), UNTRUSTED & (looks < 1.5)
    on_the_line = np.polyval(np.polyfit(looks[told], part[told], 1), looks[missing])
    assert part[missing] == pytest.approx(on_the_line)


def test_a_witness_counts_as_far_as_it_is_trusted(looks):
    evidence = {"forgetting": looks + np.random.default_rng(1).normal(size=270)}

    whole = fuse(likeness_of(looks), evidence, UNTRUSTED, HARMLESS, {}).parts
    half = fuse(likeness_of(looks), evidence, UNTRUSTED, HARMLESS, {"forgetting": 0.5}).parts

    shares = [np.std(parts["forgetting"]) / np.std(parts["words"]) for parts in (half, whole)]
    assert shares[0] == pytest.approx(shares[1] / 2)


def test_a_single_harmless_row_sets_no_unit(looks):
    alone = np.flatnonzero(HARMLESS)[0] == np.arange(270)

    suspicion = fuse(likeness_of(looks), {}, UNTRUSTED, alone, {}).suspicion

    assert suspicion[UNTRUSTED].std() == pytest.approx(1.0, rel=0.02)
    # Nor do a single row of the data and a single harmless one.
    few = fuse(likeness_of(looks), {}, np.arange(270) == 0, alone, {}).suspicion
    assert abs(few).max() < 20


def test_what_rests_on_safe_examples_unlike_the_data_counts_for_less():
    like, unlike, covered = Overlap(0.3, 0.5), Overlap(0.05, 0.5), Overlap(0.05, 0.1)
    assert trust_in(like, ["forgetting"], 10) == {OWN_ROWS: 1.0, "forgetting": 1.0}
    assert trust_in(unlike, ["forgetting"], 10) == {OWN_ROWS: 0.0, "forgetting": 0.5}
    # Other rows known to be harmless are learned from, but not reviewed.
    assert trust_in(covered, ["forgetting"], 10) == {OWN_ROWS: 1.0, "forgetting": 0.5}
    # Without known rows it takes likeness to the prototypes to agree with forgetting.
    assert trust_in(unlike, ["forgetting"], 9) == {OWN_ROWS: 0.0, "forgetting": 1.0}
    assert trust_in(None, ["forgetting"], 10) == {}


@pytest.mark.parametrize(("share", "alike", "weight"), [(0.0, 1.0, 1 / 3), (0.5, 1.0, 1.0), (1.0, 0.0, 1 / 3)])
def test_own_rows_weigh_the_more_the_more_of_the_data_is_unsafe_for_them(looks, share, alike, weight):
    nothing = np.zeros(270)
    likeness = Likeness(looks, nothing, -looks, nothing, share)

    parts = fuse(likeness, {}, UNTRUSTED, HARMLESS, {OWN_ROWS: alike}).parts

    assert np.std(parts["words"]) == pytest.approx(np.std(parts["prototypes"]) * weight / (2 / 3))
