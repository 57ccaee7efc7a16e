"""Group texts by what they are about, and find those that nearly repeat another, so that many rows are one look.

Groups are clusters of directions of a latent semantic analysis (Deerwester et al. 1990): texts of one kind often share
no word with each other but share words with the same third ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import regex
from numpy.typing import NDArray

from ..metrics.text import words
from ..suspicion.word_table import WordTable, shared_words

FloatArray = NDArray[np.floating]
# Of the words that texts share only the commonest take part, and of the texts an even sample finds the groups.
_WORDS, _SAMPLE, _DIRECTIONS = 1000, 2000, 30
_MOST_GROUPS, _PASSES = 10, 20
_TELLING, _TELLING_LENGTH = 3, 30
# Texts whose runs of three words have a Jaccard index of at least this are nearly the same.
_SAME, _RUN, _LONGEST = 0.8, 3, 400
# A pair as alike as that shares one of eight bands of four hashes with 98.5%; of a band few texts are compared, so
# that the work stays linear whatever the texts are.
_BANDS, _BAND, _COMPARED = 8, 4, 8
# The end of a contraction, such as "we'll", and all of one that a negation ends, such as "don't"; and the shortest word
# that tells something, of scripts with spaces between their words.
_CONTRACTED = regex.compile(r"[\p{L}\p{M}]*n['’]t\b|['’](?:re|ll|ve|s|d|m)\b", regex.IGNORECASE)
_TELLS = regex.compile(
    r"[\p{L}\p{M}\p{N}]{3,}|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|\p{So}"
)
# Word pieces are stemmed where they are counted, and whole where they are shown.
_SURFACE = regex.compile(r"[\p{L}\p{M}\p{N}]+")


@dataclass(frozen=True)
class Grouping:
    """Texts by what they are about.

    Attributes:
        of: The group of each text, shape (n,).
        telling: For every group, words that are far more frequent in it than elsewhere; empty for the group of texts
            that share no words with others.
    """

    of: NDArray[np.intp]
    telling: list[list[str]]


def group_by_words(texts: Sequence[str], first: int, everyday: Set[str] = frozenset()) -> Grouping:
    """Group texts by their words into at most ten groups, which the first of them determine.

    The same texts in the same order give the same groups.

    Args:
        texts: n texts.
        first: How many of them, from the first on, determine the groups; the others join the group nearest to them.
        everyday: Stemmed words that are frequent in any text, and tell nothing about one.
    """
    texts = [_CONTRACTED.sub("", text) for text in texts]
    table, vocabulary = shared_words([word for word in words(text) if word not in everyday] for text in texts)
    common, weights = _common_words(table)
    directions = _directions(weights, first)
    known = np.abs(directions).sum(axis=1) > 0
    # Texts without shared words form the last group.
    of, count = np.full(len(texts), -1), 0
    places = np.flatnonzero(known[:first])
    if len(places):
        sample = places[np.linspace(0, len(places) - 1, min(len(places), _SAMPLE)).round().astype(np.intp)]
        centres = _cluster(directions[sample], min(_MOST_GROUPS, max(1, round((len(sample) / 2) ** 0.5))))
        of[known] = np.argmax(directions[known] @ centres.T, axis=1)
        of[known], count = _by_size(of[known], of[places])
    stems = dict(zip(vocabulary.numbers.tolist(), vocabulary.words.to_pylist(), strict=True))
    tells = np.array([_TELLS.fullmatch(stems.get(int(i), "")) is not None for i in common], dtype=bool)
    telling = [
        _written_out([stems[int(common[i])] for i in _telling(weights, here, tells)], texts, np.flatnonzero(here))
        for here in ((of == group) & (np.arange(len(of)) < first) for group in range(count))
    ]
    if (of < 0).any():
        of[of < 0], telling = count, [*telling, []]
    return Grouping(of, telling)


def _common_words(table: WordTable) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the commonest shared words, shape (k,), and the rows' weights of them, shape (n, k)."""
    frequency = np.bincount(table.words, minlength=table.vocabulary)
    common = np.sort(np.argsort(-frequency, kind="stable")[:_WORDS])
    place = np.full(table.vocabulary, -1)
    place[common] = np.arange(len(common))
    weights, chosen = np.zeros((table.count, len(common)), dtype=np.float32), place[table.words] >= 0
    weights[table.rows[chosen], place[table.words[chosen]]] = table.weights[chosen]
    return common, weights


def _directions(weights: FloatArray, first: int) -> FloatArray:
    """Project rows on the directions in which the first of them vary most, scaled to length one, or zero."""
    if not weights.size:
        return np.zeros((len(weights), 1))
    rows = weights[:first].astype(np.float64)
    if len(rows) < rows.shape[1]:
        # The smaller of the two products gives the same directions.
        eigenvalues, of_rows = np.linalg.eigh(rows @ rows.T)
        vectors = rows.T @ of_rows / np.sqrt(np.maximum(eigenvalues, 1e-12))
    else:
        _, vectors = np.linalg.eigh(rows.T @ rows)
    # The first direction is that of an average row, which all rows share.
    projected = weights @ vectors[:, ::-1][:, 1 : min(_DIRECTIONS, first)]
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    directions: FloatArray = np.where(lengths > 1e-6, projected / np.maximum(lengths, 1e-6), 0.0)
    return directions


def _cluster(directions: FloatArray, count: int) -> FloatArray:
    """Find the centres of spherical k-means, shape (count, k), beginning with rows that represent most others."""
    alike = directions @ directions.T
    covered, leaders = np.zeros(len(directions)), list[int]()
    for _ in range(count):
        leaders.append(int(np.argmax(np.maximum(alike - covered[:, None], 0.0).sum(axis=0))))
        covered = np.maximum(covered, alike[:, leaders[-1]])
    centres = directions[leaders]
    for _ in range(_PASSES):
        nearest = np.argmax(directions @ centres.T, axis=1)
        sums = np.stack([directions[nearest == group].sum(axis=0) for group in range(count)])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres)
    return centres


def _by_size(of: NDArray[np.intp], of_first: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Number groups anew, those with most of the first texts first; return their number, too."""
    sizes = np.bincount(of_first, minlength=int(of.max()) + 1)
    order = np.argsort(-sizes, kind="stable")
    number = np.empty(len(order), dtype=np.intp)
    number[order] = np.arange(len(order))
    return number[of], int(number[of].max()) + 1


def _telling(weights: FloatArray, chosen: NDArray[np.bool_], tells: NDArray[np.bool_]) -> list[int]:
    """Return the words that can tell something whose mean weight in a group exceeds that elsewhere most."""
    if not chosen.any():
        return []
    others = weights[~chosen].mean(axis=0) if not chosen.all() else 0.0
    excess = weights[chosen].mean(axis=0) - others
    return [int(i) for i in np.argsort(-excess, kind="stable") if tells[i] and excess[i] > 0][:_TELLING]


def _written_out(stems: list[str], texts: Sequence[str], places: NDArray[np.intp]) -> list[str]:
    """Return stemmed words in the form that is most frequent in the texts at `places`."""
    forms = {stem: Counter[str]() for stem in stems}
    for place in places[:_SAMPLE]:
        for form in set(_SURFACE.findall(texts[place].lower())):
            for stem in words(form):
                if stem in forms:
                    forms[stem][form] += 1
    found = (min(counts, key=lambda form: (-counts[form], form)) if counts else stem for stem, counts in forms.items())
    return [form[:_TELLING_LENGTH] for form in found]


def find_near_copies(texts: Iterable[str]) -> NDArray[np.intp]:
    """Find for each text the first one that it nearly repeats, or itself, shape (n,).

    Texts are compared by their words, so that case, punctuation and spaces make no difference.
    """
    random = np.random.default_rng(0)
    factors, offsets = (random.integers(1, 1 << 63, (_BANDS * _BAND, 1), dtype=np.uint64) | np.uint64(1) for _ in "ab")
    originals: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    runs_of: dict[int, frozenset[int]] = {}
    found = list[int]()
    for place, text in enumerate(texts):
        runs = _runs(words(text[: 20 * _LONGEST])[:_LONGEST])
        found.append(place)
        if not len(runs):
            continue
        least = (runs * factors + offsets).min(axis=1).reshape(_BANDS, _BAND)
        bands = [(band, hashes.tobytes()) for band, hashes in enumerate(least)]
        own = frozenset(runs.tolist())
        for original in dict.fromkeys(one for band in bands for one in originals[band][:_COMPARED]):
            both = len(own & runs_of[original])
            if both >= _SAME * (len(own) + len(runs_of[original]) - both):
                found[place] = original
                break
        else:
            runs_of[place] = own
            for band in bands:
                originals[band].append(place)
    return np.array(found, dtype=np.intp)


def _runs(stems: list[str]) -> NDArray[np.uint64]:
    """Hash the runs of three words in a text; one that is shorter is a single run."""
    hashes = np.array([crc32(stem.encode()) for stem in stems], dtype=np.uint64)
    run = min(_RUN, len(hashes))
    if not run:
        return hashes
    mixed = np.zeros(len(hashes) - run + 1, dtype=np.uint64)
    for i in range(run):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + hashes[i : len(mixed) + i]
    return np.unique(mixed)
