"""DisARM-Tree on categories by stick-breaking: the expectation over all pairs of walks."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators import one_choice
from tests.estimators.one_choice import TARGET
from tests.estimators.rules import antithetic_pieces
from tests.estimators.table import STICKS
from tf_relax._src.estimators import disarm_tree
from tf_relax._src.relaxations.sticks import log_probabilities
from tf_relax.relaxations import stick_logits

float64 = pytest.mark.usefixtures("float64")
LOGITS = np.array([0.4, -1.2, 0.7])


def model_of(estimator, prior=None):
    """Three sticks, four categories, behind an identity; the objective is curved in b."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(3, kernel_initializer="identity", name="logits")(inputs)
    layer = tf_relax.layers.RelaxCategorical(method="stick_breaking", prior=prior, name="sticks")
    hidden = keras.layers.Dense(3, "tanh", name="hidden")(layer(logits))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1, name="output")(hidden))
    model.compile("sgd", "mse", estimator=estimator)
    return model


def exact_gradient(model, logits):
    """Derivative of the sum over the four categories."""
    a = tf.constant(logits[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(a)
        p = tf.exp(log_probabilities(a))[0]
        total = tf.reduce_sum(p * one_choice.objective(model, tf.eye(4, dtype="float64")))
    return tape.gradient(total, a).numpy()[0]


def mean_estimate(model, logits):
    """E[g] over all that a pair of walks can do, which is constant between the logits."""
    axes = [list(zip(*antithetic_pieces(np.array([a])), strict=True)) for a in logits]
    pieces = list(itertools.product(*axes))
    noise = np.array([[point for point, _ in piece] for piece in pieces])
    weights = np.array([np.prod([mass for _, mass in piece]) for piece in pieces])
    x, y = np.tile(logits, (len(noise), 1)), np.full((len(noise), 1), TARGET)
    noises = tf.constant(np.stack([noise, noise]))  # the second is made from the first
    g = model.differentiate(tf.constant(x), tf.constant(y), noise=[noises]).logit_gradients[0]
    return weights @ g.numpy()


@float64
@pytest.mark.parametrize("logits", [LOGITS, -LOGITS, 3 * LOGITS], ids=str)
@pytest.mark.parametrize("row", STICKS, ids=repr)
def test_unbiased(row, logits):
    model = model_of(row.estimator)
    exact = exact_gradient(model, logits)
    assert np.abs(exact).min() > 1e-5
    np.testing.assert_allclose(mean_estimate(model, logits), exact, atol=1e-12, rtol=0)


@float64
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("i * j * (u - u_mirrored) * tf.sigmoid(tf.abs(a))", "i * j * (u - u_mirrored)"),
        ("weight -= j * (1 - i)", "weight += j * (1 - i)"),
        ("i * (1 - j) * (u - tf.sigmoid(a))", "i * (u - tf.sigmoid(a))"),
        ("weight) / 2", "weight)"),
    ],
)
def test_mutant_is_biased(right, wrong):
    model = model_of(one_choice.mutant(disarm_tree, "DisarmTree", right, wrong)())
    assert np.abs(mean_estimate(model, LOGITS) - exact_gradient(model, LOGITS)).max() > 1e-4


@pytest.mark.parametrize("second", ["disarm_tree", "relax"])
@float64
def test_two_layers(second, seed):
    """Every weight of two layers in a row, divergences included, from 100 batches.

    Student's t with 99 degrees of freedom exceeds 6.5 once in 3e8.
    """
    keras.utils.set_random_seed(4)
    inputs = keras.Input((2,))
    below, parts = inputs, []
    for name in ("first", "second"):
        logits = keras.layers.Dense(2, name=f"logits_{name}")(below)
        layer = tf_relax.layers.RelaxCategorical(
            method="stick_breaking", prior="uniform", name=name
        )
        below = layer(logits)
        parts.append(below)
    joint = keras.layers.Concatenate()(parts)
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3, "tanh")(joint))
    model = tf_relax.RelaxModel(inputs, outputs)
    x, y = np.array([[0.4, -1.0]]), np.array([[TARGET]])

    def runs(rows, count):
        many, targets = tf.repeat(x, rows, axis=0), tf.repeat(y, rows, axis=0)

        @tf.function(autograph=False)
        def step():
            result = model.differentiate(many, targets)
            by_id = {id(v): g for v, g in zip(result.variables, result.gradients, strict=True)}
            own = [by_id[id(v)] for v in model.trainable_variables]
            return tf.concat([tf.reshape(g, [-1]) for g in own], axis=0)

        return np.array([step().numpy() for _ in range(count)])

    model.compile("sgd", "mse", estimator="exact")
    (exact,) = runs(1, 1)
    model.compile("sgd", "mse", estimator={"first": "disarm_tree", "second": second})
    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])
    found = runs(1000, 100)
    error = found.std(axis=0, ddof=1) / 10
    assert error.max() < 0.05 * np.abs(exact).max()
    assert np.all(np.abs(found.mean(axis=0) - exact) <= 6.5 * error + 1e-9)


def test_quieter_than_leaving_one_out(rng):
    """Both with two evaluations, on the logits of a softmax."""
    logits = tf.constant(rng.normal(size=(1, 8)), tf.float32)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    layer = tf_relax.layers.RelaxCategorical(method="stick_breaking", seed=1)
    sample = layer(keras.layers.Lambda(stick_logits)(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(sample))
    x, y = tf.repeat(logits, 20_000, axis=0), tf.zeros((20_000, 1))
    variance = {}
    for estimator in ("disarm_tree", "leave_one_out"):
        model.compile("sgd", "mse", estimator=estimator)
        g = model.differentiate(x, y).logit_gradients[0].numpy()
        variance[estimator] = g.var(axis=0).sum()
    assert variance["disarm_tree"] < variance["leave_one_out"]


def test_layers_that_draw_no_walks_are_refused():
    inputs = keras.Input((3,))
    code = tf_relax.layers.RelaxCategorical(name="code")(inputs)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(code))
    model.compile("sgd", "mse", estimator="disarm_tree")
    with pytest.raises(ValueError, match=r"DisarmTree\(\) walks.*'code'.*stick_br"):
        model.differentiate(np.ones((2, 3)), np.ones((2, 1)))
