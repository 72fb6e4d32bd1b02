"""The normal relaxation: densities, derivatives, and what is left of z given b."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tests.oracles import hermite_rule
from tf_relax._src.relaxations.capabilities import num_outcomes
from tf_relax.relaxations import Bernoulli, Continuous, Discrete, MeanOfLogits, Normal

normal = Normal()


@pytest.fixture
def parameters(rng):
    """Means and log standard deviations of 2 x 3 units for 5 examples, and noise."""
    a = rng.normal(size=(5, 2, 6))
    return tf.constant(a), tf.constant(rng.normal(size=(5, 2, 3)))


def split(a):
    return np.split(np.asarray(a), 2, axis=-1)


def test_noise_is_standard_normal():
    noise = normal.noise((100_000,), "float32", seed=0).numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_noise_is_the_same_in_every_mode():
    def draw():
        return normal.noise((1000,), "float32", seed=7)

    eager, graph, xla = draw(), tf.function(draw)(), tf.function(draw, jit_compile=True)()
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_allclose(eager, xla, rtol=1e-4, atol=1e-5)


def test_samples_have_half_the_size_of_their_parameters(parameters):
    a, noise = parameters
    draw = normal.sample(a, noise)
    mean, log_scale = split(a)
    np.testing.assert_allclose(draw.z, mean + np.exp(log_scale) * noise, rtol=1e-12)
    np.testing.assert_array_equal(draw.b, draw.z)
    assert normal.sample_shape(a.shape) == draw.b.shape == (5, 2, 3)
    assert normal.sample_shape(tf.TensorShape([None, None])).as_list() == [None, None]
    assert num_outcomes(normal, tf.TensorShape([2])) is None
    assert isinstance(normal, Continuous)
    assert not isinstance(normal, Discrete)


def test_log_prob_is_that_of_scipy(parameters):
    a, noise = parameters
    draw = normal.sample(a, noise)
    mean, log_scale = split(a)
    expected = stats.norm.logpdf(draw.b, mean, np.exp(log_scale))
    np.testing.assert_allclose(normal.log_prob(a, draw), expected, rtol=1e-10)


def test_divergence_is_the_mean_of_the_log_ratio(parameters, rng):
    a, _ = parameters
    prior = tf.constant(rng.normal(size=a.shape))
    nodes, weights = hermite_rule(20)  # exact: the log-ratio is a polynomial of degree 2
    expected = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        draw = normal.sample(a, tf.fill([5, 2, 3], tf.constant(node, "float64")))
        ratio = normal.log_prob(a, draw) - normal.relaxed_log_prob(prior, draw.b)
        expected += weight * np.asarray(ratio)
    np.testing.assert_allclose(normal.kl(a, prior), expected, rtol=1e-9)
    assert normal.kl(a, prior).shape == (5, 2, 3)
    np.testing.assert_allclose(normal.kl(a, a), np.zeros((5, 2, 3)), atol=1e-12)


def test_entropy_is_that_of_scipy(parameters):
    a, _ = parameters
    mean, log_scale = split(a)
    expected = stats.norm(mean, np.exp(log_scale)).entropy()
    np.testing.assert_allclose(normal.entropy(a), expected, rtol=1e-12)


def test_score_is_the_derivative_of_log_prob(parameters):
    a, noise = parameters
    draw = normal.sample(a, noise)
    with tf.GradientTape() as tape:
        tape.watch(a)
        log_prob = normal.log_prob(a, draw)  # at a fixed sample
    expected = tape.gradient(log_prob, a)
    np.testing.assert_allclose(normal.score(a, draw), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(normal.relaxed_score(a, draw), normal.score(a, draw))


def test_vjp_is_the_derivative_of_the_sample(parameters, rng):
    a, noise = parameters
    h = tf.constant(rng.normal(size=noise.shape))
    with tf.GradientTape() as tape:
        tape.watch(a)
        draw = normal.sample(a, noise)
    expected = tape.gradient(draw.z, a, output_gradients=h)
    np.testing.assert_allclose(normal.vjp(a, draw, h), expected, rtol=1e-12)
    np.testing.assert_array_equal(normal.delta_vjp(a, draw, h), normal.vjp(a, draw, h))


def test_given_the_sample_nothing_is_left_to_chance(parameters):
    a, noise = parameters
    draw = normal.sample(a, noise)
    z_tilde = normal.conditional(a, draw, noise + 1)
    np.testing.assert_array_equal(z_tilde, draw.z)
    vjp = normal.conditional_vjp(a, draw, z_tilde, tf.ones_like(draw.z))
    np.testing.assert_array_equal(vjp, np.zeros(a.shape))


def test_mean_mode_and_relaxation(parameters):
    a, noise = parameters
    mean, _ = split(a)
    np.testing.assert_array_equal(normal.mean(a), mean)
    np.testing.assert_array_equal(normal.mode(a), mean)
    np.testing.assert_array_equal(normal.relax(noise, tf.constant(0.1)), noise)


def test_units_in_pairs_of_parameters_have_no_derivative_of_the_mean():
    assert Bernoulli().mean_vjp(tf.constant(0.25), tf.constant(2.0)) == 0.375
    assert not isinstance(normal, MeanOfLogits)
