"""Define signals, and compute the forgetting of each row from its scores before and after the review (paper, Eq. 3).

    r = s(M1) - s(M2): the score s of a row's completion under the learned model M1, minus that under the
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
# How many tokens of each answer are used, as the user sets it; None leaves it to the signal.
MostTokens: TypeAlias = int | Literal["all"] | None
ALL: Literal["all"] = "all"
# The scoring of rivals: one number per row, without any forgetting.
RIVAL = "rival"
# The rival whose opinion every decision shows, wherever it was asked.
GUARD = "guard"


@dataclass(frozen=True)
class Signal:
    """A choice of s, the score of a completion, or a rival of forgetting.

    Attributes:
        name: Its name on the command line.
        scoring: The scores that it needs: `likelihood` (one forward pass), `rouge` (greedy decoding), or `rival` where
            it does not measure forgetting but suspects rows in another way.
        unit: The unit of its values.
        summary: What it measures, for help texts and reasons.
        beginning: How many tokens of each answer it reads, from the first on; None for all. A model that should not
            give an answer departs from it at the beginning, and the rest follows. Likelihood only.
        tokens: How many of a row's most forgotten tokens it averages; None for all. Likelihood only.
        pseudo_tokens: How many tokens without forgetting it adds to a row's own, so that a drop of a short completion,
            which may well be chance, counts less. Likelihood only.
        shared: Whether a row's scores are averaged with those of rows of similar words (`sharing`).
        reads_texts: Whether it reads the rows themselves, whatever part of their answers was learned.
        fused: Whether it combines forgetting with other evidence, fitted anew with every decision.
    """

    name: str
    scoring: str
    unit: str
    summary: str
    beginning: int | None = None
    tokens: int | None = None
    pseudo_tokens: int = 0
    shared: bool = False
    reads_texts: bool = False
    fused: bool = False

    @property
    def quantity(self) -> str:
        """Name what its values measure, in a word."""
        return "suspicion" if self._suspects else "forgetting"

    @property
    def quality(self) -> str:
        """Name what a row with a large value is: forgotten or suspicious."""
        return "suspicious" if self._suspects else "forgotten"

    @property
    def more(self) -> str:
        """Return the comparative of `quality`."""
        return "more suspicious" if self._suspects else "forgotten more"

    @property
    def most(self) -> str:
        """Return the superlative of `quality`."""
        return "most suspicious" if self._suspects else "forgotten most"

    @property
    def least(self) -> str:
        """Return the opposite of `most`."""
        return "least suspicious" if self._suspects else "forgotten least"

    @property
    def _suspects(self) -> bool:
        return self.fused or self.scoring == RIVAL


_NATS = "nats per token"
LIKELIHOOD = Signal(
    "likelihood",
    "likelihood",
    _NATS,
    "the beginning of the completion, and rows of similar words",
    beginning=24,
    pseudo_tokens=12,
    shared=True,
)
LIKELIHOOD_TOP = Signal("likelihood-top5", "likelihood", _NATS, "the five tokens forgotten most", tokens=5)
LIKELIHOOD_MEAN = Signal("likelihood-mean", "likelihood", _NATS, "all tokens of the completion")
ROUGE = Signal("rouge", "rouge", "ROUGE-1", "what the model answers to the prompt")

# All evidence fused into one number; forgetting by the first signal above is part of it.
SUSPICION = Signal(
    "suspicion", "likelihood", "deviations above trusted rows", "all evidence together", beginning=24, fused=True
)

_FORGETTING = (SUSPICION, LIKELIHOOD, LIKELIHOOD_TOP, LIKELIHOOD_MEAN, ROUGE)
DEFAULT_SIGNAL = SUSPICION.name
# Other ways to suspect a row, for comparison.
_RIVALS = (
    Signal("judge", RIVAL, "P(unsafe)", "what a language model says of it", reads_texts=True),
    Signal(GUARD, RIVAL, "P(unsafe)", "what a guard model says of it", reads_texts=True),
    Signal("toxicity", RIVAL, "toxicity", "what a classifier of toxic text says of it", reads_texts=True),
    Signal("words", RIVAL, "toxicity", "listed words", reads_texts=True),
    Signal("base-loss", RIVAL, "nats per token", "loss under the aligned model"),
    Signal("learned-loss", RIVAL, "nats per token", "loss under the learned model"),
    Signal("gradient", RIVAL, "safe gain", "forgetting to first order, by gradients"),
    Signal("neighbours", RIVAL, "cosine distance", "distance to the safe examples in hidden states"),
    Signal("direction", RIVAL, "times the mean", "what sets the rows apart most in hidden states"),
    Signal("confidence", RIVAL, "1 - probability", "lack of confidence along learning (data map)"),
    Signal("variability", RIVAL, "probability", "spread of the probability along learning (data map)"),
    Signal("forgetting-events", RIVAL, "events per token", "how often learning lost it again"),
    Signal("second-split", RIVAL, "of 1", "how soon it is forgotten while other data is learned"),
    Signal("bag-of-words", RIVAL, "likeness", "words of rows known to be unsafe and to be safe", reads_texts=True),
    Signal("random", RIVAL, "of 1", "chance", reads_texts=True),
)
RIVALS = tuple(rival.name for rival in _RIVALS)
SIGNALS = {signal.name: signal for signal in (*_FORGETTING, *_RIVALS)}


def learned_tokens(most: MostTokens, signal: str) -> int | None:
    """Return how many tokens of each answer are learned and scored; None for all.

    The default is slightly more than the default signal reads, because further tokens take time and add nothing
    (docs/appendix.md). ROUGE compares what the model generates with the whole answer, as in the paper.
    """
    if most is None:
        return None if SIGNALS[signal].scoring == "rouge" else 32
    return None if most == ALL else most


def judged_tokens(learned: int | None, signal: str) -> int | None:
    """Return how many tokens of each answer a signal's decision depends on; None for all.

    Args:
        learned: How many are learned and scored, from `learned_tokens`. Where that is all of them, signals that read an
            answer's beginning read all of it, too.
        signal: The signal that decides.
    """
    beginning = SIGNALS[signal].beginning
    if learned is None or SIGNALS[signal].reads_texts:
        return None
    return learned if beginning is None else min(learned, beginning)


def learned_blocks(signal: str) -> float:
    """Return the default share of the model's blocks, from the top, that are trained.

    The upper half forgets unsafe rows as the whole model does (docs/appendix.md), and activations below it have to be
    computed only once. ROUGE, which reads what the model generates, trains all of it, as in the paper.
    """
    return 1.0 if SIGNALS[signal].scoring == "rouge" else 0.5


# Rows are padded to the longest in one table; a table above this size is computed in parts.
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
        """The number that thresholds cut, shape (n,); larger = more likely unsafe."""
        return self.forgetting

    def part(self, rows: slice) -> Scores:
        """Select a slice of the rows."""
        return Scores(self.learned[rows], self.reviewed[rows])


@dataclass(frozen=True)
class Suspicion(Scores):
    """Scores with another number than forgetting to decide by: a rival's suspicion, or that of all evidence together.

    Attributes:
        combined: That number, shape (n,).
        parts: The contribution of each kind of evidence, by name, each of shape (n,); they add up to `combined`. Empty
            for a rival.
        to_prototypes: Whether each row is more like the package's unsafe examples (above 0) or its harmless ones
            (below), shape (n,); None where they were not compared.
    """

    combined: FloatArray
    parts: Mapping[str, FloatArray] = field(default_factory=dict)
    to_prototypes: FloatArray | None = None

    @classmethod
    def of_rival(cls, suspicion: FloatArray) -> Suspicion:
        """Wrap a rival's suspicion, which has no s, in scores."""
        unknown = np.full(len(suspicion), np.nan)
        return cls(unknown, unknown, suspicion)

    @property
    def suspicion(self) -> FloatArray:
        """Shape (n,); larger = more suspicious."""
        return self.combined

    def followed_by(self, other: Suspicion) -> Suspicion:
        """Append other rows with the same kinds of evidence; what they are like is then unknown."""
        return Suspicion(
            np.concatenate([self.learned, other.learned]),
            np.concatenate([self.reviewed, other.reviewed]),
            np.concatenate([self.combined, other.combined]),
            {name: np.concatenate([values, other.parts[name]]) for name, values in self.parts.items()},
        )

    def part(self, rows: slice) -> Suspicion:
        parts = {name: values[rows] for name, values in self.parts.items()}
        to_prototypes = None if self.to_prototypes is None else self.to_prototypes[rows]
        return Suspicion(self.learned[rows], self.reviewed[rows], self.combined[rows], parts, to_prototypes)


def likelihood_scores(
    learned: FloatArray, reviewed: FloatArray, lengths: NDArray[np.integer], tokens: int | None, pseudo_tokens: int = 0
) -> tuple[Scores, NDArray[np.intp]]:
    """Average the log-probabilities of each row's tokens, or of those forgotten most, under both models.

    Args:
        learned: Log-probabilities of all completion tokens under M1, rows one after the other, in nats.
        reviewed: The same under M2.
        lengths: Completion tokens of each row, shape (n,); their sum is the length of the other two.
        tokens: How many of a row's tokens to average, those with the largest drop first; None for all.
        pseudo_tokens: How many additional tokens, of log-probability 0 under both, to count in the mean.

    Returns:
        The scores, and the positions in the completion of up to `tokens` tokens of each row, most
        forgotten first, shape (n, tokens), -1 where a row is shorter. With None, shape (n, 0).
    """
    lengths = np.asarray(lengths)
    n, width = len(lengths), int(lengths.max(initial=0))
    if n > 1 and n * width > _MOST_CELLS:
        half, cut = n // 2, int(lengths[: n // 2].sum())
        one = likelihood_scores(learned[:cut], reviewed[:cut], lengths[:half], tokens, pseudo_tokens)
        two = likelihood_scores(learned[cut:], reviewed[cut:], lengths[half:], tokens, pseudo_tokens)
        return _stacked(one, two, tokens or 0)
    inside = np.arange(width) < lengths[:, None]
    before, after = np.full((n, width), np.nan), np.full((n, width), np.nan)
    before[inside], after[inside] = learned, reviewed
    if tokens is None:
        means = (_row_means(values, inside, pseudo_tokens) for values in (before, after))
        return Scores(*means), np.empty((n, 0), dtype=np.intp)
    drop = np.where(inside, before - after, -np.inf)
    order = np.argsort(-drop, axis=1, kind="stable")[:, :tokens]
    chosen = np.take_along_axis(inside, order, axis=1)
    scores = Scores(
        _row_means(np.take_along_axis(before, order, axis=1), chosen, pseudo_tokens),
        _row_means(np.take_along_axis(after, order, axis=1), chosen, pseudo_tokens),
    )
    return scores, np.where(chosen, order, -1)


def beginnings(answers: NDArray[np.integer], beginning: int) -> NDArray[np.bool_]:
    """Mark the tokens that are among the first of their answer, shape (tokens,).

    Args:
        answers: Number of tokens of each answer, one row after the other; a chat has several answers.
        beginning: How many tokens of each answer to mark.
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


def _row_means(values: FloatArray, inside: NDArray[np.bool_], pseudo_tokens: int) -> FloatArray:
    counts = inside.sum(axis=1)
    sums = np.where(inside, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts + pseudo_tokens, 1), np.nan)
