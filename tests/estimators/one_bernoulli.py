"""Bernoulli units behind an identity, their estimate integrated over all noise, and the gradient.

The inputs of the model are offsets of the logits, so that one step serves several logits.
"""

from __future__ import annotations

import itertools

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, set_learned, taught
from tests.estimators.rules import integration_rule
from tests.estimators.table import QUADRATURE, Row
from tests.oracles import binary_strings

TARGET = 0.3


def one_bernoulli(logit: float = 0.0, units: int = 1, hidden="tanh", **options):
    """x -> logits -> b -> hidden layer -> y."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((units,))
    logits = keras.layers.Dense(
        units,
        kernel_initializer="identity",
        bias_initializer=keras.initializers.Constant(logit),
        name="logits",
    )(inputs)
    options = {"prior": "uniform", **options}
    unit = tf_relax.layers.RelaxBernoulli(name="unit", **options)
    rng = keras.initializers.GlorotUniform(seed=2)
    decoder = keras.layers.Dense(3, activation=hidden, kernel_initializer=rng, name="decoder")
    rng = keras.initializers.GlorotUniform(seed=3)
    output = keras.layers.Dense(1, kernel_initializer=rng, name="output")
    return tf_relax.RelaxModel(inputs, output(decoder(unit(logits))))


def compiled(model: tf_relax.RelaxModel, estimator, surrogate=None, **options):
    """The model, compiled, everything learned at a value that is not zero.

    Temperature 1/2 keeps sigmoid(z / t) rational in u.
    """
    surrogate = objective_and_network(3) if surrogate is None else surrogate
    estimator = taught(estimator, surrogate, temperature=0.5, scale=0.7)
    model.compile("sgd", loss="mse", estimator=estimator, **options)
    set_learned(model, integers=True)
    return model


def decoded_loss(model: tf_relax.RelaxModel, b: tf.Tensor) -> tf.Tensor:
    """Squared error, `[batch]`, of the samples (or anything in their place)."""
    output = b
    for name in ("decoder", "output"):
        output = model.get_layer(name)(output)
    return tf.reduce_mean((output - TARGET) ** 2, axis=1)


def analytic_divergence(a: tf.Tensor) -> tf.Tensor:
    """KL(q || uniform), `[batch]`."""
    return tf.reduce_sum(a * tf.sigmoid(a) - tf.nn.softplus(a) + np.log(2.0), axis=1)


def expected_objective(model, a: tf.Tensor, kl: str | None, importance_samples=None) -> tf.Tensor:
    """E[f] for every row of logits, or of minus the importance-weighted bound, by enumeration."""
    values, log_q = [], []
    for b in binary_strings(a.shape[1]):
        f = decoded_loss(model, tf.broadcast_to(tf.constant(b), a.shape))
        log_q.append(tf.reduce_sum(b * a - tf.nn.softplus(a), axis=1))
        sampled = kl == "sampled" or importance_samples is not None
        values.append(f + log_q[-1] + a.shape[1] * np.log(2.0) if sampled else f)
    total = analytic_divergence(a) if kl == "analytic" and importance_samples is None else 0.0
    for chosen in itertools.product(range(len(values)), repeat=importance_samples or 1):
        value = values[chosen[0]]
        if importance_samples is not None:
            bound = tf.reduce_logsumexp(tf.stack([-values[k] for k in chosen]), axis=0)
            value = np.log(len(chosen)) - bound
        total += tf.exp(tf.add_n([log_q[k] for k in chosen])) * value
    return total


def exact_gradients(
    model: tf_relax.RelaxModel, logits: np.ndarray, kl: str | None, importance_samples=None
) -> np.ndarray:
    """Derivative of the expected objective in the logits, `[points, units]`."""
    a = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(a)
        total = expected_objective(model, a, kl, importance_samples)
    return tape.gradient(total, a).numpy()


class Integrated:
    """The noise of all rows of quadrature for several logits as one batch.

    Args:
        model: made by `one_bernoulli`, compiled with the row's estimator.
        row: says how its noise is integrated.
        logits: `[points, units]`.
    """

    def __init__(self, model: tf_relax.RelaxModel, row: Row, logits: np.ndarray):
        self.model, self.points = model, len(logits)
        rules = [integration_rule(row, a) for a in logits]
        self.weights = [rule.weights for rule in rules]
        rows = [np.tile(a, (len(rule.weights), 1)) for a, rule in zip(logits, rules, strict=True)]
        x = np.concatenate(rows) - model.get_layer("logits").bias.numpy()
        noise = np.concatenate([rule.noise for rule in rules], axis=1)
        tensors = [x, np.full((len(x), 1), TARGET), noise if row.samples > 1 else noise[0]]
        if rules[0].conditional is not None:
            tilde = np.concatenate([rule.conditional for rule in rules], axis=1)
            tensors.append(tilde if len(tilde) > 1 else tilde[0])
        self.tensors = [tf.constant(tensor) for tensor in tensors]

    def estimate(self, x, y, noise, conditional=None) -> tf.Tensor:
        """The estimate of every row, direct derivatives of the objective included."""
        conditional = None if conditional is None else [conditional]
        step = self.model.differentiate(x, y, noise=[noise], conditional_noise=conditional)
        return step.logit_gradients[0]

    def mean(self, estimates: tf.Tensor) -> np.ndarray:
        """E[g] at every logit, `[points, units]`."""
        ends = np.cumsum([len(w) for w in self.weights])[:-1]
        parts = np.split(estimates.numpy(), ends)
        return np.stack([w @ g for w, g in zip(self.weights, parts, strict=True)])


def mean_estimate(model: tf_relax.RelaxModel, row: Row, logits: np.ndarray) -> np.ndarray:
    """E[g] at every row of logits, eagerly, with everything learned at a value that is not zero."""
    set_learned(model, integers=True)
    integrated = Integrated(model, row, np.asarray(logits))
    return integrated.mean(integrated.estimate(*integrated.tensors))


def integrated_estimate(model: tf_relax.RelaxModel, logit: float) -> float:
    """E[g] of an estimator of relaxed samples at one logit."""
    row = Row(model.estimator, QUADRATURE, None)
    return float(mean_estimate(model, row, [[logit]])[0, 0])


def exact_gradient(model: tf_relax.RelaxModel, logit: float, kl: str) -> float:
    """The derivative of the expected objective in one logit."""
    return float(exact_gradients(model, np.array([[logit]]), kl)[0, 0])
