"""Poisson and geometric counts, and their weak derivatives, against sums over all counts."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_relax.relaxations import Draw, Geometric, Poisson

KINDS = {"poisson": Poisson(), "geometric": Geometric()}
K = np.arange(400.0)
by_name = pytest.mark.parametrize("name", KINDS)


def probabilities(name, a):
    if name == "poisson":
        return stats.poisson.pmf(K, np.exp(a))
    return stats.geom.pmf(K + 1, 1 / (1 + np.exp(-a)))


def at(b, a):
    b = tf.constant(b)
    return Draw(noise=b, z=b, b=b), tf.fill(b.shape, tf.constant(a, b.dtype))


@by_name
@pytest.mark.parametrize("a", [-1.5, 0.1, 1.2])
def test_probabilities_scores_and_means(name, a):
    relaxation, p = KINDS[name], probabilities(name, a)
    draw, logits = at(K, a)
    np.testing.assert_allclose(np.exp(relaxation.log_prob(logits, draw)), p, atol=1e-12)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_p = relaxation.log_prob(logits, draw)
    score = relaxation.score(logits, draw)
    np.testing.assert_allclose(score, tape.gradient(log_p, logits), atol=1e-9)
    np.testing.assert_allclose(relaxation.mean(logits)[0], p @ K, rtol=1e-6)
    assert relaxation.mode(logits).numpy()[0] == K[p.argmax()]


@by_name
def test_divergence(name):
    p, q = probabilities(name, 0.3), probabilities(name, -0.4)
    used = (p > 0) & (q > 0)
    expected = np.sum(q[used] * np.log(q[used] / p[used]))
    found = KINDS[name].kl(tf.constant(-0.4, "float64"), tf.constant(0.3, "float64"))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@by_name
@pytest.mark.parametrize("a", [-1.5, 0.0, 1.2])
def test_weak_derivative(name, a):
    """``dE[f]/da = w E[f(b + m) - f(b)]``, for an f that is no polynomial."""
    relaxation, f = KINDS[name], np.sin(K) + 0.1 * K
    p = probabilities(name, a)
    h = 1e-6
    exact = (probabilities(name, a + h) - probabilities(name, a - h)) @ f / (2 * h)
    # b + 1, and for geometric counts another draw on top: their sum is a convolution.
    more = p[:-1] if name == "poisson" else np.convolve(p, p)[: len(K) - 1]
    shifted = np.concatenate([[0.0], more])
    w = float(relaxation.weak_weight(tf.constant(a, "float64")))
    np.testing.assert_allclose(w * (shifted @ f - p @ f), exact, rtol=1e-6)


@by_name
def test_frequencies(name, seed):
    """50,000 draws: |z| > 5.5 in any of eight counts happens once in 3 million seeds."""
    relaxation, n = KINDS[name], 50_000
    logits = tf.fill((n,), tf.constant(0.4))
    noise = relaxation.noise([2], "float32", seed=tf.constant([seed, 1]))
    b = relaxation.sample(logits, noise).b.numpy()
    p = probabilities(name, 0.4)[:8]
    frequencies = np.array([np.mean(b == k) for k in range(8)])
    assert np.all(np.abs(frequencies - p) <= 5.5 * np.sqrt(p * (1 - p) / n))
    more = relaxation.more(logits, noise).numpy()
    assert more.min() == 1
    assert (more.max() > 1) == (name == "geometric")


@by_name
@pytest.mark.parametrize("a", [-80.0, 80.0, -np.inf, np.inf])
def test_far_out(name, a):
    """Rates of nothing, rates beyond all samplers: numbers of ordinary size."""
    relaxation = KINDS[name]
    logits = relaxation.bounded(tf.fill((4, 2), tf.constant(a, "float32")))
    draw = relaxation.sample(logits, tf.constant([1, 2]))
    for value in (
        draw.b,
        relaxation.log_prob(logits, draw),
        relaxation.score(logits, draw),
        relaxation.weak_weight(logits),
        relaxation.more(logits, tf.constant([3, 4])),
        relaxation.kl(logits, tf.zeros_like(logits)),
        relaxation.mean(logits),
    ):
        assert np.all(np.isfinite(value))


@by_name
def test_nan_gives_nan(name):
    logits = tf.constant([[0.0, np.nan], [0.0, 0.0]])
    b = KINDS[name].sample(logits, tf.constant([1, 2])).b.numpy()
    assert np.all(np.isnan(b[0]))
    assert np.all(np.isfinite(b[1]))


@by_name
def test_compiled(name):
    relaxation = KINDS[name]

    @tf.function(jit_compile=True)
    def draw(a, noise):
        return relaxation.sample(a, noise).b

    b = draw(tf.zeros((1000, 2)), tf.constant([1, 2])).numpy()
    assert abs(b.mean() - 1) < 0.2
    assert np.all(b == np.floor(b))
