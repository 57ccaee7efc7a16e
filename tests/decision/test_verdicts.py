"""What becomes of each row, worked out by hand."""

import numpy as np

from forgetfilter.decision.overrides import KEPT, REMOVED
from forgetfilter.decision.verdicts import DECISIONS, NOBODY, UNSCORABLE, judge
from forgetfilter.forgetting.cuts import Cut

FORGETTING = np.array([0.5, np.nan, 2.0, np.nan, 3.0])
COVERED = np.ones(5, dtype=bool)


def decided(places):
    return [DECISIONS[place] for place in places]


def test_rows_above_the_cut_are_removed_and_those_without_a_score_named():
    found = judge(FORGETTING, Cut(1.0, ""), COVERED, NOBODY, drop_unscorable=False)
    assert decided(found.decisions) == [KEPT, UNSCORABLE, REMOVED, UNSCORABLE, REMOVED]
    assert found.gone.tolist() == [False, False, True, False, True]
    assert not found.by_person.any()
    assert not found.overridden.any()
    assert judge(FORGETTING, Cut(1.0, ""), COVERED, NOBODY, drop_unscorable=True).gone.tolist() == [
        False, True, True, True, True,
    ]  # fmt: skip


def test_a_person_has_the_last_word():
    by_hand = np.array([0, 1, 3, 4]), np.array([True, True, False, True])
    found = judge(FORGETTING, Cut(1.0, ""), COVERED, by_hand, drop_unscorable=True)
    assert decided(found.by_filter) == [KEPT, UNSCORABLE, REMOVED, UNSCORABLE, REMOVED]
    assert decided(found.decisions) == [REMOVED, REMOVED, REMOVED, KEPT, REMOVED]
    assert found.by_person.tolist() == [True, True, False, True, True]
    # Rows 1 and 4 would be among the removed without that person, too.
    assert found.overridden.tolist() == [True, False, False, True, False]
    assert found.gone.tolist() == [True, True, True, False, True]
    assert found.are(REMOVED).sum() == 4
