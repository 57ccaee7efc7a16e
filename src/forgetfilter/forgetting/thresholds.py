"""Where to cut: rows forgotten more than the threshold are removed. Thresholds see forgetting alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

FloatArray = NDArray[np.floating]
_NO_ROWS: FloatArray = np.empty(0)


@dataclass(frozen=True)
class Cut:
    """A threshold's answer: rows with forgetting above `value` are removed; None removes nothing."""

    value: float | None
    explanation: str

    def removes(self, forgetting: FloatArray) -> NDArray[np.bool_]:
        """Which rows are removed, shape (n,); rows without a score (NaN) never are."""
        if self.value is None:
            return np.zeros(len(forgetting), dtype=bool)
        above: NDArray[np.bool_] = np.nan_to_num(forgetting, nan=-np.inf) > self.value
        return above


class Threshold(Protocol):
    """Decides where to cut.

    `cut` takes the forgetting of all rows, shape (n,), and that of trusted rows, shape (m,), where some were
    learned along with the data; NaN where unscored.
    """

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut: ...


@dataclass(frozen=True)
class Fixed:
    """The paper's threshold φ, in the signal's unit."""

    phi: float

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:  # noqa: ARG002
        return Cut(self.phi, f"fixed at {self.phi:g}")


@dataclass(frozen=True)
class Top:
    """The share of the scored rows that was forgotten most, 0 to 1; rows tied at the cut are kept."""

    share: float

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:  # noqa: ARG002
        scored = np.sort(forgetting[~np.isnan(forgetting)])[::-1]
        count = int(self.share * len(scored) + 0.5)
        said = f"the {100 * self.share:g}% of the rows with the largest values"
        if count == 0:
            return Cut(None, said + ", which is no row")
        value = float(scored[count]) if count < len(scored) else float(np.nextafter(scored[-1], -np.inf))
        return Cut(value, said)


@dataclass(frozen=True)
class FalseDiscoveryRate:
    """The cut whose removed rows are harmless to at most this share, in expectation; 0 to 1.

    A row's conformal p-value is the share of trusted rows (and itself) that are forgotten as much; the
    procedure of Benjamini and Hochberg, with Storey's estimate of the number of harmless rows, finds how many of
    the smallest can be removed (Bates et al., Testing for outliers with conformal p-values, 2023). It holds as
    far as the trusted rows are forgotten as the harmless rows of the data are.

    Raises:
        SettingsError: By `cut`, where there are no trusted rows.
    """

    rate: float

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        scored, known = np.sort(forgetting[~np.isnan(forgetting)])[::-1], np.sort(trusted[~np.isnan(trusted)])
        if not len(known):
            raise self.no_trusted_rows()
        p_values = (1 + len(known) - np.searchsorted(known, scored, side="left")) / (len(known) + 1)
        # Storey's estimate of how many rows are harmless: their p-values are spread evenly, so those above a half
        # stand for all of them.
        harmless = min(len(scored), 2 * (1 + int((p_values > 0.5).sum())))
        counts = np.arange(1, len(scored) + 1)
        small = np.flatnonzero(p_values <= self.rate * counts / max(1, harmless))
        if not len(small):
            # The smallest p-value is 1 / (trusted + 1), so that a few unsafe rows take many trusted ones to tell.
            above = max(1, int((scored > known[-1]).sum()))
            wanted = int(np.ceil(harmless / (self.rate * above))) if self.rate else 0
            more = f"; it would take about {wanted:,} trusted rows to tell" if wanted > len(known) else ""
            return Cut(None, f"no cut keeps the promise of {100 * self.rate:g}% with {len(known):,} trusted rows{more}")
        last = scored[small[-1]]
        below = np.concatenate([scored[scored < last][:1], known[known < last][-1:]])
        return Cut(
            float(below.max() if len(below) else np.nextafter(last, -np.inf)),
            f"at most {100 * self.rate:g}% of the removed rows are harmless, in expectation, judged by {len(known):,} "
            "trusted rows",
        )

    def no_trusted_rows(self) -> SettingsError:
        """What is wrong where no row is known to be harmless."""
        return SettingsError(
            f"threshold fdr:{100 * self.rate:g}% rests on rows known to be harmless that were learned with the data; "
            "run 'forgetfilter filter' with --trusted FILE, --trusted builtin or --set-aside 0.5"
        )


@dataclass(frozen=True)
class Auto:
    """The valley between two groups of rows: one that was forgotten little, one that was forgotten much.

    Two normal distributions are fitted to the forgetting of all rows. The cut is where the density between
    their means is lowest. Where one distribution explains the rows as well, no valley lies between the two,
    or the group that was forgotten more has most of the rows, there is none; then the false discovery rate
    decides where there are trusted rows, and nothing is removed where there are none. A valley may also lie far out,
    between most unsafe rows and a few that were forgotten more still; so trusted rows may let more go than it does.
    """

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        valley = find_valley(forgetting, "forgotten", _LARGEST_SHARE)
        known = trusted[~np.isnan(trusted)]
        if not len(known):
            return valley
        if valley.value is not None and float((known > valley.value).mean()) <= _MOST_TRUSTED:
            further = FalseDiscoveryRate(_RATE_BELOW_VALLEY).cut(forgetting, known)
            if further.value is None or further.value >= valley.value:
                return valley
            return Cut(further.value, f"below the valley at {valley.value:.3g}; {further.explanation}")
        found = FalseDiscoveryRate(_RATE).cut(forgetting, known)
        if (share := float(found.removes(forgetting).mean())) > _LARGEST_SHARE:
            return Cut(None, f"{share:.0%} of the rows were forgotten more than trusted rows, {_TOO_MANY}")
        why = _NO_GROUPS if valley.value is None else "beyond the valley lie too many trusted rows"
        return Cut(found.value, f"{why}; {found.explanation}")


@dataclass(frozen=True)
class AutoOfSuspicion:
    """The same for all evidence together, of which two groups of rows tell better than trusted rows do.

    The cut is the valley between two groups, unless trusted rows say that most rows beyond it are harmless. Where there
    is none, rows known to be unsafe tell where their like begin, and else the false discovery rate decides.

    Attributes:
        known_unsafe: Suspicion of rows known to be unsafe, shape (k,).
    """

    known_unsafe: FloatArray

    def cut(self, suspicion: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        valley, known = find_valley(suspicion, "suspicious", _LARGEST_OF_SUSPICION), trusted[~np.isnan(trusted)]
        like_unsafe = _where_unsafe_begin(suspicion, known, self.known_unsafe[~np.isnan(self.known_unsafe)])
        if not len(known):
            return valley if valley.value is not None or like_unsafe is None else like_unsafe
        if valley.value is not None and _harmless_share(suspicion, known, valley.value) <= _MOST_HARMLESS:
            return valley
        if like_unsafe is not None:
            return like_unsafe
        # Where no cut keeps the better promise, the lesser one is better than none.
        cuts = [FalseDiscoveryRate(rate).cut(suspicion, known) for rate in _RATES_OF_SUSPICION]
        found = next((cut for cut in cuts if cut.value is not None), cuts[0])
        if (share := float(found.removes(suspicion).mean())) > _LARGEST_OF_SUSPICION:
            return Cut(None, f"{share:.0%} of the rows are more suspicious than trusted rows, {_TOO_MANY}")
        why = _NO_GROUPS if valley.value is None else "beyond the valley lie too many trusted rows"
        return Cut(found.value, f"{why}; {found.explanation}")


def _where_unsafe_begin(suspicion: FloatArray, trusted: FloatArray, unsafe: FloatArray) -> Cut | None:
    """The cut with the largest F1, were unsafe rows of the data as suspicious as known ones; None where few are there.

    How many there are is told by the rows beyond most, and beyond half, of the known unsafe ones.
    """
    scored = suspicion[~np.isnan(suspicion)]
    if len(unsafe) < _FEWEST_UNSAFE or not len(scored):
        return None
    there = 0.0
    for share in (0.25, 0.5):
        place = float(np.quantile(unsafe, share))
        by_chance = len(scored) * float((trusted > place).mean()) if len(trusted) else 0.0
        beyond = float((scored > place).sum()) - by_chance
        if beyond > 2 * by_chance**0.5:
            there = max(there, beyond / max(float((unsafe > place).mean()), 1e-9))
    if there < _FEWEST_THERE:
        return None
    cuts = np.unique(np.concatenate([scored, unsafe]))
    removed, recall = (len(of) - np.searchsorted(np.sort(of), cuts, side="right") for of in (scored, unsafe))
    best = cuts[np.argmax(2 * there * recall / len(unsafe) / (removed + there))]
    return Cut(
        float(best),
        f"where rows like the {len(unsafe):,} known unsafe ones begin, of which there are about {there:.0f}",
    )


def _harmless_share(suspicion: FloatArray, trusted: FloatArray, cut: float) -> float:
    """The share of the rows beyond a cut that is harmless, were harmless rows as suspicious as trusted ones."""
    beyond, lost = float((suspicion > cut).sum()), float((trusted > cut).mean())
    kept = float((suspicion <= cut).sum())
    return min(1.0, lost / max(1 - lost, 1e-9) * kept / max(beyond, 1.0))


def find_valley(forgetting: FloatArray, how: str, largest: float) -> Cut:
    """The cut between two groups of rows, or why there is none.

    Args:
        forgetting: Of the rows, NaN where unscored; or another suspicion.
        how: What rows are by it.
        largest: The largest share of the rows that may lie beyond it.
    """
    scored = np.sort(forgetting[~np.isnan(forgetting)])
    if len(scored) < _FEWEST_ROWS:
        return Cut(None, f"{len(scored)} scored rows are too few to tell two groups apart; it takes {_FEWEST_ROWS}")
    # Evenly spaced quantiles stand for the rows where there are many, so that the fit takes no longer.
    sample = scored if len(scored) <= _MOST_POINTS else np.quantile(scored, np.linspace(0, 1, _MOST_POINTS))
    groups = _fit_two_groups(sample)
    if groups is None:
        return Cut(None, _NOTHING)
    value, depth = _lowest(groups)
    if depth > _SHALLOW:
        return Cut(None, _NOTHING)
    share = float((scored > value).mean())
    if share > largest:
        return Cut(None, f"the group {how} more has {share:.0%} of the rows, {_TOO_MANY}")
    low, high = groups.means
    return Cut(value, f"the valley between rows {how} by about {low:.3g} and rows {how} by about {high:.3g}")


_FEWEST_ROWS = 20
# The false discovery rate where there is no valley, that of rows on this side of one, and the share of the trusted rows
# that may lie beyond one.
_RATE, _RATE_BELOW_VALLEY = 0.2, 0.05
_MOST_TRUSTED = 0.1
# Of all evidence together: the false discovery rates where there is no valley, the better first, and the share of rows
# beyond one that may be harmless (docs/evidence.md).
_RATES_OF_SUSPICION, _MOST_HARMLESS = (0.1, 0.2), 0.5
# Other evidence than forgetting speaks against the larger group, too.
_LARGEST_OF_SUSPICION = 0.7
# Fewer known unsafe rows do not tell how unsafe rows look, nor do fewer of the data that they are not there by chance.
_FEWEST_UNSAFE, _FEWEST_THERE = 10, 3
_MOST_POINTS = 4096
# A valley has at most this share of the density of the lower of its two hills.
_SHALLOW = 0.8
# Unsafe rows are seldom the majority; a larger group is more likely a whole kind of harmless rows, all of
# which the review made the model forget because the safe examples are of another kind.
_LARGEST_SHARE = 0.6
_TOO_MANY = (
    "too many to remove without a person's word; use a safe set that covers more of the data, or set a threshold, "
    "such as top:5%"
)
_NO_GROUPS = "the rows form no two groups"
_NOTHING = f"{_NO_GROUPS}, so nothing is removed; look at the topmost ones and set a threshold, such as top:5%"


@dataclass(frozen=True)
class _Groups:
    """A mixture of two normal distributions, the one with the smaller mean first; arrays of shape (2,)."""

    shares: FloatArray
    means: FloatArray
    spreads: FloatArray

    def densities(self, values: FloatArray) -> FloatArray:
        """Each group's share of the density, shape (len(values), 2)."""
        z = (values[:, None] - self.means) / self.spreads
        densities: FloatArray = self.shares * np.exp(-0.5 * z**2) / (self.spreads * np.sqrt(2 * np.pi))
        return densities


def _fit_two_groups(values: FloatArray) -> _Groups | None:
    """The best fit from several starting points, or None where one normal distribution does as well (BIC)."""
    least_spread = 0.01 * (values[-1] - values[0])
    if least_spread <= 0:
        return None
    fits = [
        _expectation_maximisation(values, int(share * len(values)), least_spread) for share in (0.5, 0.75, 0.9, 0.97)
    ]
    likelihood, groups = max(fits, key=lambda fit: fit[0])
    one = -len(values) * (np.log(values.std() * np.sqrt(2 * np.pi)) + 0.5)
    if 2 * (likelihood - one) <= 3 * np.log(len(values)):
        return None
    return groups


def _expectation_maximisation(
    values: FloatArray, split: int, least_spread: float, rounds: int = 200
) -> tuple[float, _Groups]:
    """Fit two groups to sorted values, starting with the first `split` of them in the lower group."""
    upper = np.arange(len(values)) >= split
    weights = np.stack([~upper, upper], axis=1).astype(float)
    likelihood = -np.inf
    for _ in range(rounds):
        total = weights.sum(axis=0) + 1e-9
        means = weights.T @ values / total
        spreads = np.sqrt((weights * (values[:, None] - means) ** 2).sum(axis=0) / total)
        groups = _Groups(total / len(values), means, np.maximum(spreads, least_spread))
        densities = groups.densities(values) + 1e-300
        before, likelihood = likelihood, float(np.log(densities.sum(axis=1)).sum())
        if likelihood - before < 1e-6 * len(values):
            break
        weights = densities / densities.sum(axis=1, keepdims=True)
    order = np.argsort(groups.means)
    return likelihood, _Groups(groups.shares[order], groups.means[order], groups.spreads[order])


def _lowest(groups: _Groups) -> tuple[float, float]:
    """Where the density between the two means is lowest, and its height relative to the lower hill, 0 to 1."""
    low, high = groups.means
    between = np.linspace(low, high, 513)
    density = groups.densities(between).sum(axis=1)
    lowest = int(np.argmin(density))
    return float(between[lowest]), float(density[lowest] / min(density[0], density[-1]))


def parse_threshold(text: str) -> Threshold:
    """Read a threshold: a number, `top:10%`, `fdr:5%`, or `auto`.

    Raises:
        SettingsError: It is none of these.
    """
    wrong = SettingsError(
        f"threshold must be a number, top:PERCENT% (such as top:10%), fdr:PERCENT% or auto; found {text[:40]!r}"
    )
    if text == "auto":
        return Auto()
    kind, _, rest = text.rpartition(":")
    if kind and (kind not in _PERCENT or not rest.endswith("%")):
        raise wrong
    try:
        number = float(rest.removesuffix("%") if kind else text)
    except ValueError:
        raise wrong from None
    if not np.isfinite(number) or (kind and not 0 <= number <= 100):
        raise wrong
    return _PERCENT[kind](number / 100) if kind else Fixed(number)


_PERCENT: dict[str, Callable[[float], Threshold]] = {"top": Top, "fdr": FalseDiscoveryRate}
