"""Estimators that are biased, by how much, and where one of them is not.

Each expectation is derived here once more, as a formula in p, f and f' or as an integral over z.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.estimators.one_bernoulli import (
    compiled,
    decoded_loss,
    exact_gradients,
    mean_estimate,
    one_bernoulli,
)
from tests.estimators.table import BIASED, OUTCOMES, Row
from tests.oracles import logistic_rule, sigmoid
from tf_relax.estimators import (
    Concrete,
    GumbelStraightThrough,
    Nvil,
    ReinMax,
    StraightThrough,
)

pytestmark = pytest.mark.usefixtures("float64")

LOGITS = np.array([[-1.5], [0.25], [1.0]])


def f_and_derivative(model, b):
    """f and f' at points that need not be samples."""
    b = tf.constant(np.reshape(b, (-1, 1)))
    with tf.GradientTape() as tape:
        tape.watch(b)
        f = decoded_loss(model, b)
    return f.numpy(), tape.gradient(f, b).numpy()[:, 0]


def expectation(model, estimator, a):
    """E[g] on one unit without a prior, for one logit."""
    p = sigmoid(a)
    f, slope = f_and_derivative(model, [0.0, 1.0])
    mean_slope = p * slope[1] + (1 - p) * slope[0]
    if isinstance(estimator, Nvil):
        # Running standard deviation 1.5: the paper's signal is divided by it.
        return p * (1 - p) * (f[1] - f[0]) / 1.5
    if isinstance(estimator, ReinMax):
        m_0, m_1 = p / 2, (p + 1) / 2
        factors = 2 * m_0 * (1 - m_0) - p * (1 - p) / 2, 2 * m_1 * (1 - m_1) - p * (1 - p) / 2
        return (1 - p) * slope[0] * factors[0] + p * slope[1] * factors[1]
    if isinstance(estimator, StraightThrough) and estimator.backward == "mean":
        return mean_slope * p * (1 - p)
    if isinstance(estimator, StraightThrough) and estimator.backward == "identity":
        return mean_slope
    # d relax(a + l, t)/da = y (1 - y) / t; its temperature is 1/2.
    t = 1.0 if isinstance(estimator, GumbelStraightThrough) else 0.5
    noise, weights = logistic_rule(-a, nodes=64)
    y = sigmoid((a + noise) / t)
    point = y if isinstance(estimator, Concrete) else (a + noise > 0).astype(float)
    return weights @ (f_and_derivative(model, point)[1] * y * (1 - y) / t)


@pytest.mark.parametrize("row", BIASED, ids=repr)
def test_the_bias_is_what_it_should_be(row):
    assert not row.estimator.unbiased
    model = one_bernoulli(prior=None)
    compiled(model, row.estimator)
    found = mean_estimate(model, row, LOGITS)[:, 0]
    expected = [expectation(model, row.estimator, a) for a in LOGITS[:, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)
    bias = found - exact_gradients(model, LOGITS, None)[:, 0]
    assert np.abs(bias).min() > 1e-5


@pytest.mark.parametrize("prior", [None, "uniform"])
def test_reinmax_is_exact_for_quadratic_objectives(prior):
    row = Row(ReinMax(), OUTCOMES, None)
    model = one_bernoulli(prior=prior, hidden=None)
    compiled(model, row.estimator)
    exact = exact_gradients(model, LOGITS, None if prior is None else "analytic")
    np.testing.assert_allclose(mean_estimate(model, row, LOGITS), exact, atol=1e-9, rtol=0)


def test_reinmax_at_another_temperature_is_not():
    row = Row(ReinMax(temperature=1.5), OUTCOMES, None)
    model = one_bernoulli(prior=None, hidden=None)
    compiled(model, row.estimator)
    found = mean_estimate(model, row, LOGITS)[:, 0]
    _, slope = f_and_derivative(model, [0.0, 1.0])
    p, q = sigmoid(LOGITS[:, 0]), sigmoid(LOGITS[:, 0] / 1.5)
    expected = 0.0
    for b, probability in ((0.0, 1 - p), (1.0, p)):
        m = (q + b) / 2
        expected += probability * slope[int(b)] * (2 * m * (1 - m) - p * (1 - p) / 2)
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)
    assert np.abs(found - exact_gradients(model, LOGITS, None)[:, 0]).min() > 1e-5


def test_the_biased_direct_part_is_left_alone():
    """Nvil(normalize=True) rescales what is estimated, and not the derivative of a divergence."""
    row = next(row for row in BIASED if isinstance(row.estimator, Nvil))
    model = one_bernoulli()
    compiled(model, row.estimator)
    p = sigmoid(LOGITS[:, 0])
    direct = p * (1 - p) * LOGITS[:, 0]
    estimated = np.array([expectation(model, row.estimator, a) for a in LOGITS[:, 0]])
    found = mean_estimate(model, row, LOGITS)[:, 0]
    np.testing.assert_allclose(found, direct + estimated, atol=1e-9, rtol=0)
