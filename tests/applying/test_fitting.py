"""The rule of a run, and where it cuts."""

import numpy as np
import pytest

from forgetfilter.applying.fitting import FittedRule
from forgetfilter.errors import SettingsError
from forgetfilter.suspicion.distilled import DistilledRule


def fitted(trusted, set_aside, unlike="", unlearned=False):
    data = np.concatenate([np.linspace(0, 3, 60), np.linspace(5, 6, 40)])
    return FittedRule(DistilledRule(np.empty(0)), "", "", data, data, data > 4, trusted, set_aside, unlike, unlearned)


def test_a_rate_of_false_removals_is_that_of_the_less_like_kind_as_in_the_run():
    ordinary, safe = np.linspace(-1, 0, 50), np.linspace(0, 3, 50)
    of_one, both = fitted(ordinary, np.zeros(50, dtype=bool)), np.repeat([False, True], 50)
    of_two = fitted(np.concatenate([ordinary, safe]), both)
    assert of_one.cut("fdr:20%").explanation.endswith(
        "it would keep 0 of 100 rows, too few to show whether the trusted rows are like the harmless rows of the data"
    )
    assert 40 <= of_two.cut("fdr:20%").removes(of_two.predicted).sum() <= 50


def test_a_rate_is_not_promised_where_trusted_rows_tell_nothing():
    unlike = fitted(np.linspace(0, 1, 50), np.zeros(50, dtype=bool), "the safe examples are hardly like the data")
    cut = unlike.cut("fdr:20%")
    assert cut.value is None
    assert cut.explanation.endswith(": the safe examples are hardly like the data")
    assert unlike.cut("top:40%").removes(unlike.predicted).sum() == 40


def test_trusted_rows_that_nothing_learned_promise_nothing_as_in_the_run():
    elsewhere = fitted(np.linspace(0, 1, 50), np.zeros(50, dtype=bool), unlearned=True)
    with pytest.raises(SettingsError, match="with --learned none were"):
        elsewhere.cut("fdr:20%")
