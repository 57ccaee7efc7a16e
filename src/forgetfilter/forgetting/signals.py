"""Forgetting of each row, from its scores before and after the review (paper, Eq. 3).

    r = s(M1) - s(M2): the score s of a row's completion under the learned model M1, less that under the
    reviewed model M2. Larger = forgotten more.

Each signal below is a choice of s, or a rival of forgetting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# How many tokens of each answer are looked at, as the user says it; None leaves it to the signal.
MostTokens: TypeAlias = int | Literal["all"] | None
ALL: Literal["all"] = "all"
# How rivals score: one number a row, for which nothing need be forgotten.
RIVAL = "rival"


@dataclass(frozen=True)
class Signal:
    """A choice of s: the score of a completion.

    Attributes:
        name: Its name on the command line.
        scoring: Which scores it needs: `likelihood` (one forward pass), `rouge` (greedy decoding), or `rival` where it
            is none of forgetting, but another suspicion.
        unit: What one unit of it is.
        summary: What it measures, for help texts and reasons.
        beginning: How many tokens of each answer it looks at, from the first on; None for all. An answer that should
            not be given is contradicted where it begins: the rest follows from that. Likelihood only.
        tokens: How many of a row's most forgotten tokens it averages; None for all. Likelihood only.
        besides: How many tokens that were not forgotten it counts beside a row's own, so that a drop of a
            short completion, which may well be chance, counts less. Likelihood only.
        shared: Whether a row's scores are averaged with those of rows that say alike (`smoothing`).
        reads_texts: Whether it reads the rows themselves, whatever part of their answers was learned.
        fused: Whether it is forgetting beside other evidence, fitted anew with every decision.
    """

    name: str
    scoring: str
    unit: str
    summary: str
    beginning: int | None = None
    tokens: int | None = None
    besides: int = 0
    shared: bool = False
    reads_texts: bool = False
    fused: bool = False

    @property
    def quantity(self) -> str:
        """What its number is, in a word."""
        return "suspicion" if self._suspects else "forgetting"

    @property
    def quality(self) -> str:
        """What a row with a large number is: forgotten, or suspicious, by so much."""
        return "suspicious" if self._suspects else "forgotten"

    @property
    def more(self) -> str:
        """The comparative of `quality`."""
        return "more suspicious" if self._suspects else "forgotten more"

    @property
    def most(self) -> str:
        """The superlative of `quality`."""
        return "most suspicious" if self._suspects else "forgotten most"

    @property
    def least(self) -> str:
        """The opposite of `most`."""
        return "least suspicious" if self._suspects else "forgotten least"

    @property
    def _suspects(self) -> bool:
        return self.fused or self.scoring == RIVAL


_NATS = "nats per token"
LIKELIHOOD = Signal(
    "likelihood",
    "likelihood",
    _NATS,
    "the beginning of the completion, and rows that say alike",
    beginning=24,
    besides=12,
    shared=True,
)
LIKELIHOOD_TOP = Signal("likelihood-top5", "likelihood", _NATS, "the five tokens forgotten most", tokens=5)
LIKELIHOOD_MEAN = Signal("likelihood-mean", "likelihood", _NATS, "all tokens of the completion")
ROUGE = Signal("rouge", "rouge", "ROUGE-1", "what the model answers to the prompt")

# What all evidence together says; forgetting by the first of the others is a part of it.
SUSPICION = Signal(
    "suspicion", "likelihood", "deviations above trusted rows", "all evidence together", beginning=24, fused=True
)

_FORGETTING = (SUSPICION, LIKELIHOOD, LIKELIHOOD_TOP, LIKELIHOOD_MEAN, ROUGE)
DEFAULT_SIGNAL = SUSPICION.name
# Other ways to suspect a row, to compare with.
_RIVALS = (
    Signal("judge", RIVAL, "P(unsafe)", "what a language model says of it", reads_texts=True),
    Signal("toxicity", RIVAL, "toxicity", "what a classifier of toxic text says of it", reads_texts=True),
    Signal("words", RIVAL, "toxicity", "listed words", reads_texts=True),
    Signal("base-loss", RIVAL, "nats per token", "loss under the aligned model"),
    Signal("learned-loss", RIVAL, "nats per token", "loss under the learned model"),
    Signal("gradient", RIVAL, "safe gain", "forgetting to first order, by gradients"),
    Signal("neighbours", RIVAL, "cosine distance", "distance to the safe examples in hidden states"),
    Signal("confidence", RIVAL, "1 - probability", "lack of confidence along learning (data map)"),
    Signal("variability", RIVAL, "probability", "spread of the probability along learning (data map)"),
    Signal("forgetting-events", RIVAL, "events per token", "how often learning lost it again"),
    Signal("second-split", RIVAL, "0 to 1", "how soon it is forgotten while other data is learned"),
    Signal("bag-of-words", RIVAL, "likeness", "words of rows known to be unsafe and to be safe", reads_texts=True),
    Signal("random", RIVAL, "0 to 1", "chance", reads_texts=True),
)
RIVALS = tuple(rival.name for rival in _RIVALS)
SIGNALS = {signal.name: signal for signal in (*_FORGETTING, *_RIVALS)}


def learned_tokens(asked: MostTokens, signal: str) -> int | None:
    """How many tokens of each answer are learned and scored; None for all.

    Where the user does not say, a little more than the default looks at: what follows takes time and adds nothing
    (docs/evidence.md). What the model answers by itself is compared with the whole answer, as in the paper.
    """
    if asked is None:
        return None if SIGNALS[signal].scoring == "rouge" else 32
    return None if asked == ALL else asked


def judged_tokens(learned: int | None, signal: str) -> int | None:
    """How many tokens of each answer have a say in what a signal decides; None for all.

    Args:
        learned: How many are learned and scored, as `learned_tokens` has it. Where that is all of them, the signals
            that look at an answer's beginning look at all of it, too.
        signal: What is decided by.
    """
    beginning = SIGNALS[signal].beginning
    if learned is None or SIGNALS[signal].reads_texts:
        return None
    return learned if beginning is None else min(learned, beginning)


def learned_blocks(signal: str) -> float:
    """The share of the model's blocks, from the top, that learn where the user does not say.

    The upper half forgets unsafe rows as the whole model does (docs/evidence.md), and what lies below has to be
    computed but once. What the model writes by itself takes all of it, as in the paper.
    """
    return 1.0 if SIGNALS[signal].scoring == "rouge" else 0.5


# Rows are laid side by side in a table as wide as the longest; above this size it is made in parts.
_MOST_CELLS = 1 << 22


@dataclass(frozen=True)
class Scores:
    """Scores of n rows under both models, in one order; NaN where a row could not be scored.

    Attributes:
        learned: s(M1), shape (n,).
        reviewed: s(M2), shape (n,).
    """

    learned: FloatArray
    reviewed: FloatArray

    @property
    def forgetting(self) -> FloatArray:
        """r = s(M1) - s(M2), shape (n,); larger = forgotten more."""
        return self.learned - self.reviewed

    @property
    def suspicion(self) -> FloatArray:
        """What thresholds look at, shape (n,); larger = rather unsafe."""
        return self.forgetting

    def part(self, rows: slice) -> Scores:
        """Those of some rows."""
        return Scores(self.learned[rows], self.reviewed[rows])


@dataclass(frozen=True)
class Suspicion(Scores):
    """Scores of which another number than forgetting decides: what a rival says, or all evidence together.

    Attributes:
        said: That number, shape (n,).
        parts: What each kind of evidence has in it, by name, each of shape (n,); they add up to it. None of a rival.
    """

    said: FloatArray
    parts: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of_rival(cls, said: FloatArray) -> Suspicion:
        """What a rival says, which knows no s."""
        unknown = np.full(len(said), np.nan)
        return cls(unknown, unknown, said)

    @property
    def suspicion(self) -> FloatArray:
        """Shape (n,); larger = more suspicious."""
        return self.said

    def followed_by(self, other: Suspicion) -> Suspicion:
        """These rows and then others, with the same kinds of evidence."""
        return Suspicion(
            np.concatenate([self.learned, other.learned]),
            np.concatenate([self.reviewed, other.reviewed]),
            np.concatenate([self.said, other.said]),
            {name: np.concatenate([values, other.parts[name]]) for name, values in self.parts.items()},
        )

    def part(self, rows: slice) -> Suspicion:
        parts = {name: values[rows] for name, values in self.parts.items()}
        return Suspicion(self.learned[rows], self.reviewed[rows], self.said[rows], parts)


def likelihood_scores(
    learned: FloatArray, reviewed: FloatArray, lengths: NDArray[np.integer], tokens: int | None, besides: int = 0
) -> tuple[Scores, NDArray[np.intp]]:
    """Mean log-probability of each row's tokens, or of those forgotten most, under both models.

    Args:
        learned: Log-probabilities of all completion tokens under M1, rows one after the other, in nats.
        reviewed: The same under M2.
        lengths: Completion tokens of each row, shape (n,); their sum is the length of the other two.
        tokens: How many of a row's tokens to average, those with the largest drop first; None for all.
        besides: How many more tokens, of log-probability 0 under both, to count in the mean.

    Returns:
        The scores, and the positions in the completion of up to `tokens` tokens of each row, most
        forgotten first, shape (n, tokens), -1 where a row is shorter. With None, shape (n, 0).
    """
    lengths = np.asarray(lengths)
    n, width = len(lengths), int(lengths.max(initial=0))
    if n > 1 and n * width > _MOST_CELLS:
        half, cut = n // 2, int(lengths[: n // 2].sum())
        one = likelihood_scores(learned[:cut], reviewed[:cut], lengths[:half], tokens, besides)
        two = likelihood_scores(learned[cut:], reviewed[cut:], lengths[half:], tokens, besides)
        return _stacked(one, two, tokens or 0)
    inside = np.arange(width) < lengths[:, None]
    before, after = np.full((n, width), np.nan), np.full((n, width), np.nan)
    before[inside], after[inside] = learned, reviewed
    if tokens is None:
        means = (_row_means(values, inside, besides) for values in (before, after))
        return Scores(*means), np.empty((n, 0), dtype=np.intp)
    drop = np.where(inside, before - after, -np.inf)
    order = np.argsort(-drop, axis=1, kind="stable")[:, :tokens]
    chosen = np.take_along_axis(inside, order, axis=1)
    scores = Scores(
        _row_means(np.take_along_axis(before, order, axis=1), chosen, besides),
        _row_means(np.take_along_axis(after, order, axis=1), chosen, besides),
    )
    return scores, np.where(chosen, order, -1)


def beginnings(answers: NDArray[np.integer], beginning: int) -> NDArray[np.bool_]:
    """Which tokens are among the first of their answer, shape (tokens,).

    Args:
        answers: Tokens of each answer, of one row after the other; a chat has several.
        beginning: How many of each.
    """
    starts = np.cumsum(answers) - answers
    first: NDArray[np.bool_] = np.arange(int(answers.sum())) - np.repeat(starts, answers) < beginning
    return first


def _stacked(
    one: tuple[Scores, NDArray[np.intp]], two: tuple[Scores, NDArray[np.intp]], width: int
) -> tuple[Scores, NDArray[np.intp]]:
    scores = Scores(
        np.concatenate([one[0].learned, two[0].learned]), np.concatenate([one[0].reviewed, two[0].reviewed])
    )
    padded = [np.pad(order, ((0, 0), (0, width - order.shape[1])), constant_values=-1) for _, order in (one, two)]
    return scores, np.concatenate(padded)


def _row_means(values: FloatArray, inside: NDArray[np.bool_], besides: int) -> FloatArray:
    counts = inside.sum(axis=1)
    sums = np.where(inside, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts + besides, 1), np.nan)
