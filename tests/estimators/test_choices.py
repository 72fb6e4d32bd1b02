"""Estimators of choices by Gumbel-argmax: two layers, several choices per example, black boxes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.table import CHOICES
from tf_relax.estimators import SbCarms, UnorderedSet

pytestmark = pytest.mark.usefixtures("float64")

X, Y = np.array([[0.4, -1.0]]), np.array([[0.3]])


def two_choices(parallel=False, choices=()):
    """Two layers in a row or side by side, held against priors, divergences sampled."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((2,))
    below, parts = inputs, []
    for name in ("first", "second"):
        logits = keras.layers.Dense(3 * int(np.prod(choices)), name=f"logits_{name}")(below)
        logits = keras.layers.Reshape((*choices, 3))(logits)
        layer = tf_relax.layers.RelaxCategorical(prior="uniform", kl="sampled", name=name)
        parts.append(keras.layers.Flatten()(layer(logits)))
        below = inputs if parallel else parts[-1]
    hidden = keras.layers.Dense(3, "tanh")(keras.layers.Concatenate()(parts))
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(1)(hidden))


def gradients(model, rows, runs, seed=0):
    x, y = tf.repeat(X, rows, axis=0), tf.repeat(Y, rows, axis=0)
    for k, layer in enumerate(model.stochastic_layers):
        layer.seed_generator.state.assign([seed, k])

    def step():
        result = model.differentiate(x, y)
        by_id = {id(v): g for v, g in zip(result.variables, result.gradients, strict=True)}
        own = [by_id[id(v)] for v in model.trainable_variables]
        return tf.concat([tf.reshape(g, [-1]) for g in own], axis=0)

    step = tf.function(step, autograph=False) if runs > 1 else step
    return np.array([step().numpy() for _ in range(runs)])


def check(model, estimator, seed):
    """Every weight from 100 batches; Student's t with 99 degrees of freedom exceeds 6.5 once in
    3e8."""
    model.compile("sgd", "mse", estimator=tf_relax.estimators.Exact(max_outcomes=81))
    (exact,) = gradients(model, 1, 1)
    model.compile("sgd", "mse", estimator=estimator)
    found = gradients(model, 1000, 100, seed)
    error = found.std(axis=0, ddof=1) / 10
    assert error.max() < 0.05 * np.abs(exact).max()
    assert np.all(np.abs(found.mean(axis=0) - exact) <= 6.5 * error + 1e-9)


@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
@pytest.mark.parametrize("row", CHOICES, ids=repr)
def test_two_layers(row, parallel, seed):
    check(two_choices(parallel), row.estimator, seed)


@pytest.mark.parametrize("estimator", [SbCarms(2), SbCarms(3)], ids=repr)
def test_several_choices_of_an_example(estimator, seed):
    check(two_choices(choices=(2,)), estimator, seed)


def test_an_estimator_for_each(seed):
    check(two_choices(), {"first": UnorderedSet(2), "second": SbCarms(2)}, seed)


@pytest.mark.parametrize("estimator", [SbCarms(3), UnorderedSet(2)], ids=repr)
def test_black_boxes_and_xla(estimator):
    """What is not differentiated serves any objective; what is compiled gives the same numbers."""
    model = two_choices()
    noises = getattr(estimator, "num_noises", 1)
    rng = np.random.default_rng(0)
    noise = [tf.constant(rng.gumbel(size=(noises, 5, 3)[noises == 1 :])) for _ in range(2)]
    x, y = tf.repeat(X, 5, axis=0), tf.repeat(Y, 5, axis=0)
    found = []
    for loss, compiled in (("mse", False), ("mse", True), (squared, False)):
        if loss is squared:
            loss = tf_relax.losses.BlackBox(squared)
        model.compile("sgd", loss, estimator=estimator)

        @tf.function(jit_compile=compiled, autograph=False)
        def step():
            return model.differentiate(x, y, noise=noise).logit_gradients

        found.append([g.numpy() for g in step()])
    for other in found[1:]:
        for g, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(g, expected, atol=1e-12)


@pytest.mark.parametrize("estimator", [SbCarms(3), UnorderedSet(2)], ids=repr)
def test_ruled_out_categories_have_no_part(estimator, seed):
    """The mean of 50,000 draws is the exact gradient of what is left; 5 standard errors."""
    keras.utils.set_random_seed(0)
    inputs, mask = keras.Input((5,)), keras.Input((5,), dtype="bool")
    choice = tf_relax.layers.RelaxCategorical(name="choice")(inputs, mask=mask)
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3, "tanh")(choice))
    model = tf_relax.RelaxModel([inputs, mask], outputs)
    x = tf.constant(np.tile([[0.4, -1.2, 0.7, -0.1, 2.0]], (50_000, 1)))
    left = tf.constant(np.tile([[True, False, True, True, False]], (50_000, 1)))
    y = tf.zeros((50_000, 1), "float64")
    model.compile("sgd", "mse", estimator="exact")
    (exact,) = model.differentiate([x[:1], left[:1]], y[:1]).logit_gradients
    model.compile("sgd", "mse", estimator=estimator)
    model.get_layer("choice").seed_generator.state.assign([seed, 2])
    g = model.differentiate([x, left], y).logit_gradients[0].numpy()
    assert (g[:, [1, 4]] == 0).all()
    error = g.std(axis=0) / np.sqrt(len(g))
    assert np.all(np.abs(g.mean(axis=0) - exact[0]) <= 5 * error)


def squared(y, y_pred):
    return np.mean((y - y_pred) ** 2, axis=1)
