"""Objectives that are NumPy code: nothing of them is differentiated or relaxed; E[g] is exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import set_learned, taught
from tests.estimators.one_bernoulli import mean_estimate
from tests.estimators.one_normal import hermite_rule, product_grid
from tests.estimators.table import BERNOULLI, NORMAL, ROWS
from tests.oracles import sigmoid
from tf_relax.estimators import LeaveOneOut

pytestmark = pytest.mark.usefixtures("float64")

LOGITS = np.array([[-1.5], [0.25], [1.0]])


def cost(y_true, y_pred):
    """Has no derivative, and refuses everything that is not a sample."""
    assert set(np.unique(y_pred)) <= {0.0, 1.0}
    return np.where(y_pred[:, 0] > 0.5, 0.49, 0.09)


def black_box_unit(estimator, importance_samples=None):
    inputs = keras.Input((1,))
    logits = keras.layers.Dense(1, kernel_initializer="identity", name="logits")(inputs)
    prior = None if importance_samples is None else "uniform"
    unit = tf_relax.layers.RelaxBernoulli(prior=prior)
    model = tf_relax.RelaxModel(inputs, unit(logits))
    loss = tf_relax.losses.BlackBox(cost)
    estimator = taught(estimator, tf_relax.surrogates.Network((3,), "tanh"))
    model.compile("sgd", loss=loss, estimator=estimator, importance_samples=importance_samples)
    return model


def exact(logits, importance_samples):
    """Derivative of E f, or of minus the bound, with f = 0.09 and 0.49."""
    a = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(a)
        p = [tf.sigmoid(-a), tf.sigmoid(a)]
        f = [0.09, 0.49]
        if importance_samples is None:
            total = p[0] * f[0] + p[1] * f[1]
        else:
            w = [0.5 * np.exp(-f[b]) / p[b] for b in (0, 1)]
            total = 0.0
            for count in range(importance_samples + 1):
                ways = np.prod(range(importance_samples - count + 1, importance_samples + 1))
                ways /= np.prod(range(1, count + 1))
                rest = importance_samples - count
                bound = tf.math.log((count * w[1] + rest * w[0]) / importance_samples)
                total -= ways * p[1] ** count * p[0] ** rest * bound
    return tape.gradient(total, a).numpy()


@pytest.mark.parametrize(
    "row",
    [row for row in BERNOULLI if not row.estimator.needs_differentiable_objective],
    ids=repr,
)
def test_one_bernoulli(row):
    model = black_box_unit(row.estimator, row.importance_samples)
    expected = exact(LOGITS, row.importance_samples)
    np.testing.assert_allclose(mean_estimate(model, row, LOGITS), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in NORMAL
        if not row.estimator.needs_differentiable_objective
        and row.samples <= 2
        and row.importance_samples is None
    ],
    ids=repr,
)
def test_one_normal(row):
    """A cubic, of which quadrature knows the expectation: mu^3 + 3 mu sigma^2."""

    def cubic(y_true, y_pred):
        return y_pred[:, 0] ** 3

    inputs = keras.Input((2,))
    unit = tf_relax.layers.RelaxNormal()
    parameters = keras.layers.Dense(2, kernel_initializer="identity")(inputs)
    model = tf_relax.RelaxModel(inputs, unit(parameters))
    estimator = taught(row.estimator, tf_relax.surrogates.Network((3,), "tanh"))
    model.compile("sgd", loss=tf_relax.losses.BlackBox(cubic), estimator=estimator)
    set_learned(model)
    mean, log_scale = 0.4, -1.0
    eps, weights = product_grid([hermite_rule(40)] * row.samples)
    x = tf.tile([[np.float64(mean), log_scale]], [len(eps), 1])
    noise = tf.constant(eps.T[..., None] if row.samples > 1 else eps)
    step = model.differentiate(x, tf.zeros((len(eps), 1), "float64"), noise=[noise])
    variance = np.exp(2 * log_scale)
    expected = [3 * mean**2 + 3 * variance, 6 * mean * variance]
    np.testing.assert_allclose(weights @ step.logit_gradients[0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.estimator.needs_differentiable_objective], ids=repr
)
def test_estimators_that_differentiate_refuse_it(row):
    with pytest.raises(ValueError, match="BlackBox"):
        black_box_unit(row.estimator, row.importance_samples)


def test_compiled_as_a_graph():
    model = black_box_unit(LeaveOneOut())
    history = model.fit(np.zeros((8, 1)), np.zeros((8, 1)), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_the_unit_is_the_one_that_the_formula_is_about():
    p = sigmoid(LOGITS)
    np.testing.assert_allclose(exact(LOGITS, None), p * (1 - p) * (0.49 - 0.09))
