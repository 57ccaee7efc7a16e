"""The directions in which hidden states of rows differ most, which is what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# How many numbers are kept of each depth.
_NUMBERS = 128


@dataclass(frozen=True)
class Basis:
    """What states are projected on, depth by depth.

    Every number of a state is scaled by its spread over the rows, as some are always large; and each row's state to
    length one, lest long and odd rows outweigh others. Directions keep their own spreads: small ones are mostly noise.

    Attributes:
        means, spreads: Of each number of the states at each depth, shape (depths, width).
        directions: Those in which scaled states are largest, shape (depths, width, k).
    """

    means: FloatArray
    spreads: FloatArray
    directions: FloatArray

    @classmethod
    def of(cls, states: FloatArray, depths: int) -> Basis:
        """The basis that suits some states, those of all depths side by side, shape (n, depths * width)."""
        found = [_directions(part) for part in np.split(states, depths, axis=1)]
        return cls(*(np.stack(of_depths) for of_depths in zip(*found, strict=True)))

    @property
    def size(self) -> int:
        """How many numbers are kept of a row."""
        return int(self.directions.shape[0] * self.directions.shape[2])

    def project(self, states: FloatArray) -> FloatArray:
        """What is kept of some states, shape (n, size); each row is of length about one."""
        depths = len(self.means)
        parts = zip(np.split(states, depths, axis=1), self.means, self.spreads, self.directions, strict=True)
        kept = [_scaled(part, mean, spread) @ onto for part, mean, spread, onto in parts]
        projected: FloatArray = np.concatenate(kept, axis=1) / depths**0.5
        return projected

    def save(self, path: Path) -> None:
        """Keep the basis in a file, for `load`."""
        np.savez(path, means=self.means, spreads=self.spreads, directions=self.directions)

    @classmethod
    def load(cls, path: Path) -> Basis:
        """The basis that `save` kept."""
        with np.load(path) as kept:
            return cls(kept["means"], kept["spreads"], kept["directions"])


def _scaled(states: FloatArray, mean: FloatArray, spread: FloatArray) -> FloatArray:
    centred = (states - mean) / spread
    scaled: FloatArray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return scaled


def _directions(states: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and spread of each number, and the directions in which scaled states are largest, shape (width, k)."""
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    scaled = _scaled(states, mean, spread).astype(np.float64)
    if len(scaled) < scaled.shape[1]:
        # The same directions, from the smaller of the two products.
        sizes, own = np.linalg.eigh(scaled @ scaled.T)
        vectors = scaled.T @ own / np.sqrt(np.maximum(sizes, 1e-12))
    else:
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return mean, spread, np.ascontiguousarray(vectors[:, ::-1][:, :_NUMBERS])
