"""Averages the results of a study over several draws of a noisy set: mixes that differ by seed alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ...forgetting.estimates import Estimate
from ..comparison.records import mean_estimate
from ..mixing import Mix

_Result = TypeVar("_Result")


def mean_over_draws(draws: Sequence[Mix], measure: Callable[[Mix], _Result]) -> _Result:
    """Measure each draw, and average the results; see `average`."""
    mean: _Result = average([measure(mix) for mix in draws])
    return mean


def average(results: Sequence[Any]) -> Any:
    """Average results of the same form, estimate by estimate: estimates, or mappings or dataclasses of results.

    An estimate that some draws lack is averaged over the others.
    """
    first = results[0]
    if isinstance(first, Estimate):
        return mean_estimate(list(results))
    if isinstance(first, Mapping):
        keys = dict.fromkeys(key for result in results for key in result)
        return {key: average([result[key] for result in results if key in result]) for key in keys}
    return replace(first, **average([vars(result) for result in results]))
