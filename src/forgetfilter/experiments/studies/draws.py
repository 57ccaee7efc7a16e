"""A study over several draws of a noisy set: mixes that differ by seed alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ...forgetting.estimates import Estimate
from ..comparison.records import mean_estimate
from ..mixing import Mix

_Found = TypeVar("_Found")


def over_draws(draws: Sequence[Mix], find: Callable[[Mix], _Found]) -> _Found:
    """What is found on each draw, averaged; see `averaged`."""
    mean: _Found = averaged([find(mix) for mix in draws])
    return mean


def averaged(found: Sequence[Any]) -> Any:
    """The mean of each estimate in things of one form: estimates, mappings of such things, or dataclasses of them.

    An estimate that some draws do not have is averaged over the others.
    """
    first = found[0]
    if isinstance(first, Estimate):
        return mean_estimate(list(found))
    if isinstance(first, Mapping):
        keys = dict.fromkeys(key for one in found for key in one)
        return {key: averaged([one[key] for one in found if key in one]) for key in keys}
    return replace(first, **averaged([vars(one) for one in found]))
