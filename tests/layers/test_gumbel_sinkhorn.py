"""The noise of Gumbel-Sinkhorn: its scale, and what is left without it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate

from tf_relax import RelaxModel, layers
from tf_relax._src.relaxations.birkhoff import assignment, sinkhorn
from tf_relax.relaxations import GumbelMatching
from tf_relax.sites import Record


def model_with(estimator, **options):
    inputs = keras.Input((3,))
    a = keras.layers.Reshape((3, 3))(keras.layers.Dense(9, name="encoder")(inputs))
    sample = layers.GumbelSinkhorn(name="matching", seed=0, **options)(a)
    model = RelaxModel(inputs, keras.layers.Flatten()(sample))
    model.compile("adam", "mse", estimator=estimator, run_eagerly=True)
    return model


@pytest.mark.parametrize("noise_scale", [0.0, 0.3, 2.0])
def test_samples_are_logits_plus_scaled_noise(noise_scale, rng):
    a = tf.constant(rng.normal(size=(5, 3, 3)), "float32")
    layer = layers.GumbelSinkhorn(noise_scale=noise_scale, seed=1)
    with Record() as sites:
        b = layer(a, training=True)
    (site,) = sites
    expected = a + noise_scale * site.draw.noise
    np.testing.assert_allclose(site.z, expected, rtol=1e-6)
    np.testing.assert_array_equal(b, assignment(expected))
    # The same noise, whatever its scale.
    with Record() as unscaled:
        layers.GumbelSinkhorn(seed=1)(a, training=True)
    np.testing.assert_array_equal(site.draw.noise, unscaled[0].draw.noise)


def test_without_noise_samples_are_the_mode(rng):
    a = tf.constant(rng.normal(size=(20, 4, 4)), "float32")
    layer = layers.GumbelSinkhorn(noise_scale=0, inference="mode")
    np.testing.assert_array_equal(layer(a, training=True), layer(a, training=False))


@pytest.mark.parametrize("noise_scale", [0.5, 1.0, 2.0])
def test_score_is_the_derivative_of_the_log_density(noise_scale, float64):
    """z is Gumbel with location a: by hand, and in automatic differentiation of its density."""
    noise = tf.constant([[[-1.0, 0.0], [0.5, 3.0]]], tf.float64)
    a = tf.constant([[[0.2, -0.7], [2.0, 0.0]]], tf.float64)
    relaxation = GumbelMatching(noise_scale=noise_scale)
    draw = relaxation.sample(a, noise)
    with tf.GradientTape() as tape:
        tape.watch(a)
        standard = (draw.z - a) / noise_scale
        log_density = -standard - tf.exp(-standard)
    expected = tape.gradient(log_density, a)
    np.testing.assert_allclose(relaxation.relaxed_score(a, draw), expected, rtol=1e-12)
    np.testing.assert_allclose(relaxation.score(a, draw), expected, rtol=1e-12)
    by_hand = (1 - np.exp(1.0)) / noise_scale
    np.testing.assert_allclose(relaxation.score(a, draw)[0, 0, 0], by_hand, rtol=1e-12)


@pytest.mark.parametrize("noise_scale", [0.5, 2.0])
def test_score_has_the_derivative_of_an_expectation(noise_scale, float64):
    """``d E[P(b = 1)] / da`` for two rows: by quadrature, with the score and by differences.

    With all but one of the logits' noises at 0, b is the identity where ``z_00`` is large enough.
    """
    relaxation = GumbelMatching(noise_scale=noise_scale)

    def draw_of(a00, g):
        a, noise = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
        a[0, 0, 0], noise[0, 0, 0] = a00, g
        a = tf.constant(a)
        return a, relaxation.sample(a, tf.constant(noise))

    def density(g):
        return np.exp(-g - np.exp(-g))

    def integrand(g):
        a, draw = draw_of(0.3, g)
        return density(g) * draw.b[0, 0, 0].numpy() * relaxation.score(a, draw)[0, 0, 0].numpy()

    jump = -0.3 / noise_scale  # b changes where a + s g = 0
    found = sum(
        integrate.quad(integrand, *ends, epsabs=1e-8, limit=60)[0]
        for ends in [(-4.0, jump), (jump, 4.0), (4.0, 30.0)]
    )
    # P(b_00 = 1) = P(G > -a / s) = 1 - exp(-exp(a / s)).
    expected = np.exp(0.3 / noise_scale - np.exp(0.3 / noise_scale)) / noise_scale
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_relaxed_training_without_noise(rng):
    """The derivative is that of Sinkhorn's matrix of the logits, and the same in every step."""
    model = model_with("concrete", noise_scale=0.0)
    x, y = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 9)).astype("float32")
    encoder = model.get_layer("encoder")
    step = model.differentiate(x, y)
    found = dict(zip([v.path for v in step.variables], step.gradients, strict=True))
    with tf.GradientTape() as tape:
        a = tf.reshape(encoder(x), (-1, 3, 3))
        loss = tf.reduce_mean((tf.reshape(sinkhorn(a / 0.5), (-1, 9)) - y) ** 2)
    expected = tape.gradient(loss, encoder.kernel.value)
    np.testing.assert_allclose(found[encoder.kernel.path], expected, rtol=1e-4, atol=1e-7)
    again = model.differentiate(x, y)
    np.testing.assert_array_equal(step.gradients[0], again.gradients[0])


@pytest.mark.parametrize("estimator", ["dlax", "reinforce", "leave_one_out"])
def test_without_noise_there_is_no_score(estimator, rng):
    model = model_with(estimator, noise_scale=0.0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 9))
    with pytest.raises(ValueError, match=r"GumbelSinkhorn 'matching' has noise_scale=0.*concrete"):
        model.fit(x, y, verbose=0)
    model_with(estimator, noise_scale=0.5).fit(x, y, verbose=0)


@pytest.mark.parametrize("noise_scale", [-1.0, float("nan"), float("inf")])
def test_refuses_scales(noise_scale):
    with pytest.raises(ValueError, match=r"GumbelSinkhorn.*`noise_scale` must be finite"):
        layers.GumbelSinkhorn(noise_scale=noise_scale)


def test_priors_are_for_noise_of_scale_1():
    with pytest.raises(ValueError, match=r"'units'.*divergence from a prior.*Received.*0\.5"):
        layers.GumbelSinkhorn(prior="uniform", noise_scale=0.5, name="units")
    layers.GumbelSinkhorn(prior="uniform", noise_scale=1)
    relaxation, a = GumbelMatching(noise_scale=2.0), tf.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="noise_scale=1"):
        relaxation.kl(a, a)


def test_scale_is_part_of_the_configuration():
    layer = layers.GumbelSinkhorn(noise_scale=0.25, iterations=3)
    again = layers.GumbelSinkhorn.from_config(layer.get_config())
    assert again.get_config()["noise_scale"] == again.relaxation.noise_scale == 0.25
