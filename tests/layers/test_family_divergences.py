"""How far layers of categories, permutations, subsets and trees are from their priors."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate

from tests.layers.families import (
    divergence,
    families,
    log_probabilities,
    logits,
)
from tests.relaxations.families import FAMILIES
from tf_relax import layers
from tf_relax.sites import Record


def with_prior(family, kind, rng, **options):
    """A layer with a prior, and the prior's logits."""
    fixed = rng.normal(size=family.event)
    layer = family.make(prior=fixed if kind == "logits" else kind, **options)
    layer.build((None, *family.event))
    uniform = layer.relaxation.uniform_logits(family.shape)
    if kind != "logits":
        np.testing.assert_allclose(layer.prior_logits + np.zeros(family.event), uniform)
    if kind == "learned":
        layer._prior_variable.assign(fixed)
    return layer, uniform if kind == "uniform" else fixed


def enumerated_divergence(layer, a, prior, shape):
    """``sum q log(q / p)`` over all outcomes, orders of choice included."""
    outcomes = layer.relaxation.outcomes(shape)
    log_p = log_probabilities(layer.relaxation, outcomes, tf.constant(prior, a.dtype))
    log_q = log_probabilities(layer.relaxation, outcomes, a)
    return np.sum(np.exp(log_q) * (log_q - log_p))


priors = pytest.mark.parametrize("prior", ["uniform", "learned", "logits"])


@priors
@pytest.mark.parametrize("name", ["categorical", "sticks"])
def test_analytic_divergence(name, prior, rng, float64):
    family = next(family for family in FAMILIES if family.name == name)
    layer, values = with_prior(family, prior, rng, kl_weight=0.5)
    a = logits(family, rng, dtype="float64")
    layer(a, training=True)
    expected = [enumerated_divergence(layer, row, values, family.shape) for row in a]
    np.testing.assert_allclose(divergence(layer), 0.5 * np.array(expected), rtol=1e-12)
    assert np.min(expected) > 0.01


@priors
@families
def test_sampled_divergence_in_expectation(family, prior, rng, float64, seed):
    """20,000 draws; an error beyond 6 standard errors happens once in 5e8, of 33 once in 1.5e7.

    Every single one is ``log q - log p`` of what was drawn.
    """
    layer, values = with_prior(family, prior, rng, kl="sampled", seed=seed)
    row = logits(family, rng, 1, dtype="float64")
    a = tf.repeat(row, 20_000, axis=0)
    with Record() as sites:
        layer(a, training=True)
    found = divergence(layer)
    relaxation, draw = layer.relaxation, sites[0].draw
    p = tf.broadcast_to(tf.constant(values), a.shape)
    log_ratio = relaxation.log_prob(a, draw) - relaxation.log_prob(p, draw)
    log_ratio = np.asarray(log_ratio).reshape(len(a), -1).sum(axis=1)
    np.testing.assert_allclose(found, log_ratio, atol=1e-9)
    expected = enumerated_divergence(layer, row[0], values, family.shape)
    assert expected > 0.01
    assert abs(found.mean() - expected) < 6 * found.std() / np.sqrt(len(a))


def test_divergence_between_gumbel_matrices(rng, float64):
    """That of z, element by element: a numeric integral over both Gumbel densities."""
    prior = rng.normal(size=(3, 3))
    layer = layers.GumbelSinkhorn(prior=prior)
    a = rng.normal(size=(1, 3, 3))
    layer(tf.constant(a), training=True)

    def log_density(z, at):
        return -(z - at) - np.exp(-(z - at))

    total = 0.0
    for q, p in zip(a.ravel(), prior.ravel(), strict=True):

        def integrand(z, q=q, p=p):
            log_q = log_density(z, q)
            return np.exp(log_q) * (log_q - log_density(z, p))

        total += integrate.quad(integrand, q - 5, q + 60, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
    np.testing.assert_allclose(divergence(layer), [total], rtol=1e-9)


@families
def test_divergence_without_a_sample(family, rng):
    """By formula in `mode`; where there is none, an error says what to do."""
    layer = family.make(prior="uniform", inference="mode")
    a = logits(family, rng)
    if family.name in ("categorical", "sticks"):
        layer(a, training=False)
        assert (divergence(layer) > 0).all()
    else:
        with pytest.raises(ValueError, match=r"estimated from a sample.*inference='sample'"):
            layer(a, training=False)


@pytest.mark.parametrize("name", ["top_2_of_5", "plackett_luce"])
def test_divergence_of_indices(name, rng):
    """What cannot be relaxed is scored by its trace."""
    family = next(family for family in FAMILIES if family.name == name)
    make = functools.partial(layers.RelaxTopK, 2) if name == "top_2_of_5" else family.make
    terms = []
    for output in (None, "index"):
        kind = {} if output is None else {"output": output}
        layer = make(prior="uniform", seed=2, **kind)
        layer(logits(family, np.random.default_rng(1)), training=True)
        terms.append(divergence(layer))
    np.testing.assert_allclose(*terms, rtol=1e-6)
