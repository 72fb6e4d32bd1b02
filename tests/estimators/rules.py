"""Noise and weights that integrate an estimate on one layer exactly."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tests.estimators.table import ANTITHETIC, OUTCOMES, PATTERNS, QUADRATURE, REFLECTED, Row
from tests.oracles import binary_strings, conditional_noise, logistic_rule, product_grid, sigmoid
from tf_relax.estimators import Arms

FORCE = 50.0


class Rule(NamedTuple):
    """Rows of noise `[samples, rows, units]`, of that of z~ (or `None`), and their weights."""

    noise: np.ndarray
    conditional: np.ndarray | None
    weights: np.ndarray


def integration_rule(row: Row, logits: np.ndarray) -> Rule:
    """Returns the rule of a row of the table for a layer with given logits, `[units]`."""
    if row.one_unit == QUADRATURE:
        return quadrature(row, float(logits[0]))
    if row.one_unit == REFLECTED:
        return reflected(row, float(logits[0]))
    if row.one_unit == OUTCOMES:
        return outcomes(logits, row.samples)
    if row.one_unit == ANTITHETIC:
        noise, weights = antithetic_pieces(logits[:1])
        # The second is made from the first.
        return Rule(np.stack([noise, noise])[..., None], None, weights)
    assert row.one_unit == PATTERNS
    return patterns(row.estimator, float(logits[0]))


def quadrature(row: Row, logit: float) -> Rule:
    """Nodes on either side of the jump of every sample, and for z~ the same ones permuted.

    An estimate is a sum of terms each of which depends on one sample of z~ | b per pass (see
    `conditional_noise`), so no grid over them is needed: any nodes that integrate each will do.
    Mirrored nodes have the same weights; those of several samples are not all mirrored alike, lest
    an estimator gain from samples that are equal.
    """
    samples, count = row.samples, row.estimator.num_z_tildes
    nodes = 32 if samples == 1 else 20
    splits, weights = logistic_rule(-logit, nodes)
    noise, weights = product_grid([(splits, weights)] * samples)
    if not count:
        return Rule(noise.T[..., None], None, weights)
    half, k = conditional_noise(nodes)[:nodes], np.arange(nodes)
    outer = np.minimum(k, nodes - 1 - k)
    mirrors = [outer < 0, outer % 2 == 0][:count]  # all would give back z itself
    permuted = [np.tile(np.where(mirror, half[::-1], half), 2) for mirror in mirrors]
    # Row by row the same node of z~ as of z: the grid is one over (z, z~_1, ..., z~_M) jointly.
    index = np.array(list(itertools.product(range(2 * nodes), repeat=samples)))
    conditional = [permuted[m][index[:, k]] for k in range(samples) for m in range(count)]
    return Rule(noise.T[..., None], np.stack(conditional)[..., None], weights)


def reflected(row: Row, logit: float) -> Rule:
    """Nodes between the points where z or its reflected twin jumps, in the uniform behind z.

    The twin is made of the same noise. As for `quadrature` each node of z stands for one of z~ as
    well, and within a piece no sample changes.
    """
    x, w = np.polynomial.legendre.leggauss(32)
    v, dv = (x + 1) / 2, w / 2
    cuts = np.sort(sigmoid(np.array([logit, -logit])))
    edges = np.concatenate([[0.0], cuts, [1.0]])
    u = np.concatenate([low + (high - low) * v for low, high in itertools.pairwise(edges)])
    weights = np.concatenate([(high - low) * dv for low, high in itertools.pairwise(edges)])
    noise = np.tile(np.log(u) - np.log1p(-u), (2, 1))[..., None]
    count = row.estimator.num_z_tildes
    if not count:
        return Rule(noise, None, weights)
    quantiles = np.tile(np.log(v) - np.log1p(-v), len(edges) - 1)
    mirrored = [(-1.0) ** k * quantiles for k in range(2 * count)]  # not all alike
    return Rule(noise, np.stack(mirrored)[..., None], weights)


def outcomes(logits: np.ndarray, samples: int) -> Rule:
    """All joint outcomes of independent samples: noise of +-`FORCE` decides whatever the logit."""
    strings = binary_strings(len(logits))
    p = np.prod(np.where(strings > 0, sigmoid(logits), sigmoid(-logits)), axis=1)
    chosen = np.array(list(itertools.product(range(len(strings)), repeat=samples)))
    noise = FORCE * (2 * strings[chosen] - 1)
    return Rule(noise.transpose(1, 0, 2), None, np.prod(p[chosen], axis=1))


def antithetic_pieces(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and masses of the pieces of the noise axis that the points +-logits separate.

    A unit with any of these logits, made from noise l or from -l, is constant on every piece.
    """
    cuts = np.unique(np.concatenate([logits, -logits]))
    edges = np.concatenate([[-FORCE], cuts, [FORCE]])
    masses = np.diff(np.concatenate([[0.0], sigmoid(cuts), [1.0]]))
    return (edges[1:] + edges[:-1]) / 2, masses


def patterns(estimator: Arms, logit: float) -> Rule:
    """Raw noise for every outcome of the coupled samples, weighted with its probability."""
    rng = np.random.default_rng(0)
    raw = rng.logistic(size=(estimator.num_samples, 200_000))  # to find outcomes, not to weigh them
    logits = tf.fill(raw.shape[1:], np.float64(logit))
    coupled = estimator.couple(None, list(tf.constant(raw)), logits)  # of any layer
    b = (logit + np.stack(coupled, axis=1) > 0).astype(float)
    noise, weights = [], []
    for string in binary_strings(estimator.num_samples):
        probability = copula_probability(string, logit)
        found = np.flatnonzero((b == string).all(axis=1))
        assert (len(found) > 0) == (probability > 1e-12), string
        if len(found):
            noise.append(raw[:, found[0]])
            weights.append(probability)
    return Rule(np.stack(noise, axis=1)[..., None], None, np.array(weights))


def copula_probability(string: np.ndarray, logit: float) -> float:
    """P(b_1, ..., b_K) under the Dirichlet copula, by inclusion and exclusion.

    With ``d ~ Dirichlet(1, ..., 1)`` and ``U_i = (1 - d_i)^(K-1)``, ``P(U_i < q for all i in S) =
    max(0, 1 - |S| (1 - q^(1/(K-1))))^(K-1)``. A sample is on the rarer side of its unit where
    ``U_i < q``, ``q = min(p, 1 - p)``.
    """
    power = len(string) - 1
    r = sigmoid(-abs(logit)) ** (1 / power)
    rare = int(np.sum(string == (1.0 if logit < 0 else 0.0)))
    total = 0.0
    for more in range(len(string) - rare + 1):
        subsets = len(list(itertools.combinations(range(len(string) - rare), more)))
        size = rare + more
        all_of = 1.0 if size == 0 else max(0.0, 1 - size * (1 - r)) ** power
        total += (-1) ** more * subsets * all_of
    return total
