"""The closing table, as far as its words depend on a few numbers."""

from types import SimpleNamespace

import pytest

from forgetfilter.report.terminal import _by_safe_set, _errors


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
    assert f"Estimated {said}" in _errors(decided(errors))


def decided(errors, reviewer=""):
    given = {"trusted": 1, "known_unsafe": 0, "doubt": "", "cut": 1.0, "planted_unlearned": False}
    return SimpleNamespace(errors=errors, reviewer=reviewer, **given)


def test_beside_marks_the_estimates_are_of_the_filter_alone():
    errors = {"precision": {"value": 0.43, "low": 0, "high": 0.74}, "recall": None}
    assert _errors(decided(errors, "Ada")).startswith("Estimated, of the filter alone: precision 43% (0% to 74%),")


def test_an_interval_without_a_width_is_no_estimate():
    errors = {"precision": {"value": 0.88, "low": 0.88, "high": 0.88}, "recall": None}
    assert _errors(decided(errors)).startswith("Estimated precision unknown, judged by 1 trusted row;")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["sets/no.jsonl", "/data/yes.jsonl"], ["no.jsonl", "yes.jsonl"]),
        (["a/safe.jsonl", "b/safe.jsonl"], ["a/safe.jsonl", "b/safe.jsonl"]),
        (
            ["/data/a/v1/safe.jsonl", "/data/b/v1/safe.jsonl", "builtin"],
            ["a/v1/safe.jsonl", "b/v1/safe.jsonl", "builtin"],
        ),
        (["safe.jsonl", "a/safe.jsonl"], ["safe.jsonl", "a/safe.jsonl"]),
    ],
)
def test_safe_sets_are_told_apart_by_their_shares(names, shown):
    share = {"count": 20, "removed": 0.1, "low": 0.02, "high": 0.3}
    (said,) = _by_safe_set(SimpleNamespace(by_safe_set=dict.fromkeys(names, share)))
    each = ", ".join(f"10% (2% to 30%) of 20 from {name}" for name in shown)
    assert said == f"Of the safe rows set aside, these shares would be removed: {each}"
