"""Gamma, beta and Dirichlet units made by acceptance and rejection: E[g] by quadrature.

The accepted proposals are functions of a gamma variable, which is integrated over its logarithm by
the trapezoidal rule, whose error there is that of rounding; so are the uniforms of the boosts.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import gammaln

import tf_relax
from tests.estimators.table import GAMMA
from tests.layers.models import Table, gradients_of_rows
from tests.layers.test_relax_sample import beta, dirichlet, gamma
from tests.oracles import product_grid
from tf_relax._src.relaxations import rejection
from tf_relax._src.relaxations.rejection import Accepted
from tf_relax.estimators import RejectionReparameterization

pytestmark = pytest.mark.usefixtures("float64")

TARGET, SHIFT = 0.3, 0.7


def gamma_rule(alpha):
    """Nodes and weights for the expectation over a Gamma(alpha, 1) variable."""
    log_x = np.arange(-45 / alpha, 4.5, 0.05)
    return np.exp(log_x), 0.05 * np.exp(alpha * log_x - np.exp(log_x) - gammaln(alpha))


def uniform_rule():
    """The same for a uniform variable, exp(-w) with an exponential w."""
    w, weights = gamma_rule(1.0)
    return np.exp(-w), weights


def nodes_and_weights(alphas, boosts):
    """``[nodes, gammas]`` accepted proposals, ``[boosts, nodes, gammas]`` uniforms, weights."""
    rules = [gamma_rule(alpha + boosts) for alpha in alphas]
    rules += [uniform_rule()] * (boosts * len(alphas))
    nodes, weights = product_grid(rules)
    keep = weights > 1e-16
    nodes, weights = nodes[keep], weights[keep]
    gammas, u = nodes[:, : len(alphas)], nodes[:, len(alphas) :]
    eps = rejection._h_inverse(tf.constant(gammas), tf.constant(np.asarray(alphas) + boosts))
    return eps, np.moveaxis(u.reshape(len(u), boosts, -1), 1, 0), weights


def gradient(monkeypatch, make, a, eps, u, weights, estimator, boosts=1):
    """E[g] with the divergence left out: every node is an example."""

    def sample(self, logits, noise):
        trace = Accepted(eps, tf.constant(u))
        b = self._accepted_to_sample(self.make_distribution(logits), trace)
        return tf_relax.relaxations.Draw(noise=noise, z=b, b=b, trace=trace)

    monkeypatch.setattr(rejection.Rejection, "sample", sample)
    inputs = keras.Input((2,))
    unit = tf_relax.layers.RelaxSample(make, sampler="rejection", boosts=boosts, name="unit")
    outputs = keras.layers.Reshape((1,))(unit(Table(np.tile(a, (len(weights), 1)))(inputs)))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile("sgd", loss="mse", estimator=estimator)
    model.estimator_state["unit"].mean.assign(SHIFT)  # changes nothing in expectation
    x, y = tf.zeros((len(weights), 2), "float64"), tf.fill((len(weights), 1), np.float64(TARGET))
    return weights @ gradients_of_rows(model, x, y)


@pytest.mark.parametrize("row", GAMMA, ids=repr)
@pytest.mark.parametrize(("a", "boosts"), [((0.4, -0.3), 1), ((-1.0, 0.5), 1)])
def test_gamma(a, boosts, row, monkeypatch):
    """``E[(b - t)^2] = alpha (alpha + 1) / rate^2 - 2 t alpha / rate + t^2``."""
    alpha, rate = np.exp(a)
    eps, u, weights = nodes_and_weights([alpha], boosts)
    found = gradient(monkeypatch, gamma, a, eps, u, weights, row.estimator, boosts)
    exact = [
        alpha * ((2 * alpha + 1) / rate**2 - 2 * TARGET / rate),
        -2 * alpha * (alpha + 1) / rate**2 + 2 * TARGET * alpha / rate,
    ]
    np.testing.assert_allclose(found, exact, atol=1e-9, rtol=1e-9)


def test_without_the_score_it_is_biased(monkeypatch):
    """The derivative at fixed proposals alone, and the score with half its weight."""
    a = (0.4, -0.3)
    eps, u, weights = nodes_and_weights([np.exp(a[0])], 1)
    right = rejection.Rejection.correction
    exact = gradient(monkeypatch, gamma, a, eps, u, weights, RejectionReparameterization())
    for factor in (0.0, 0.5, -1.0):
        monkeypatch.setattr(
            rejection.Rejection,
            "correction",
            lambda self, a, draw, factor=factor: factor * right(self, a, draw),
        )
        found = gradient(monkeypatch, gamma, a, eps, u, weights, RejectionReparameterization())
        assert np.abs(found - exact).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "boosts"), [(gamma, 3), (beta, 1), (dirichlet, 2)], ids=["gamma", "beta", "dirichlet"]
)
def test_against_implicit_gradients(make, boosts, seed):
    """TensorFlow Probability differentiates the same expectation in another way.

    200,000 examples each; the difference of two means exceeds 6 standard errors once in 5e8.
    """
    a = np.array([[0.4, -0.3]])
    rows = 200_000
    inputs = keras.Input((2,))
    x = tf.repeat(tf.constant(a), rows, axis=0)
    found = {}
    for estimator in ("rejection", "reparameterization"):
        sampler = "tfp" if estimator == "reparameterization" else "rejection"
        unit = tf_relax.layers.RelaxSample(make, sampler=sampler, boosts=boosts, seed=seed)
        sample = unit(Table(np.tile(a, (rows, 1)))(inputs))
        outputs = sample if make is dirichlet else keras.layers.Reshape((1,))(sample)
        model = tf_relax.RelaxModel(inputs, outputs)
        model.compile("sgd", loss="mse", estimator=estimator)
        y = tf.constant([[0.9, 0.1]] if make is dirichlet else [[TARGET]], "float64")
        g = gradients_of_rows(model, x, tf.repeat(y, rows, axis=0))
        found[estimator] = g.mean(axis=0), g.var(axis=0) / rows
    (mean, var), (other, other_var) = found.values()
    assert np.abs(mean).max() > 0.01
    assert (np.abs(mean - other) < 6 * np.sqrt(var + other_var)).all()
