"""Reduce hidden states of rows to the directions in which they differ most (principal components)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
# Components that are kept for each depth.
_COMPONENTS = 128


@dataclass(frozen=True)
class Basis:
    """The directions on which states are projected, depth by depth.

    Each dimension of a state is scaled by its standard deviation over the rows, because some dimensions are always
    large. Each row's state is then scaled to length one, so that unusual rows do not outweigh the others. Projections
    are not scaled again: components of small variance are mostly noise.

    Attributes:
        means, spreads: Mean and standard deviation of each dimension at each depth, shape (depths, width).
        directions: The directions in which scaled states vary most, shape (depths, width, k).
    """

    means: FloatArray
    spreads: FloatArray
    directions: FloatArray

    @classmethod
    def fit(cls, states: FloatArray, depths: int) -> Basis:
        """Fit a basis to states, those of all depths side by side, shape (n, depths * width)."""
        fits = [_fit_directions(part) for part in np.split(states, depths, axis=1)]
        return cls(*(np.stack(of_depths) for of_depths in zip(*fits, strict=True)))

    @property
    def size(self) -> int:
        """Return how many numbers are kept for each row."""
        return int(self.directions.shape[0] * self.directions.shape[2])

    def project(self, states: FloatArray) -> FloatArray:
        """Project states on the directions, shape (n, size); each projected row has a length of about one."""
        depths = len(self.means)
        parts = zip(np.split(states, depths, axis=1), self.means, self.spreads, self.directions, strict=True)
        projections = [_scaled(part, mean, spread) @ directions for part, mean, spread, directions in parts]
        projected: FloatArray = np.concatenate(projections, axis=1) / depths**0.5
        return projected

    def save(self, path: Path) -> None:
        """Write the basis to a file, for `load`."""
        np.savez(path, means=self.means, spreads=self.spreads, directions=self.directions)

    @classmethod
    def load(cls, path: Path) -> Basis:
        """Read the basis that `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["means"], arrays["spreads"], arrays["directions"])


def _scaled(states: FloatArray, mean: FloatArray, spread: FloatArray) -> FloatArray:
    centred = (states - mean) / spread
    scaled: FloatArray = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    return scaled


def _fit_directions(states: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return each dimension's mean and deviation, and the directions of largest variance, shape (width, k)."""
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    scaled = _scaled(states, mean, spread).astype(np.float64)
    if len(scaled) < scaled.shape[1]:
        # The smaller of the two products gives the same directions.
        eigenvalues, row_vectors = np.linalg.eigh(scaled @ scaled.T)
        vectors = scaled.T @ row_vectors / np.sqrt(np.maximum(eigenvalues, 1e-12))
    else:
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return mean, spread, np.ascontiguousarray(vectors[:, ::-1][:, :_COMPONENTS])
