"""Three Bernoullis in two layers behind BatchNorm and Dropout, integrated over relaxed samples."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tests.estimators.learned import objective_and_network, set_learned, taught
from tests.oracles import binary_strings, conditional_noise, logistic_rule, product_grid
from tf_relax.estimators import Estimate, Passes
from tf_relax.sites import Handler, Site

X = np.array([[0.5, -1.0], [1.5, 0.25]])
Y = np.array([[0.3], [-0.2]])


class Forced(Handler):
    """Returns given samples and remembers the logits: for enumeration."""

    def __init__(self, samples):
        self.samples = list(samples)
        self.logits = []

    def visit(self, layer, logits, context, mask=None):
        self.logits.append(logits)
        b = tf.cast(self.samples[len(self.logits) - 1], logits.dtype)
        draw = tf_relax.relaxations.Draw(noise=b, z=b, b=b)
        return Site(layer, layer.name, logits, context, draw, output=b)


class UnweightedPass:
    """A pass whose objective is free of the quadrature weight that every row carries."""

    def __init__(self, one, weights):
        self._one, self._weights = one, weights
        self.f, self.objective = one.f / weights, one.objective / weights

    def __getattr__(self, name):
        return getattr(self._one, name)

    def relaxed(self, level, z):
        return self._one.relaxed(level, z) / self._weights


class Weighted(tf_relax.estimators.Estimator):
    """Multiplies every example's estimate by a quadrature weight, which `f` already carries."""

    def __init__(self, estimator, weights):
        self._estimator, self._weights = estimator, tf.constant(weights)
        for name in ("num_passes", "num_noises", "num_z_tildes"):
            setattr(self, name, getattr(estimator, name))
        for name in ("check", "build"):
            setattr(self, name, getattr(estimator, name))

    def estimate(self, passes):
        w = self._weights
        unweighted = Passes([UnweightedPass(one, w) for one in passes])
        unweighted.f, unweighted.objective = passes.f / w, passes.objective / w
        estimate = self._estimator.estimate(unweighted)
        assert estimate.objectives is None
        gradients = [[g * w[:, None] for g in of_pass] for of_pass in estimate.gradients]
        return Estimate(gradients, estimate.surrogate_loss, estimate.updates)


def _unit(name):
    return tf_relax.layers.RelaxBernoulli(name=name)


@functools.cache
def normalised_layers(parallel: bool = False) -> tf_relax.RelaxModel:
    """x -> dense -> batch norm -> dropout -> b_1 (2) -> dense -> dropout -> b_2 (1) -> y."""
    keras.utils.set_random_seed(3)
    small = keras.initializers.RandomNormal(stddev=0.5, seed=5)
    # One mask for the whole batch: quadrature nodes become rows, and must share the dropout noise.
    inputs = keras.Input((2,))
    x = keras.layers.Dense(3, activation="tanh", name="encoder")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.3, noise_shape=(1, 3), seed=4)(x)
    b_1 = _unit("first")(keras.layers.Dense(2, kernel_initializer=small, name="logits_1")(x))
    between = keras.layers.Dense(3, activation="tanh", name="between")
    x = between(x if parallel else b_1)
    x = keras.layers.Dropout(0.3, noise_shape=(1, 3), seed=2)(x)
    b_2 = _unit("second")(keras.layers.Dense(1, kernel_initializer=small, name="logits_2")(x))
    outputs = keras.layers.Dense(1, name="decoder")(keras.layers.Concatenate()([b_1, b_2]))
    return tf_relax.RelaxModel(inputs, outputs)


def compiled(model: tf_relax.RelaxModel, estimator) -> tf_relax.RelaxModel:
    """Compiles the model with the same dropout masks, and surrogates that are not zero.

    Temperature 1/2 keeps sigmoid(z / t) rational in the uniforms, so quadrature is exact. Each unit
    of the first layer's surrogate sees one z, with weight 1: rational in its uniform as well.
    """
    estimator = taught(estimator, objective_and_network(2, 2), temperature=0.5, scale=0.7)
    model.compile("sgd", loss="mse", estimator=estimator)
    set_learned(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([layer.seed, 0])
    for state in model.estimator_state.by_layer.values():
        if getattr(state, "surrogate", None) is None:
            continue
        for variable in state.surrogate.trainable_variables:
            variable.assign(0.5 * np.ones(variable.shape))
        kernel = state.surrogate.surrogates[1].trainable_variables[0]
        kernel.assign(np.where(np.eye(*kernel.shape), 1.0, 0.0) + 0.5 * np.eye(*kernel.shape, -2))
    return model


def _run(model, x, samples):
    """One pass with the dropout masks of the next step and no change of state."""
    with keras.StatelessScope(), Forced(samples) as forced:
        outputs = model(x, training=True)
    return outputs, forced.logits


def enumerated_gradients(model: tf_relax.RelaxModel) -> dict:
    """Gradients of mean_i E[f_i] in all weights, by enumeration of the eight samples."""
    variables = model.trainable_variables
    x, y = tf.constant(X), tf.constant(Y)
    with tf.GradientTape() as tape:
        total = 0.0
        for b in binary_strings(3):
            b_1, b_2 = tf.tile(b[None, :2], [2, 1]), tf.tile(b[None, 2:], [2, 1])
            outputs, (a_1, a_2) = _run(model, x, [b_1, b_2])
            f = tf.reduce_mean((outputs - y) ** 2, axis=1)
            log_q = tf.reduce_sum(b_1 * a_1 - tf.nn.softplus(a_1), axis=1)
            log_q += tf.reduce_sum(b_2 * a_2 - tf.nn.softplus(a_2), axis=1)
            total += tf.reduce_mean(tf.exp(log_q) * f)
    gradients = tape.gradient(total, [v.value for v in variables])
    return {v.path: g.numpy() for v, g in zip(variables, gradients, strict=True)}


def quadrature_rows(model: tf_relax.RelaxModel, nodes: int):
    """Rows (example, noise of three units, noise of their z~) with weights.

    Every jump is a panel boundary: the third unit's lies where its logit, given the first two
    samples, changes sign.
    """
    x, y, noise, tilde, weights = [], [], [], [], []
    _, (logits_1, _) = _run(model, tf.constant(X), [np.zeros((2, 2)), np.zeros((2, 1))])
    quantiles = conditional_noise(nodes)
    for i in range(2):
        a_1 = logits_1[i].numpy()
        logits_2 = {}
        for b_1 in binary_strings(2):
            samples = [np.tile(b_1, (2, 1)), np.zeros((2, 1))]
            logits_2[tuple(b_1)] = _run(model, tf.constant(X), samples)[1][1][i, 0].numpy()
        grid, grid_weights = product_grid([logistic_rule(-a, nodes) for a in a_1])
        # z~ of the first two units swapped: equal to z in distribution, not in value.
        tilde_grid, _ = product_grid([(quantiles, quantiles)] * 2)
        for l_1, t_1, w_1 in zip(grid, tilde_grid[:, ::-1], grid_weights, strict=True):
            l_2, w_2 = logistic_rule(-logits_2[tuple((a_1 + l_1 > 0).astype(float))], nodes)
            noise.append(np.column_stack([np.tile(l_1, (len(l_2), 1)), l_2]))
            tilde.append(np.column_stack([np.tile(t_1, (len(l_2), 1)), quantiles]))
            weights.append(w_1 * w_2)
            x.append(np.tile(X[i], (len(l_2), 1)))
            y.append(np.tile(Y[i], (len(l_2), 1)))
    return [np.concatenate(column) for column in (x, y, noise, tilde, weights)]


def integrated_gradients(model: tf_relax.RelaxModel, estimator, nodes: int = 14) -> dict:
    """Gradients of whole training steps, integrated over the noise of z and of z~ | b."""
    x, y, noise, tilde, weights = quadrature_rows(model, nodes)
    # sample_weight * mean over rows = sum over nodes, averaged over the two examples.
    weights = weights * len(weights) / 2
    weighted = Weighted(estimator, weights)
    given = [tf.constant(each) for each in (x, y, weights, noise)]
    count = estimator.num_z_tildes
    if count:
        # Mirrored nodes have the same weights.
        tilde = np.stack([tilde, -tilde])[:count]
        given.append(tf.constant(tilde if count > 1 else tilde[0]))

    @tf.function(autograph=False)
    def gradients(x, y, weights, noise, tilde=None):
        conditional = None if tilde is None else [tilde[..., :2], tilde[..., 2:]]
        noise = [noise[:, :2], noise[:, 2:]]
        with model.using(weighted, model.estimator_state):
            step = model.differentiate(x, y, weights, noise=noise, conditional_noise=conditional)
        return {v.path: g for v, g in zip(step.variables, step.gradients, strict=True)}

    return {path: g.numpy() for path, g in gradients(*given).items()}
