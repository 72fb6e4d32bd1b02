"""Normal units: E[g] against the derivative of E[f], both by Gauss-Hermite quadrature."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, set_learned, taught
from tests.estimators.one_normal import compiled, exact_gradients, mean_estimate, one_normal
from tests.estimators.table import NORMAL
from tests.estimators.two_layers_quadrature import Weighted
from tests.oracles import hermite_rule, product_grid
from tf_relax.estimators import Dlax, Lax, Nvil, Reinforce, Reparameterization

pytestmark = pytest.mark.usefixtures("float64")

PARAMETERS = np.array([[0.4, -1.0], [-0.8, -0.5], [1.5, -1.5]])
# Where the log-weight is nearly linear in the noise, the logarithm of their mean is smooth.
SMOOTH = np.array([[0.4, -0.9], [-0.1, -0.8]])


@pytest.mark.parametrize("row", NORMAL, ids=repr)
def test_one_unit(row):
    """Mean and log standard deviation, with the divergence from the prior."""
    model = one_normal()
    samples = row.importance_samples
    compiled(model, row.estimator, importance_samples=samples)
    parameters = PARAMETERS if samples is None else SMOOTH
    exact = exact_gradients(parameters, row)
    np.testing.assert_allclose(mean_estimate(model, row, parameters), exact, atol=1e-9, rtol=0)


def two_normal_layers():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(2, activation="tanh", name="encoder")(inputs)
    first = tf_relax.layers.RelaxNormal(name="first")
    b_1 = first(keras.layers.Dense(2, name="parameters_1")(hidden))
    small = keras.initializers.RandomNormal(stddev=0.3, seed=5)
    parameters = keras.layers.Dense(2, kernel_initializer=small, name="parameters_2")(b_1)
    b_2 = tf_relax.layers.RelaxNormal(name="second")(parameters)
    outputs = keras.layers.Dense(1, name="output")(keras.layers.Concatenate()([b_1, b_2]))
    model = tf_relax.RelaxModel(inputs, outputs)
    for name in ("parameters_1", "parameters_2"):
        model.get_layer(name).bias.assign([0.3, -1.5])  # narrow, hence smooth
    return model


@pytest.mark.parametrize(
    "estimator",
    [Lax(), Dlax(), Reparameterization(), Reinforce(baseline="learned"), Nvil()],
    ids=repr,
)
def test_two_layers(estimator):
    """Every weight, from one whole training step whose rows are the nodes."""
    model = two_normal_layers()
    eps, weights = product_grid([hermite_rule(40)] * 2)
    x = tf.tile([[np.float64(0.5), -1.0]], [len(eps), 1])
    y = tf.fill((len(eps), 1), np.float64(0.3))
    own = model.trainable_variables
    with tf.GradientTape() as tape:
        a_1 = model.get_layer("parameters_1")(model.get_layer("encoder")(x))
        b_1 = a_1[:, :1] + tf.exp(a_1[:, 1:]) * eps[:, :1]
        a_2 = model.get_layer("parameters_2")(b_1)
        b_2 = a_2[:, :1] + tf.exp(a_2[:, 1:]) * eps[:, 1:]
        output = model.get_layer("output")(tf.concat([b_1, b_2], axis=1))
        total = tf.reduce_sum(weights * (output - y)[:, 0] ** 2)
    exact = tape.gradient(total, [v.value for v in own])
    weights = weights * len(weights)
    surrogate = objective_and_network(2)
    estimator = taught(estimator, surrogate, scale=0.7)
    if not isinstance(estimator, Reparameterization):
        estimator = Weighted(estimator, weights)
    model.compile("sgd", loss="mse", estimator=estimator)
    set_learned(model, spread=0.3)

    @tf.function(autograph=False)
    def gradients():
        step = model.differentiate(
            x, y, tf.constant(weights), noise=[tf.constant(eps[:, :1]), tf.constant(eps[:, 1:])]
        )
        return {v.path: g for v, g in zip(step.variables, step.gradients, strict=True)}

    found = gradients()
    for variable, gradient in zip(own, exact, strict=True):
        assert np.abs(gradient).max() > 1e-3
        np.testing.assert_allclose(
            found[variable.path], gradient, atol=1e-9, rtol=0, err_msg=variable.path
        )
