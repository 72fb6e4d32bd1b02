"""Oracles: exact expectations by quadrature over the noise and by enumeration of the samples."""

from __future__ import annotations

import itertools

import numpy as np


def logistic_rule(split: float, nodes: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E[g(l)], l standard logistic, where g may jump at `split`.

    Gauss-Legendre nodes in the uniform behind l, half of them on either side of the jump. Exact to
    rounding for functions that are rational in exp(z): sigmoid(z / t) and tanh(k z) with integer
    1 / t and k, which is what the tests choose.
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    v, dv = (x + 1) / 2, w / 2
    below, above = sigmoid(split), sigmoid(-split)
    left = np.log(below * v) - np.log1p(-below * v)
    right = np.log1p(-above * v) - np.log(above * v)
    return np.concatenate([left, right]), np.concatenate([below * dv, above * dv])


def conditional_noise(nodes: int = 32) -> np.ndarray:
    """Logistic noise of z~ at the quantiles where `logistic_rule` puts z given its side.

    An independent estimate is a sum of terms that depend on z or on z~ but never on both, so its
    expectation needs no grid over both: any nodes that integrate each of them will do.
    """
    x, _ = np.polynomial.legendre.leggauss(nodes)
    v = (x + 1) / 2
    return np.tile(np.log(v) - np.log1p(-v), 2)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(a / 2))


def product_grid(axes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Tensor product of one-dimensional rules: nodes `[points, len(axes)]` and their weights."""
    nodes = np.stack([g.ravel() for g in np.meshgrid(*[u for u, _ in axes], indexing="ij")], axis=1)
    weights = np.ones(1)
    for _, w in axes:
        weights = np.multiply.outer(weights, w).ravel()
    return nodes, weights


def binary_strings(size: int) -> np.ndarray:
    """All 2^size vectors of zeros and ones, `[2^size, size]`."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=size)))


def hermite_rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E[g(eps)], eps standard normal."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    return x, w / w.sum()
