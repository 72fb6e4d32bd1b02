"""The Bernoulli relaxation: densities, derivatives, and float32 at large logits."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import logistic

from tests.oracles import logistic_rule, sigmoid
from tf_relax.relaxations import Bernoulli

bernoulli = Bernoulli()
LOGITS = [-80.0, -20.0, -1.5, -1e-4, 0.0, 0.3, 4.0, 20.0, 80.0]


def draws(dtype="float64", size=2000):
    """Logits, z and z~ noise for every logit; the noise is what float32 can hold."""
    rng = np.random.default_rng(0)
    u = rng.integers(0, 2**23, size=(2, size, len(LOGITS))) * 2.0**-23 + 2.0**-24
    noise = np.float32(np.log(u) - np.log1p(-u))
    a = np.broadcast_to(np.float32(LOGITS), noise.shape[1:])
    return [tf.constant(x, dtype) for x in (a, noise[0], noise[1])]


def test_noise_is_logistic_and_finite():
    noise = bernoulli.noise((200_000,), "float32", seed=0).numpy()
    assert np.all(np.isfinite(noise))
    # Standard errors of the two moments of a logistic: mean 0, variance pi^2 / 3, kurtosis 4.2.
    error = np.sqrt(np.pi**2 / 3 / len(noise))
    assert abs(noise.mean()) < 5 * error
    assert abs(noise.var() / (np.pi**2 / 3) - 1) < 5 * np.sqrt(3.2 / len(noise))


def test_extreme_uniforms_stay_finite_and_symmetric(monkeypatch):
    for dtype, resolution in (("float32", 2.0**-23), ("float64", 2.0**-52)):
        ends = tf.constant([0.0, 1.0 - resolution], dtype)
        monkeypatch.setattr(tf.random, "stateless_uniform", lambda *a, ends=ends, **k: ends)
        low, high = bernoulli.noise((2,), dtype, seed=0).numpy()
        assert np.isfinite(low)
        assert low == pytest.approx(-high, rel=1e-6)


def test_noise_is_the_same_in_every_mode():
    """Philox by name: reproducible across eager, graph and XLA, which keras.random is not."""

    def draw():
        return bernoulli.noise((1000,), "float32", seed=7)

    eager, graph, xla = draw(), tf.function(draw)(), tf.function(draw, jit_compile=True)()
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_allclose(eager, xla, rtol=1e-5, atol=1e-6)


def test_probability_of_one_is_sigmoid():
    for a in (-1.5, 0.25, 3.0):
        noise, weights = logistic_rule(-a)
        b = bernoulli.sample(tf.constant(a, "float64"), tf.constant(noise)).b
        assert np.sum(weights * b) == pytest.approx(sigmoid(a), abs=1e-14)


def test_log_prob_and_score_against_enumeration():
    a = tf.constant(LOGITS[2:7], "float64")
    for b in (0.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(a)
            log_prob = bernoulli.relaxed_log_prob(a, tf.fill(a.shape, tf.constant(b, "float64")))
        p = sigmoid(a.numpy())
        np.testing.assert_allclose(log_prob, np.log(p if b else 1 - p), atol=1e-12)
        draw = bernoulli.sample(a, tf.constant(b * 200 - 100, "float64"))
        np.testing.assert_allclose(bernoulli.score(a, draw), tape.gradient(log_prob, a), atol=1e-12)


def test_relaxed_score_is_the_derivative_of_the_logistic_density():
    a, noise, _ = (x[:, 2:7] for x in draws())
    draw = bernoulli.sample(a, noise)
    with tf.GradientTape() as tape:
        tape.watch(a)
        centred = draw.z - a  # at a fixed z
        log_density = -centred - 2 * tf.nn.softplus(-centred)
    np.testing.assert_allclose(log_density, logistic.logpdf(draw.z, a), atol=1e-9)
    expected = tape.gradient(log_density, a)
    np.testing.assert_allclose(bernoulli.relaxed_score(a, draw), expected, atol=1e-12)


def test_outcomes_are_all_strings_once():
    assert bernoulli.num_outcomes(tf.TensorShape([2, 3])) == 64
    outcomes = bernoulli.outcomes(tf.TensorShape([2, 3]))
    assert outcomes.shape == (64, 2, 3)
    assert len(np.unique(outcomes, axis=0)) == 64
    assert set(np.unique(outcomes)) == {0.0, 1.0}


def test_derivative_of_the_mean():
    a = tf.constant(LOGITS, "float64")
    with tf.GradientTape() as tape:
        tape.watch(a)
        mean = bernoulli.mean(a)
    expected = tape.gradient(mean, a, output_gradients=3 * tf.ones_like(a))
    np.testing.assert_allclose(bernoulli.mean_vjp(mean, 3 * tf.ones_like(a)), expected, atol=1e-15)


def test_conditional_has_the_distribution_of_z_given_b():
    """E[g(z~) 1(b)] = E[g(z) 1(b)] for a function g, by quadrature over both noises."""
    a = tf.constant(0.7, "float64")
    noise, weights = logistic_rule(-0.7)
    for g in (tf.sigmoid, lambda z: tf.sigmoid(2 * z) ** 2, lambda z: 1 / (1 + tf.exp(-z)) ** 3):
        for side in (0.0, 1.0):
            draw = bernoulli.sample(a, tf.constant(noise))
            direct = np.sum(weights * g(draw.z).numpy() * (draw.b.numpy() == side))
            one = bernoulli.sample(a, tf.constant(200 * side - 100, "float64"))
            probability = sigmoid(0.7 if side else -0.7)
            flat, flat_weights = logistic_rule(0.0)
            z_tilde = bernoulli.conditional(a, one, tf.constant(flat))
            assert probability * np.sum(flat_weights * g(z_tilde).numpy()) == pytest.approx(
                direct, abs=1e-9
            )


def test_conditional_derivative_against_finite_differences():
    a, noise, noise_tilde = draws()
    inner = slice(2, 7)
    a, noise, noise_tilde = a[:, inner], noise[:, inner], noise_tilde[:, inner]
    draw = bernoulli.sample(a, noise)
    z_tilde = bernoulli.conditional(a, draw, noise_tilde)
    step = 1e-6
    up, down = (bernoulli.conditional(a + s, draw, noise_tilde) for s in (step, -step))
    closed = bernoulli.conditional_vjp(a, draw, z_tilde, tf.ones_like(a))
    np.testing.assert_allclose(closed, (up - down) / (2 * step), atol=2e-9)


def test_coupled_derivative_is_one_minus_that_of_the_equal_conditional_sample():
    a, noise, _ = draws()
    a, noise = a[:, 2:7], noise[:, 2:7]
    draw = bernoulli.sample(a, noise)
    ones = tf.ones_like(a)
    delta = bernoulli.delta_vjp(a, draw, ones)
    np.testing.assert_allclose(
        delta, 1 - bernoulli.conditional_vjp(a, draw, draw.z, ones), atol=1e-12
    )
    # The noise that makes z~ equal to z, moved along with a as z~ does: dz/da - dz~/da by hand.
    s = 2 * draw.b - 1
    noise_tilde = tf.math.log(tf.math.expm1(s * draw.z)) - tf.nn.softplus(s * a)
    step = 1e-6
    up, down = (bernoulli.conditional(a + e, draw, noise_tilde) for e in (step, -step))
    np.testing.assert_allclose(delta, 1 - (up - down) / (2 * step), atol=1e-8)
    assert np.all(delta > 0)
    assert np.all(delta <= 1)


@pytest.mark.parametrize("logit", LOGITS)
def test_float32_agrees_with_float64(logit):
    column = LOGITS.index(logit)
    results = []
    for dtype in ("float32", "float64"):
        a, noise, noise_tilde = (x[:, column] for x in draws(dtype))
        draw = bernoulli.sample(a, noise)
        z_tilde = bernoulli.conditional(a, draw, noise_tilde)
        h = tf.ones_like(a)
        results.append(
            [
                draw.z,
                draw.b,
                bernoulli.log_prob(a, draw),
                bernoulli.score(a, draw),
                z_tilde,
                bernoulli.conditional_vjp(a, draw, z_tilde, h),
                bernoulli.delta_vjp(a, draw, h),
                bernoulli.relax(draw.z, tf.constant(0.1, dtype)),
            ]
        )
        assert np.all((z_tilde.numpy() > 0) == (draw.b.numpy() == 1))  # never on the wrong side
    for single, double in zip(*[[x.numpy() for x in row] for row in results], strict=False):
        assert np.all(np.isfinite(single))
        error = np.abs(single - double) / np.maximum(1, np.abs(double))
        assert error.max() < 1e-5
