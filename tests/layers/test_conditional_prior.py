"""`ConditionalPrior`: which layer drew the samples, their divergence, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tests.layers.models import divergence
from tf_relax import layers

tfd = tfp.distributions


def gamma(a):
    return tfd.Gamma(tf.exp(a), 1.0)


DISTRIBUTIONS = {
    "poisson": (layers.RelaxPoisson, lambda a: tfd.Poisson(log_rate=a)),
    "geometric": (layers.RelaxGeometric, lambda a: tfd.Geometric(logits=a)),
    "gamma": (lambda: layers.RelaxSample(gamma), gamma),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_divergence_of_one_sample(name, rng):
    make, distribution = DISTRIBUTIONS[name]
    a, prior = (tf.constant(rng.normal(size=(5, 3)), "float32") for _ in range(2))
    held, sample = layers.ConditionalPrior(), make()(a, training=True)
    assert held(sample, a, prior) is sample
    log_ratio = distribution(a).log_prob(sample) - distribution(prior).log_prob(sample)
    np.testing.assert_allclose(divergence(held), tf.reduce_sum(log_ratio, axis=1), atol=1e-4)


def test_divergence_of_normal_samples_has_the_entropy_in_closed_form(rng):
    a, prior = (tf.constant(rng.normal(size=(5, 6)), "float32") for _ in range(2))
    held, sample = layers.ConditionalPrior(), layers.RelaxNormal()(a, training=True)
    held(sample, a, prior)
    (_, log_scale), (mean, prior_scale) = (np.split(x, 2, axis=1) for x in (a, prior))
    entropy = np.sum(0.5 * np.log(2 * np.pi * np.e) + log_scale, axis=1)
    log_p = tfd.Normal(mean, np.exp(prior_scale)).log_prob(sample)
    np.testing.assert_allclose(divergence(held), -entropy - np.sum(log_p, axis=1), rtol=1e-4)


def test_the_mask_of_the_layer_need_not_be_repeated(rng):
    a, prior = (tf.constant(rng.normal(size=(2, 4)), "float32") for _ in range(2))
    mask = tf.constant([[True, True, False, True], [True, False, False, True]])
    sample = layers.RelaxCategorical()(a, mask=mask, training=True)
    found, expected = layers.ConditionalPrior(), layers.ConditionalPrior("categorical")
    found(sample, a, prior)
    expected(sample, a, prior, mask=mask)
    assert getattr(sample, "_keras_mask", None) is None  # the mask of items is none of steps
    np.testing.assert_array_equal(divergence(found), divergence(expected))
    unmasked = layers.ConditionalPrior("categorical")
    unmasked(sample, a, prior)
    assert np.abs(divergence(found) - divergence(unmasked)).min() > 1e-4


def test_samples_that_went_through_another_layer():
    sample = keras.layers.Reshape((2, 2))(layers.RelaxBernoulli()(tf.zeros((1, 4)), training=True))
    a = tf.zeros((1, 2, 2))
    with pytest.raises(ValueError, match=r"does not know which layer drew its samples.*`kind`"):
        layers.ConditionalPrior()(sample, a, a)
    held = layers.ConditionalPrior("bernoulli")
    held(sample, a, a)
    np.testing.assert_allclose(divergence(held), [0.0], atol=1e-6)


@pytest.mark.parametrize("kind", [layers.GumbelSinkhorn, layers.Rounding])
def test_samples_whose_probability_is_not_known(kind):
    a = tf.zeros((1, 3, 6 if kind is layers.Rounding else 3))
    sample = kind()(a, training=True)
    with pytest.raises(ValueError, match="is not known, so that it cannot be held"):
        layers.ConditionalPrior()(sample, a, a)


def test_modes_of_what_needs_a_sample():
    a = tf.zeros((1, 4))
    sample = layers.RelaxTopK(2, inference="mode")(a, training=False)
    with pytest.raises(ValueError, match=r"estimated from a sample.*inference='sample'"):
        layers.ConditionalPrior()(sample, a, a)


def test_saved_and_trained_again(tmp_path, rng):
    inputs = keras.Input((3,))
    a = keras.layers.Dense(4)(inputs)
    tree = layers.RelaxSpanningTree(edges=[(0, 1), (1, 2), (0, 2), (2, 3)], seed=1)(a)
    top = layers.RelaxBernoulli(prior="uniform", seed=2)(keras.layers.Dense(2)(tree))
    tree = layers.ConditionalPrior()(tree, a, keras.layers.Dense(4)(top))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(tree))
    model.compile("adam", "mse", estimator="leave_one_out", run_eagerly=True)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    losses = [m.fit(x, y, verbose=0).history["loss"] for m in (model, again)]
    assert losses[0] == losses[1]
    assert np.isfinite(losses).all()
