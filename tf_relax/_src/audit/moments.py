"""Moments of many draws of a gradient, and whether two means differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Moments:
    """Running mean and variance of arrays of one shape, in float64 (Welford)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(())
        self._squares = np.zeros(())

    def add(self, x: np.ndarray) -> None:
        """Adds one draw."""
        self.count += 1
        delta = np.asarray(x, "float64") - self.mean
        self.mean = self.mean + delta / self.count
        self._squares = self._squares + delta * (x - self.mean)

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Returns the moments of arrays that were added in parts."""
        whole = cls()
        whole.count = parts[0].count
        whole.mean = np.concatenate([np.ravel(part.mean) for part in parts])
        whole._squares = np.concatenate([np.ravel(part._squares) for part in parts])
        return whole

    @property
    def variance(self) -> np.ndarray:
        """Unbiased variance of one draw, elementwise."""
        return self._squares / (self.count - 1)

    @property
    def mean_variance(self) -> float:
        """Variance of one draw, averaged over the elements."""
        return float(np.mean(self.variance))

    @property
    def snr(self) -> float:
        """``|E g| / sqrt(tr Cov g)``, with the noise of the mean taken off its square."""
        noise = float(np.sum(self.variance))
        signal = max(float(np.sum(self.mean**2)) - noise / self.count, 0.0)
        return math.sqrt(signal / noise) if noise > 0 else math.inf


class Bias(NamedTuple):
    """How far a mean lies from a reference.

    Attributes:
        relative: ``|E g - E r| / |E r|``, with the noise of both means taken off the squares.
        z: standard normal if there is no bias.
    """

    relative: float
    z: float


def bias(draws: np.ndarray, reference: np.ndarray) -> Bias:
    """Compares the means of two sets of independent draws, `[draws, size]`.

    The elements of a gradient are correlated, so their z-scores cannot be added up. Instead the
    first halves of the draws choose the direction in which the means seem to differ most, and the
    second halves, which know nothing of that choice, are tested along it: under no bias the result
    is a t-statistic whatever the correlations, and a true bias shows wherever it points.
    """
    g, r = (np.asarray(x, "float64").reshape(len(x), -1) for x in (draws, reference))
    half_g, half_r = len(g) // 2, max(len(r) // 2, 1)
    first_r, second_r = r[:half_r], r[half_r:] if len(r) > 1 else r
    noise = g.var(axis=0) + r.var(axis=0)
    scale = noise + 1e-6 * max(float(noise.mean()), 1e-30)
    direction = (g[:half_g].mean(axis=0) - first_r.mean(axis=0)) / scale
    along_g, along_r = g[half_g:] @ direction, second_r @ direction
    error = along_g.var(ddof=1) / len(along_g)
    if len(along_r) > 1:
        error += along_r.var(ddof=1) / len(along_r)
    difference = along_g.mean() - along_r.mean()
    z = float(difference / math.sqrt(error)) if error > 0 else 0.0 if difference == 0 else math.inf

    error_g = g.var(axis=0, ddof=1).sum() / len(g)
    error_r = r.var(axis=0, ddof=1).sum() / len(r) if len(r) > 1 else 0.0
    squared = max(float(((g.mean(axis=0) - r.mean(axis=0)) ** 2).sum() - error_g - error_r), 0.0)
    signal = max(float((r.mean(axis=0) ** 2).sum() - error_r), 0.0)
    return Bias(math.sqrt(squared / signal) if signal > 0 else math.nan, z)
