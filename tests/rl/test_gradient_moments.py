"""The running log-variance of the gradient against a plain simulation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_relax._src.rl.gradient.gradient_moments import GradientMoments


def variables():
    return [keras.Variable(np.zeros((2, 3))), keras.Variable(np.zeros(4))]


def split(g):
    return [tf.constant(g[:6].reshape(2, 3), "float32"), tf.constant(g[6:], "float32")]


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_is_the_weighted_variance_of_what_came(decay, rng):
    moments = GradientMoments(variables(), decay)
    seen = []
    for step in range(12):
        seen.append(rng.normal(size=10) + 0.5)
        found = float(moments.update(split(seen[-1])))
        if step == 0:
            assert np.isnan(found)
            continue
        weights = decay ** np.arange(step, -1, -1.0)
        weights /= weights.sum()
        mean = weights @ np.array(seen)
        spread = weights @ np.square(np.array(seen) - mean).sum(1)
        expected = np.log(spread / (1 - np.square(weights).sum()))
        assert found == pytest.approx(expected, abs=1e-3)


def test_is_unbiased(rng):
    """Over many short runs the mean of the variance is that of the gradients."""
    scales = np.linspace(0.5, 2.0, 10)
    found = []
    for _ in range(200):
        moments = GradientMoments(variables(), 0.7)
        for _ in range(3):
            value = moments.update(split(3 + scales * rng.normal(size=10)))
        found.append(np.exp(value))
    # Six standard errors: fails by chance once in 5e8 runs.
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - np.square(scales).sum()) < 6 * error
    assert error < 0.06 * np.square(scales).sum()
