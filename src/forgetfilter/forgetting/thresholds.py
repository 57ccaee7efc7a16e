"""Choose the cut above which rows are removed. Thresholds see forgetting or suspicion alone, never labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError

FloatArray = NDArray[np.floating]
_NO_ROWS: FloatArray = np.empty(0)


@dataclass(frozen=True)
class Cut:
    """The cut that a threshold chose: rows above `value` are removed, none where it is None."""

    value: float | None
    explanation: str

    def removes(self, forgetting: FloatArray) -> NDArray[np.bool_]:
        """Mark the rows that are removed, shape (n,); rows without a score (NaN) never are."""
        if self.value is None:
            return np.zeros(len(forgetting), dtype=bool)
        above: NDArray[np.bool_] = np.nan_to_num(forgetting, nan=-np.inf) > self.value
        return above


class Threshold(Protocol):
    """A rule that chooses the cut.

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
        explanation = f"the {100 * self.share:g}% of the rows with the largest values"
        if count == 0:
            return Cut(None, explanation + ", which is no row")
        value = float(scored[count]) if count < len(scored) else float(np.nextafter(scored[-1], -np.inf))
        return Cut(value, explanation)


@dataclass(frozen=True)
class FalseDiscoveryRate:
    """The lowest cut at which at most this share of the removed rows is harmless, in expectation; 0 to 1.

    A row's conformal p-value is the share of trusted rows (and itself) that are forgotten at least as much. The
    procedure of Benjamini and Hochberg, with Storey's estimate of the number of harmless rows, finds how many rows with
    the smallest p-values can be removed (Bates et al., Testing for outliers with conformal p-values, 2023). The bound
    holds if the trusted rows are forgotten like the harmless rows of the data. Where these are of several kinds, nobody
    knows which of them the data's harmless rows are like, so the largest p-value counts.

    Attributes:
        rate: The share.
        kinds: Forgetting of each kind of trusted rows, none NaN; empty where they are not told apart.

    Raises:
        SettingsError: By `cut`, where there are no trusted rows.
    """

    rate: float
    kinds: tuple[FloatArray, ...] = ()

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        scored, known = np.sort(forgetting[~np.isnan(forgetting)])[::-1], np.sort(trusted[~np.isnan(trusted)])
        if not len(known):
            raise self.no_trusted_rows()
        kinds = [np.sort(kind) for kind in self.kinds] if len(self.kinds) > 1 else [known]
        p_values = np.max([_p_values(scored, kind) for kind in kinds], axis=0)
        # Storey's estimate of how many rows are harmless: their p-values are uniform, so twice as many rows are
        # harmless as have one above a half.
        harmless = min(len(scored), 2 * (1 + int((p_values > 0.5).sum())))
        counts = np.arange(1, len(scored) + 1)
        small = np.flatnonzero(p_values <= self.rate * counts / max(1, harmless))
        if not len(small):
            # The smallest p-value is 1 / (trusted + 1), so it takes many trusted rows to detect a few unsafe ones.
            above = max(1, int((scored > known[-1]).sum()))
            wanted = len(kinds) * int(np.ceil(harmless / (self.rate * above))) if self.rate else 0
            more = f"; it would take about {wanted:,} trusted rows to tell" if wanted > len(known) else ""
            counted = self._counted(len(known))
            target = f"the {100 * self.rate:g}% false-removal target"
            return Cut(None, f"no cutoff meets {target} with {counted}{more}")
        last = scored[small[-1]]
        below = np.concatenate([scored[scored < last][:1], known[known < last][-1:]])
        return Cut(
            float(below.max() if len(below) else np.nextafter(last, -np.inf)),
            f"at most {100 * self.rate:g}% of the removed rows are harmless, in expectation, judged by "
            f"{self._counted(len(known))}",
        )

    def _counted(self, known: int) -> str:
        return f"{known:,} trusted row{'' if known == 1 else 's'}{' of two kinds' if len(self.kinds) > 1 else ''}"

    def no_trusted_rows(self) -> SettingsError:
        """Describe what is wrong where no row is known to be harmless."""
        return SettingsError(
            f"threshold fdr:{100 * self.rate:g}% rests on rows known to be harmless that were learned with the data; "
            "run 'forgetfilter filter' with --trusted FILE, --trusted builtin or --set-aside 0.5"
        )

    def none_learned(self) -> SettingsError:
        """Describe what is wrong where M1 was trained elsewhere, without the rows known to be harmless."""
        return SettingsError(
            f"threshold fdr:{100 * self.rate:g}% rests on rows known to be harmless that were learned with the data, "
            "and with --learned none were; take auto, top:10% or a number"
        )


def _p_values(scored: FloatArray, known: FloatArray) -> FloatArray:
    """Return the share of trusted rows, and of itself, that are forgotten at least as much as each row."""
    p_values: FloatArray = (1 + len(known) - np.searchsorted(known, scored, side="left")) / (len(known) + 1)
    return p_values


@dataclass(frozen=True)
class Auto:
    """The valley between two groups of rows: one that was forgotten little, one that was forgotten much.

    Two normal distributions are fitted to the forgetting of all rows, and the cut is where the density between their
    means is lowest. There is no valley where one distribution explains the rows as well, where the density has no
    clear minimum between the means, or where the group that was forgotten more holds most of the rows. The false
    discovery rate then decides if there are trusted rows, and nothing is removed if there are none. A valley may also
    lie too high, between most unsafe rows and a few that were forgotten even more, so trusted rows may lower the cut.
    """

    def cut(self, forgetting: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        valley, why = find_valley(forgetting, "forgotten", _OF_FORGETTING)
        known = trusted[~np.isnan(trusted)]
        if not len(known):
            return valley
        if valley.value is not None and float((known > valley.value).mean()) <= _MOST_TRUSTED:
            further = FalseDiscoveryRate(_RATE_BELOW_VALLEY).cut(forgetting, known)
            if further.value is None or further.value >= valley.value:
                return valley
            return Cut(further.value, f"below the valley at {valley.value:.3g}; {further.explanation}")
        fallback = FalseDiscoveryRate(_RATE).cut(forgetting, known)
        if (share := float(fallback.removes(forgetting).mean())) > _OF_FORGETTING.largest:
            return Cut(None, f"{share:.0%} of the rows were forgotten more than trusted rows, {_TOO_MANY}")
        return Cut(fallback.value, f"{why or _UNACCEPTABLE}; {fallback.explanation}")


@dataclass(frozen=True)
class AutoOfSuspicion:
    """The same for suspicion, which separates two groups of rows better than it separates trusted from other rows.

    The cut is the lowest valley between groups. There may be three, as harmless rows are often of two kinds, if rows of
    known kind can tell which valley it is. It is none if trusted rows show that most rows above it are harmless, or
    known unsafe ones that far more rows lie above it than there are like them. Without such a valley, known unsafe rows
    show where rows like them begin; without these, the false discovery rate decides. That takes whatever trusted rows
    are unlike for suspicious, so most rows above such a cut have to look unsafe by themselves.

    Attributes:
        known_unsafe: Suspicion of rows known to be unsafe, shape (k,).
        to_prototypes: Whether each row of the data is more like the package's unsafe examples (above 0) or its harmless
            ones (below), shape (n,); None where they were not compared.
    """

    known_unsafe: FloatArray
    to_prototypes: FloatArray | None = None

    def cut(self, suspicion: FloatArray, trusted: FloatArray = _NO_ROWS) -> Cut:
        known, unsafe = trusted[~np.isnan(trusted)], self.known_unsafe[~np.isnan(self.known_unsafe)]
        expected = _count_like(suspicion, known, unsafe)

        def acceptable(value: float) -> bool:
            too_many = expected >= _FEWEST_THERE and (suspicion > value).sum() > _MOST_BEYOND * expected
            mostly_harmless = len(known) > 0 and _harmless_share(suspicion, known, value) > _MOST_HARMLESS
            return not too_many and not mostly_harmless

        can_tell = len(known) > 0 or expected >= _FEWEST_THERE
        wanted = _OF_SUSPICION if can_tell else replace(_OF_SUSPICION, groups=2)
        valley, why = find_valley(suspicion, "suspicious", wanted, acceptable)
        if valley.value is not None:
            return valley
        if expected >= _FEWEST_THERE:
            return _where_unsafe_begin(suspicion, unsafe, expected)
        return self._beyond_trusted(suspicion, known, why) if len(known) else valley

    def _beyond_trusted(self, suspicion: FloatArray, known: FloatArray, why: str) -> Cut:
        """Return the cut by the false discovery rate, or why nothing is removed; `why` there is no valley."""
        # Where no cutoff meets the stricter rate, the looser one is better than none.
        cuts = [FalseDiscoveryRate(rate).cut(suspicion, known) for rate in _RATES_OF_SUSPICION]
        fallback = next((cut for cut in cuts if cut.value is not None), cuts[0])
        removed = fallback.removes(suspicion)
        more_suspicious = f"{removed.mean():.0%} of the rows are more suspicious than trusted rows"
        if removed.mean() > _OF_SUSPICION.largest:
            return Cut(None, f"{more_suspicious}, {_TOO_MANY}")
        if (
            self.to_prototypes is not None
            and removed.any()
            and (self.to_prototypes[removed] > 0).mean() < _FEWEST_LOOK_UNSAFE
        ):
            return Cut(None, f"{more_suspicious}, {_LOOK_HARMLESS}")
        return Cut(fallback.value, f"{why}; {fallback.explanation}")


def _count_like(suspicion: FloatArray, trusted: FloatArray, unsafe: FloatArray) -> float:
    """Estimate how many rows are as suspicious as known unsafe ones; 0 where too few of these are known.

    The estimate rests on the rows above the lower quartile, and above the median, of the known unsafe ones.
    """
    scored, estimated = suspicion[~np.isnan(suspicion)], 0.0
    if len(unsafe) < FEWEST_UNSAFE:
        return estimated
    for share in (0.25, 0.5):
        quantile = float(np.quantile(unsafe, share))
        by_chance = len(scored) * float((trusted > quantile).mean()) if len(trusted) else 0.0
        excess = float((scored > quantile).sum()) - by_chance
        if excess > 2 * by_chance**0.5:
            estimated = max(estimated, excess / max(float((unsafe > quantile).mean()), 1e-9))
    return estimated


def _where_unsafe_begin(suspicion: FloatArray, unsafe: FloatArray, expected: float) -> Cut:
    """Return the cut of the largest F1 if so many rows are unsafe, and as suspicious as the known unsafe ones."""
    scored = suspicion[~np.isnan(suspicion)]
    cuts = np.unique(np.concatenate([scored, unsafe]))
    removed, recall = (len(x) - np.searchsorted(np.sort(x), cuts, side="right") for x in (scored, unsafe))
    best = cuts[np.argmax(2 * expected * recall / len(unsafe) / (removed + expected))]
    return Cut(
        float(best),
        f"where rows like the {len(unsafe):,} known unsafe ones begin, of which there are about {expected:.0f}",
    )


def _harmless_share(suspicion: FloatArray, trusted: FloatArray, cut: float) -> float:
    """Estimate the share of harmless rows among those above a cut, if they are as suspicious as trusted ones."""
    above, lost = float((suspicion > cut).sum()), float((trusted > cut).mean())
    kept = float((suspicion <= cut).sum())
    return min(1.0, lost / max(1 - lost, 1e-9) * kept / max(above, 1.0))


@dataclass(frozen=True)
class Valleys:
    """Which valleys between groups of rows are looked for.

    Attributes:
        groups: How many groups there may be.
        shallow: The largest density in a valley, as a share of that at the lower of its two peaks.
        largest: The largest share of the rows that may lie above one.
    """

    groups: int
    shallow: float
    largest: float


def find_valley(
    forgetting: FloatArray, how: str, wanted: Valleys, acceptable: Callable[[float], bool] = lambda _: True
) -> tuple[Cut, str]:
    """Find the lowest cut between groups of rows that will do, or explain why there is none.

    Args:
        forgetting: Forgetting or suspicion of the rows, NaN where unscored.
        how: What a row with a large value is: "forgotten" or "suspicious".
        wanted: Which valleys will do.
        acceptable: Whether the rows above a value may be removed.

    Returns:
        The cut, and in short why there is none; empty where there is one.
    """
    scored = np.sort(forgetting[~np.isnan(forgetting)])
    if len(scored) < _FEWEST_ROWS:
        why = f"{len(scored)} scored rows are too few to tell two groups apart"
        return Cut(None, f"{why}; it takes {_FEWEST_ROWS}"), why
    # Where there are many rows, evenly spaced quantiles represent them, so that the fit takes no longer.
    sample = scored if len(scored) <= _MOST_POINTS else np.quantile(scored, np.linspace(0, 1, _MOST_POINTS))
    groups = _fit_groups(sample, wanted.groups)
    valleys = groups.valleys(wanted.shallow) if groups else []
    if not valleys:
        return Cut(None, f"{_NO_GROUPS}{_LOOK_YOURSELF}"), _NO_GROUPS
    shares = [float((scored > valley.value).mean()) for valley in valleys]
    if min(shares) > wanted.largest:
        why = f"the more {how} group has {min(shares):.0%} of the rows"
        return Cut(None, f"{why}, {_TOO_MANY}"), why
    for valley, share in zip(valleys, shares, strict=True):
        if share <= wanted.largest and acceptable(valley.value):
            between = f"rows {how} by about {valley.low:.3g} and rows {how} by about {valley.high:.3g}"
            return Cut(valley.value, f"the valley between {between}"), ""
    return Cut(None, f"{_UNACCEPTABLE}{_LOOK_YOURSELF}"), _UNACCEPTABLE


_FEWEST_ROWS = 20
# The false discovery rate where there is no valley, that for a cut below a valley, and the largest share of the trusted
# rows that may lie above one.
_RATE, _RATE_BELOW_VALLEY = 0.2, 0.05
_MOST_TRUSTED = 0.1
# For suspicion: the false discovery rates where there is no valley, the stricter first, and the largest share of rows
# above one that may be harmless (docs/appendix.md).
_RATES_OF_SUSPICION, _MOST_HARMLESS = (0.1, 0.2), 0.5
# The smallest share of the rows above a cut without a valley that look unsafe by themselves.
_FEWEST_LOOK_UNSAFE = 0.5
# Fewer known unsafe rows do not represent their kind, and fewer such rows in the data may be there by chance.
FEWEST_UNSAFE, _FEWEST_THERE = 10, 3
# A group of more than so many times the rows that are like known unsafe ones is not theirs.
_MOST_BEYOND = 1.5
_MOST_POINTS = 4096
# Unsafe rows are seldom the majority; a larger group is more likely a whole kind of harmless rows, all of
# which the review made the model forget because the safe examples are of another kind. Evidence other than forgetting
# supports a larger group, and tells more of them apart.
_OF_FORGETTING, _OF_SUSPICION = Valleys(2, shallow=0.8, largest=0.6), Valleys(3, shallow=0.85, largest=0.7)
_TOO_MANY = (
    "too many to remove without a person's word; use a safe set that covers more of the data, or set a threshold, "
    "such as top:5%"
)
_LOOK_HARMLESS = (
    "but too few of these are more like unsafe examples than like harmless ones; look at the topmost ones, give rows "
    "that you know to be unsafe, or set a threshold, such as top:5%"
)
_NO_GROUPS = "the rows form no two groups"
_UNACCEPTABLE = "beyond the valley lie too many trusted rows"
_LOOK_YOURSELF = ", so nothing is removed; look at the topmost ones and set a threshold, such as top:5%"


class _Valley(NamedTuple):
    """Where the density of the rows is lowest between two groups, and where these groups have their peaks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Groups:
    """A mixture of k normal distributions, by rising means; arrays of shape (k,)."""

    shares: FloatArray
    means: FloatArray
    spreads: FloatArray

    def densities(self, values: FloatArray) -> FloatArray:
        """Return each group's share of the density, shape (len(values), k)."""
        z = (values[:, None] - self.means) / self.spreads
        densities: FloatArray = self.shares * np.exp(-0.5 * z**2) / (self.spreads * np.sqrt(2 * np.pi))
        return densities

    def valleys(self, shallow: float) -> list[_Valley]:
        """Find the minima of the density between the means that are deep enough (`Valleys`), in rising order."""
        between = np.linspace(self.means[0], self.means[-1], 513)
        density = self.densities(between).sum(axis=1)
        minima = np.flatnonzero((density[1:-1] <= density[:-2]) & (density[1:-1] < density[2:])) + 1
        peaks = [int(part[np.argmax(density[part])]) for part in np.split(np.arange(len(between)), minima)]
        return [
            _Valley(float(between[place]), float(between[low]), float(between[high]))
            for place, low, high in zip(minima, peaks, peaks[1:], strict=False)
            if density[place] <= shallow * min(density[low], density[high])
        ]


# Where a fit begins: the shares of the rows, sorted, at which the groups meet.
_STARTS: dict[int, tuple[tuple[float, ...], ...]] = {
    2: ((0.5,), (0.75,), (0.9,), (0.97,)),
    3: ((0.33, 0.66), (0.25, 0.5), (0.5, 0.75), (0.5, 0.9), (0.75, 0.95), (0.3, 0.9)),
}


def _fit_groups(values: FloatArray, most: int) -> _Groups | None:
    """Return the best fit of two or more groups, or None where one normal distribution does as well (BIC)."""
    least_spread = 0.01 * (values[-1] - values[0])
    if least_spread <= 0:
        return None
    a_parameter = np.log(len(values)) / 2
    best = -len(values) * (np.log(values.std() * np.sqrt(2 * np.pi)) + 0.5) - 2 * a_parameter
    found = None
    for count in range(2, most + 1):
        fits = [_expectation_maximisation(values, start, least_spread) for start in _STARTS[count]]
        likelihood, groups = max(fits, key=lambda fit: fit[0])
        # k groups have k means, k spreads and k - 1 free shares.
        likelihood -= (3 * count - 1) * a_parameter
        if likelihood > best:
            best, found = likelihood, groups
    return found


def _expectation_maximisation(
    values: FloatArray, start: tuple[float, ...], least_spread: float, rounds: int = 200
) -> tuple[float, _Groups]:
    """Fit groups to sorted values, which meet at these shares of the values at first."""
    group = np.searchsorted([int(share * len(values)) for share in start], np.arange(len(values)), side="right")
    weights = (group[:, None] == np.arange(len(start) + 1)).astype(float)
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


def parse_threshold(text: str) -> Threshold:
    """Parse a threshold: a number, `top:10%`, `fdr:5%`, or `auto`.

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


@dataclass(frozen=True)
class MostRemoved:
    """The most rows that may be removed without an alarm.

    Attributes:
        text: As the user wrote it.
        number: A share of the rows, 0 to 1, or a count.
        is_share: Which of these it is.
    """

    text: str
    number: Fraction
    is_share: bool

    def is_exceeded(self, removed: int, rows: int) -> bool:
        """Tell whether more of the rows were removed; exactly as many are not more."""
        return removed > (self.number * rows if self.is_share else self.number)


_COUNT_OR_PERCENT = re.compile(r"(?a:\d{1,9}|\d{1,3}(\.\d{1,9})?%)")


def parse_most_removed(text: str) -> MostRemoved:
    """Parse the most rows that may be removed: a share such as `1%`, or a count.

    Raises:
        SettingsError: It is neither.
    """
    number, is_share = text.removesuffix("%"), text.endswith("%")
    if not _COUNT_OR_PERCENT.fullmatch(text) or (is_share and float(number) > 100):
        raise SettingsError(
            f"fail_above must be a share of the rows such as 1% or 0.5%, or a number of rows; found {text[:40]!r}"
        )
    return MostRemoved(text, Fraction(number) / (100 if is_share else 1), is_share)


_PERCENT: dict[str, Callable[[float], Threshold]] = {"top": Top, "fdr": FalseDiscoveryRate}
