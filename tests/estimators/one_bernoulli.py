"""One Bernoulli unit in a model, its estimate integrated over all noise, and the exact gradient."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.oracles import logistic_rule, product_grid, sigmoid

TARGET = 0.3


def small_surrogate() -> tf_relax.surrogates.Surrogate:
    """The objective plus a network whose weights are integers, so that quadrature is exact."""
    surrogate = tf_relax.surrogates.Sum(
        [tf_relax.surrogates.Objective(), tf_relax.surrogates.Network((3,), "tanh")]
    )
    return surrogate


def set_integers(layer: tf_relax.layers.RelaxBernoulli) -> None:
    rng = np.random.default_rng(0)
    for variable in layer.surrogate.trainable_variables:
        variable.assign(rng.choice([-1, 1], size=variable.shape))


def one_bernoulli(logit: float, **options) -> tf_relax.RelaxModel:
    """x -> logit -> b -> tanh layer -> y. Temperature 1/2 keeps sigmoid(z / t) rational in u."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((1,))
    logits = keras.layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(logit)
    )(inputs)
    options = {"prior": "uniform", "surrogate": small_surrogate(), **options}
    unit = tf_relax.layers.RelaxBernoulli(temperature=0.5, scale=0.7, name="unit", **options)
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3, activation="tanh")(unit(logits)))
    model = tf_relax.RelaxModel(inputs, outputs)
    set_integers(unit)
    return model


def exact_gradient(model: tf_relax.RelaxModel, logit: float, kl: str) -> float:
    """d/da of E[f(b)] at fixed f: p (1 - p) (f(1) - f(0)), by evaluating both values of b."""
    p = sigmoid(logit)
    f = []
    for b, log_q in ((0.0, np.log1p(-p)), (1.0, np.log(p))):
        output = np.array([[b]])
        for layer in model.layers[-2:]:
            output = layer(output)
        divergence = log_q + np.log(2.0) if kl == "sampled" else 0.0
        f.append((float(np.asarray(output)[0, 0]) - TARGET) ** 2 + divergence)
    return p * (1 - p) * (f[1] - f[0])


def integrated_estimate(model: tf_relax.RelaxModel, logit: float, mode: str = "eager") -> float:
    """E[g] by quadrature over the noise of z and, where the estimator draws it, that of z~."""
    axes = [logistic_rule(-logit)]
    if model.estimator.needs_conditional:
        axes.append(logistic_rule(0.0))
    nodes, weights = product_grid(axes)
    x, y = np.ones((len(weights), 1)), np.full((len(weights), 1), TARGET)
    noise = [nodes[:, :1]]
    conditional = [nodes[:, 1:]] if len(axes) == 2 else None

    def estimate(x, y):
        step = model.differentiate(x, y, noise=noise, conditional_noise=conditional)
        return step.estimate.gradients[0]

    if mode != "eager":
        estimate = tf.function(estimate, jit_compile=mode == "xla")
    g = estimate(tf.constant(x), tf.constant(y))
    return float(np.sum(weights[:, None] * g.numpy()))
