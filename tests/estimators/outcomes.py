"""Estimates that depend on samples alone, averaged over every outcome of every sample.

The model has three Bernoullis in two layers and a batch of one example. Noise of +-`FORCE` makes a
unit come out as wanted whatever its logit, so a K-sample estimate is run on all (2^3)^K joint
outcomes, each weighted with its probability, and nothing is left to chance.
"""

from __future__ import annotations

import itertools

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.oracles import binary_strings, sigmoid

FORCE = 50.0
X, Y = np.array([[0.5, -1.0]]), np.array([[0.3]])


def two_layers(prior: str | None = None) -> tf_relax.RelaxModel:
    """x -> dense -> b_1 (2 units) -> dense -> b_2 (1 unit), decoded from both."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,))
    x = keras.layers.Dense(3, activation="tanh", name="encoder")(inputs)
    first, second = (
        tf_relax.layers.RelaxBernoulli(
            name=name, prior=prior, kl="sampled", surrogate=tf_relax.surrogates.Network((2,), "tanh")
        )
        for name in ("first", "second")
    )
    b_1 = first(keras.layers.Dense(2, name="logits_1")(x))
    x = keras.layers.Dense(3, activation="tanh", name="between")(b_1)
    b_2 = second(keras.layers.Dense(1, name="logits_2")(x))
    joint = keras.layers.Concatenate()([b_1, b_2])
    hidden = keras.layers.Dense(3, activation="tanh", name="decoder")(joint)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(hidden))
    set_surrogates(model)
    return model


def set_surrogates(model: tf_relax.RelaxModel) -> None:
    """Gives everything that an estimator may have learned a value that is not zero."""
    rng = np.random.default_rng(1)
    for layer in model.stochastic_layers:
        for variable in [*layer.surrogate.trainable_variables, *layer.stein.trainable_variables]:
            variable.assign(0.5 * rng.standard_normal(variable.shape))
        layer.linear_scale.assign(-0.7)
        layer.baseline.assign(0.4)
        layer.baseline_variance.assign(0.5)
        if layer.prior == "learned":
            layer._prior_variable.assign(rng.standard_normal(layer._prior_variable.shape))


def own_variables(model: tf_relax.RelaxModel) -> list[keras.Variable]:
    """Everything that descends the objective itself."""
    return [
        v for v in model.trainable_variables if not tf_relax.surrogates.is_surrogate_variable(v)
    ]


def logits_of_second(model: tf_relax.RelaxModel, b_1: tf.Tensor) -> tf.Tensor:
    return model.get_layer("logits_2")(model.get_layer("between")(b_1))


def joint_outcomes(model: tf_relax.RelaxModel) -> list[tuple[np.ndarray, np.ndarray, tf.Tensor]]:
    """All (b_1, b_2, log p), the probability differentiable in the weights."""
    a_1 = model.get_layer("logits_1")(model.get_layer("encoder")(tf.constant(X)))
    outcomes = []
    for b in binary_strings(3):
        b_1, b_2 = b[None, :2], b[None, 2:]
        a_2 = logits_of_second(model, tf.constant(b_1))
        log_p = tf.reduce_sum(b_1 * a_1 - tf.nn.softplus(a_1))
        log_p += tf.reduce_sum(b_2 * a_2 - tf.nn.softplus(a_2))
        outcomes.append((b_1, b_2, log_p))
    return outcomes


def objective_at(model, b_1, b_2, log_q) -> tf.Tensor:
    """Squared error of one outcome, plus its sampled divergence where there is a prior."""
    joint = tf.concat([b_1, b_2], axis=1)
    output = model.get_layer("output")(model.get_layer("decoder")(joint))
    f = tf.reduce_mean((output - Y) ** 2)
    if model.get_layer("first").prior is None:
        return f
    log_p = 0.0
    for name, b in (("first", b_1), ("second", b_2)):
        prior = model.get_layer(name).prior_logits
        log_p += tf.reduce_sum(b * prior - tf.nn.softplus(prior))
    return f + log_q - log_p


def exact_gradients(model: tf_relax.RelaxModel, importance_samples: int | None = None) -> dict:
    """Gradients of the expected objective in all weights, by enumeration."""
    variables = own_variables(model)
    with tf.GradientTape() as tape:
        outcomes = joint_outcomes(model)
        f = [objective_at(model, *outcome) for outcome in outcomes]
        log_q = [outcome[2] for outcome in outcomes]
        total = tf.zeros((), "float64")
        for chosen in itertools.product(range(len(f)), repeat=importance_samples or 1):
            value = f[chosen[0]]
            if importance_samples is not None:
                log_w = tf.stack([-f[k] for k in chosen])
                value = np.log(len(chosen)) - tf.reduce_logsumexp(log_w)
            total += tf.exp(tf.add_n([log_q[k] for k in chosen])) * value
    gradients = tape.gradient(total, [v.value for v in variables])
    return {v.path: g for v, g in zip(variables, gradients, strict=True)}


def mean_step(model: tf_relax.RelaxModel, noises: list[list[np.ndarray]], weights) -> dict:
    """Weighted mean of the gradients that whole training steps give for given noise."""
    x, y = tf.constant(X), tf.constant(Y)

    @tf.function(autograph=False)
    def gradients(noise):
        step = model.differentiate(x, y, noise=noise)
        pairs = zip(step.variables, step.gradients, strict=True)
        return {v.path: g for v, g in pairs if g is not None}

    state = model.get_weights()
    mean: dict[str, np.ndarray] = {}
    for noise, weight in zip(noises, weights, strict=True):
        found = gradients([tf.constant(n) for n in noise])
        for path, g in found.items():
            mean[path] = mean.get(path, 0.0) + weight * g.numpy()
    model.set_weights(state)
    return mean


def forced_samples(model: tf_relax.RelaxModel, num_samples: int):
    """Noise and probability of all joint outcomes of K independent samples."""
    outcomes = [(b_1, b_2, float(log_p)) for b_1, b_2, log_p in joint_outcomes(model)]
    noises, weights = [], []
    for chosen in itertools.product(outcomes, repeat=num_samples):
        noise = [FORCE * (2 * np.stack([outcome[s] for outcome in chosen]) - 1) for s in (0, 1)]
        noises.append(noise if num_samples > 1 else [n[0] for n in noise])
        weights.append(np.exp(sum(log_p for *_, log_p in chosen)))
    return noises, weights


def antithetic_samples(model: tf_relax.RelaxModel):
    """Noise and probability of all that a pair (noise, -noise) can do at every unit.

    A unit changes where the noise passes +-a, for every logit a that it may be given: between those
    points the estimate is constant.
    """
    a_1 = model.get_layer("logits_1")(model.get_layer("encoder")(tf.constant(X))).numpy()[0]
    strings = binary_strings(2)
    a_2 = np.concatenate([logits_of_second(model, tf.constant(b[None])).numpy()[0] for b in strings])
    axes = []
    for logits in (a_1[:1], a_1[1:], a_2):
        cuts = np.sort(np.concatenate([logits, -logits]))
        edges = np.concatenate([[-FORCE], cuts, [FORCE]])
        masses = np.diff(np.concatenate([[0.0], sigmoid(cuts), [1.0]]))
        axes.append(list(zip((edges[1:] + edges[:-1]) / 2, masses, strict=True)))
    noises, weights = [], []
    for (l_1, w_1), (l_2, w_2), (l_3, w_3) in itertools.product(*axes):
        noise = [np.array([[l_1, l_2]]), np.array([[l_3]])]
        noises.append([np.stack([n, n]) for n in noise])  # the second is made from the first
        weights.append(w_1 * w_2 * w_3)
    return noises, weights
