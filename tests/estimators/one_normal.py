"""Normal units: means and log standard deviations are the inputs, the decoder is linear."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, set_learned, taught
from tests.estimators.table import Row
from tests.oracles import hermite_rule, product_grid

TARGET = 0.3


@functools.cache
def one_normal() -> tf_relax.RelaxModel:
    """x = [mu, s] -> b -> linear -> y. Squared errors are polynomials in the noise."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    parameters = keras.layers.Dense(2, kernel_initializer="identity", name="parameters")(inputs)
    unit = tf_relax.layers.RelaxNormal(prior="standard", name="unit")
    kernel = keras.initializers.Constant(1.5)
    output = keras.layers.Dense(1, kernel_initializer=kernel, name="output")
    return tf_relax.RelaxModel(inputs, output(unit(parameters)))


def compiled(model: tf_relax.RelaxModel, estimator, **options) -> tf_relax.RelaxModel:
    """The model, compiled, everything learned at a value that is not zero."""
    estimator = taught(estimator, objective_and_network(3), scale=0.7)
    model.compile("sgd", loss="mse", estimator=estimator, **options)
    set_learned(model)
    return model


def exact_gradients(parameters: np.ndarray, row: Row) -> np.ndarray:
    """Derivatives of E[f] in [mu, s], by quadrature over the reparameterised sample."""
    samples = row.importance_samples or 1
    eps, weights = product_grid([hermite_rule(60)] * samples)
    a = tf.constant(parameters)
    with tf.GradientTape() as tape:
        tape.watch(a)
        mean, log_scale = a[:, :1, None], a[:, 1:, None]
        b = mean + tf.exp(log_scale) * eps  # [points, nodes, samples]
        f = (1.5 * b - TARGET) ** 2
        if row.importance_samples is None:
            divergence = (mean**2 + tf.exp(2 * log_scale) - 1) / 2 - log_scale
            values = (f + divergence)[..., 0]
        else:
            f += -(eps**2) / 2 - log_scale + b**2 / 2  # log q - log p
            values = np.log(samples) - tf.reduce_logsumexp(-f, axis=2)
        total = tf.reduce_sum(weights * values)
    return tape.gradient(total, a).numpy()


def mean_estimate(model: tf_relax.RelaxModel, row: Row, parameters: np.ndarray) -> np.ndarray:
    """E[g] at every row of parameters, by quadrature over the noise of all samples."""
    set_learned(model)
    nodes = {1: 40, 2: 60, 3: 8}[row.samples]  # polynomials need few
    eps, weights = product_grid([hermite_rule(nodes)] * row.samples)
    points = len(parameters)
    x = tf.constant(np.repeat(parameters, len(eps), axis=0))
    noise = np.tile(eps.T[..., None], (1, points, 1))
    y = tf.fill((len(x), 1), tf.constant(TARGET, "float64"))
    noise = tf.constant(noise if row.samples > 1 else noise[0])
    g = model.differentiate(x, y, noise=[noise]).logit_gradients[0].numpy()
    return np.einsum("n,pnk->pk", weights, g.reshape(points, len(weights), 2))
