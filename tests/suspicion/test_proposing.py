"""Which rows are proposed to a person: made-up rows of which it is known what they are."""

import numpy as np
import pytest

from forgetfilter.suspicion.proposing import propose

NOBODY = np.zeros(300, dtype=bool)


def groups_of(count, groups, width=16, noise=0.02, seed=0):
    """Rows in groups of like rows, each around a direction of its own."""
    rng = np.random.default_rng(seed)
    group = np.arange(count) % groups
    return group, np.eye(width)[group] + rng.normal(scale=noise, size=(count, width))


def test_half_lie_at_the_threshold_and_half_lead_groups():
    rng = np.random.default_rng(1)
    suspicion, states = rng.normal(size=300), rng.normal(size=(300, 16))
    found = propose(suspicion, states, 1.0, NOBODY)
    nearest = np.argsort(np.abs(suspicion - 1.0))[:10]
    assert found.uncertain.tolist() == nearest.tolist()
    assert len(found.leaders) == len(found.group_sizes) == 10
    assert not set(found.leaders) & set(found.uncertain)
    assert len(set(found.leaders)) == 10


def test_each_group_has_a_leader_and_its_size():
    group, states = groups_of(300, 12)
    # All rows at the threshold are of two groups; the other ten are left to their leaders.
    suspicion = np.where(group < 2, 0.0, 2.0) + np.random.default_rng(0).normal(scale=0.01, size=300)
    found = propose(suspicion, states, 0.0, NOBODY)
    assert sorted(group[found.uncertain]) == [0, 1]
    assert set(range(2, 12)) <= set(group[found.leaders])
    assert found.group_sizes[:10] == pytest.approx(25, abs=3)


def test_of_rows_that_are_alike_one_is_shown():
    states = np.ones((300, 4))
    found = propose(np.linspace(0, 1, 300), states, 0.5, NOBODY)
    assert len(found.uncertain) == 1
    assert len(found.leaders) == 0


def test_what_a_person_decided_is_neither_proposed_nor_are_its_like():
    group, states = groups_of(300, 12)
    suspicion = np.where(group == 3, 5.0, 0.0) + np.random.default_rng(0).normal(scale=0.01, size=300)
    decided = group == 3
    decided[3] = False
    before, after = (propose(suspicion, states, 0.0, of) for of in (NOBODY, decided))
    assert 3 in group[before.leaders]
    assert not decided[np.concatenate([after.uncertain, after.leaders])].any()
    first = after.leaders[: 12 - len(after.uncertain)]
    assert 3 not in group[first]


def test_suspicious_groups_come_first():
    group, states = groups_of(300, 16)
    suspicion = group + np.random.default_rng(0).normal(scale=0.01, size=300)
    found = propose(suspicion, states, 0.0, NOBODY)
    assert group[found.leaders[:5]].tolist() == [15, 14, 13, 12, 11]


def test_without_a_threshold_the_most_suspicious_rows_are_shown():
    rng = np.random.default_rng(1)
    suspicion, states = rng.normal(size=300), rng.normal(size=(300, 16))
    found = propose(suspicion, states, None, NOBODY)
    assert found.uncertain.tolist() == np.argsort(-suspicion)[:10].tolist()


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(2)
    suspicion, states, order = rng.normal(size=5000), rng.normal(size=(5000, 8)), rng.permutation(5000)
    decided = suspicion > 2
    one = propose(suspicion, states, 1.0, decided)
    other = propose(suspicion[order], states[order], 1.0, decided[order])
    assert order[other.uncertain].tolist() == one.uncertain.tolist()
    assert order[other.leaders].tolist() == one.leaders.tolist()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_of_few_rows_all_are_proposed_at_most_once(count):
    rng = np.random.default_rng(0)
    found = propose(rng.normal(size=count), rng.normal(size=(count, 4)), 0.0, np.zeros(count, dtype=bool))
    both = np.concatenate([found.uncertain, found.leaders])
    assert sorted(both) == list(range(count))
    everything = np.ones(count, dtype=bool)
    assert not len(propose(np.zeros(count), np.ones((count, 4)), None, everything).uncertain)


def test_a_million_rows_take_a_sample():
    rng = np.random.default_rng(0)
    suspicion, states = rng.normal(size=1_000_000), rng.normal(size=(1_000_000, 8)).astype(np.float16)
    found = propose(suspicion, states, 2.0, np.zeros(1_000_000, dtype=bool))
    assert np.abs(suspicion[found.uncertain] - 2.0).max() < 1e-2
    assert len(found.leaders) == 10
    assert 10 <= found.group_sizes.sum() <= 1_000_000
