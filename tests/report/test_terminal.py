"""The closing table, as far as its words depend on a few numbers."""

from types import SimpleNamespace

import pytest

from forgetfilter.report.terminal import _errors


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.0, 1.0, "precision unknown: 0% to 100%, judged by 1 trusted row;"),
        (0.15, 0.97, "precision unknown: 15% to 97%, judged by 1 trusted row;"),
        (0.71, 0.98, "precision 92% (71% to 98%), judged by 1 trusted row;"),
    ],
)
def test_an_interval_that_says_nothing_has_no_figure(low, high, said):
    errors = {"precision": {"value": 0.92, "low": low, "high": high}, "recall": None}
    summary = SimpleNamespace(errors=errors, trusted=1, known_unsafe=0, doubt="", cut=1.0, planted_unlearned=False)
    assert said in _errors(summary)
