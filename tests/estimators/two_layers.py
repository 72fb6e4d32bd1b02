"""Three Bernoullis in two layers: gradients of all weights, by enumeration and by whole steps.

The second layer follows the first, or stands beside it. The first has an analytic divergence, the
second a sampled one, both from a learned prior. Noise of +-`FORCE` makes a unit come out as wanted
whatever its logit, so an estimate that depends on samples alone is run on all (2^3)^K outcomes of K
samples, each weighted with its probability, and nothing is left to chance.
"""

from __future__ import annotations

import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, set_learned, set_statistics, taught
from tests.estimators.rules import FORCE, antithetic_pieces
from tests.estimators.table import ANTITHETIC, OUTCOMES, Row
from tests.oracles import binary_strings

X, Y = np.array([[0.5, -1.0]]), np.array([[0.3]])


@functools.cache
def two_layers(parallel: bool = False) -> tf_relax.RelaxModel:
    """x -> dense -> b_1 (2 units) -> dense -> b_2 (1 unit), decoded from both."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    x = keras.layers.Dense(3, activation="tanh", name="encoder")(inputs)
    first, second = (
        tf_relax.layers.RelaxBernoulli(
            name=name,
            prior="learned",
            kl=kl,
        )
        for name, kl in (("first", "analytic"), ("second", "sampled"))
    )
    b_1 = first(keras.layers.Dense(2, name="logits_1")(x))
    between = keras.layers.Dense(3, activation="tanh", name="between")
    b_2 = second(keras.layers.Dense(1, name="logits_2")(between(x if parallel else b_1)))
    joint = keras.layers.Concatenate()([b_1, b_2])
    hidden = keras.layers.Dense(3, activation="tanh", name="decoder")(joint)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(hidden))
    model.parallel = parallel
    return model


def compiled(row: Row, parallel: bool = False) -> tf_relax.RelaxModel:
    """The model, compiled with an estimator, everything learned at a value that is not zero."""
    model = two_layers(parallel)
    estimator = taught(row.estimator, objective_and_network(2), temperature=0.5)
    samples = row.importance_samples
    model.compile("sgd", loss="mse", estimator=estimator, importance_samples=samples)
    set_learned(model)
    return model


def own_variables(model: tf_relax.RelaxModel) -> list[keras.Variable]:
    """Everything that descends the objective itself."""
    return model.trainable_variables


def _logits(model: tf_relax.RelaxModel, b_1: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits of both layers, given the sample of the first."""
    x = model.get_layer("encoder")(tf.constant(X))
    hidden = model.get_layer("between")(x if model.parallel else tf.constant(b_1))
    return model.get_layer("logits_1")(x), model.get_layer("logits_2")(hidden)


def _log_probs(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(b * a - tf.nn.softplus(a))


def _joint_outcomes(model, sampled: bool) -> list[tuple]:
    """All (b_1, b_2, log q, f), the last two differentiable in the weights."""
    priors = [model.get_layer(name).prior_logits for name in ("first", "second")]
    outcomes = []
    for b in binary_strings(3):
        b_1, b_2 = b[None, :2], b[None, 2:]
        a_1, a_2 = _logits(model, b_1)
        hidden = model.get_layer("decoder")(tf.concat([b_1, b_2], axis=1))
        f = tf.reduce_mean((model.get_layer("output")(hidden) - Y) ** 2)
        f += _log_probs(a_2, b_2) - _log_probs(priors[1], b_2)
        if sampled:
            f += _log_probs(a_1, b_1) - _log_probs(priors[0], b_1)
        else:
            p = tf.sigmoid(a_1)
            f += tf.reduce_sum(p * (a_1 - priors[0]) - tf.nn.softplus(a_1))
            f += tf.reduce_sum(tf.nn.softplus(priors[0]))
        outcomes.append((b_1, b_2, _log_probs(a_1, b_1) + _log_probs(a_2, b_2), f))
    return outcomes


@functools.cache
def exact_gradients(parallel: bool = False, importance_samples: int | None = None) -> dict:
    """Gradients of the expected objective in all weights, by enumeration."""
    model = two_layers(parallel)
    variables = own_variables(model)
    with tf.GradientTape() as tape:
        *_, log_q, f = zip(*_joint_outcomes(model, importance_samples is not None), strict=True)
        k = importance_samples or 1
        chosen = np.array(list(itertools.product(range(len(f)), repeat=k)))
        values = tf.gather(tf.stack(f), chosen)
        p = tf.exp(tf.reduce_sum(tf.gather(tf.stack(log_q), chosen), axis=1))
        if importance_samples is None:
            total = tf.reduce_sum(p * values[:, 0])
        else:
            total = tf.reduce_sum(p * (np.log(k) - tf.reduce_logsumexp(-values, axis=1)))
    gradients = tape.gradient(total, [v.value for v in variables])
    return {v.path: g.numpy() for v, g in zip(variables, gradients, strict=True)}


def step_function(model: tf_relax.RelaxModel, rows: int = 1, eager: bool = False):
    """A function from noise to the gradients of one training step."""
    x, y = tf.tile(tf.constant(X), [rows, 1]), tf.tile(tf.constant(Y), [rows, 1])

    def gradients(noise):
        step = model.differentiate(x, y, noise=noise)
        own = {id(v) for v in own_variables(model)}
        pairs = zip(step.variables, step.gradients, strict=True)
        return {v.path: g for v, g in pairs if id(v) in own}

    return gradients if eager else tf.function(gradients, autograph=False)


def mean_step(model: tf_relax.RelaxModel, noises, weights, eager: bool = False) -> dict:
    """Weighted mean of the gradients that whole training steps give for given noise."""
    gradients = step_function(model, eager=eager)
    mean: dict[str, np.ndarray] = {}
    for noise, weight in zip(noises, weights, strict=True):
        found = gradients([tf.constant(n) for n in noise])
        set_statistics(model)  # the step before this one has moved them
        for path, g in found.items():
            mean[path] = mean.get(path, 0.0) + weight * g.numpy()
    return mean


def noise_and_weights(model: tf_relax.RelaxModel, row: Row):
    """Noise of both layers and weights, as the table says."""
    if row.two_layers == OUTCOMES:
        return _forced_samples(model, row.samples)
    assert row.two_layers == ANTITHETIC
    return _antithetic_samples(model)


def _forced_samples(model: tf_relax.RelaxModel, num_samples: int):
    """Noise and probability of all joint outcomes of K independent samples."""
    outcomes = [(b_1, b_2, float(q)) for b_1, b_2, q, _ in _joint_outcomes(model, sampled=False)]
    noises, weights = [], []
    for chosen in itertools.product(outcomes, repeat=num_samples):
        noise = [FORCE * (2 * np.stack([outcome[s] for outcome in chosen]) - 1) for s in (0, 1)]
        noises.append(noise if num_samples > 1 else [n[0] for n in noise])
        weights.append(np.exp(sum(log_q for *_, log_q in chosen)))
    return noises, weights


def _antithetic_samples(model: tf_relax.RelaxModel):
    """Noise and probability of all that a pair (l, -l) can do at every unit.

    A unit changes where the noise passes +-a, for every logit a that it may be given: between those
    points the estimate is constant.
    """
    a_2 = []
    for b in binary_strings(2):
        a_1, logits = _logits(model, b[None])
        a_2.append(logits.numpy()[0])
    axes = []
    for logits in (a_1.numpy()[0, :1], a_1.numpy()[0, 1:], np.concatenate(a_2)):
        axes.append(list(zip(*antithetic_pieces(logits), strict=True)))
    noises, weights = [], []
    for (l_1, w_1), (l_2, w_2), (l_3, w_3) in itertools.product(*axes):
        noise = [np.array([[l_1, l_2]]), np.array([[l_3]])]
        noises.append([np.stack([n, n]) for n in noise])  # the second is made from the first
        weights.append(w_1 * w_2 * w_3)
    return noises, weights
