"""The passes of a step: what changes from one to the next, and what estimators see in them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import modes, run_modes
from tests.training.passes import Spy, batch_statistics, look
from tf_relax import RelaxModel
from tf_relax.estimators import Estimate, Estimator
from tf_relax.layers import RelaxBernoulli


class Passages(Estimator):
    """Three passes, of which it keeps objective and samples."""

    num_passes = num_noises = 3

    def estimate(self, passes):
        self.seen = passes.f, [(one.f, [(s.b, s.logits) for s in one.sites]) for one in passes]
        return Estimate([[tf.zeros_like(s.logits) for s in one.sites] for one in passes])


@modes
def test_passes_are_independent_runs_of_the_same_model(mode, rng):
    """Dropout masks and the logits of the first layer repeat, samples do not."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
    first = RelaxBernoulli()(keras.layers.Dense(16)(hidden))
    dense = keras.layers.Dense(2)
    outputs = keras.layers.Dropout(0.5)(RelaxBernoulli()(dense(first)))
    model = RelaxModel(inputs, outputs)
    model.compile("sgd", loss="mse", estimator=Passages())
    x, y = rng.normal(size=(64, 3)), rng.normal(size=(64, 2))
    (mean, passes), y_pred = look(model, x, y, mode)
    np.testing.assert_allclose(mean, np.mean([f for f, _ in passes], axis=0), rtol=1e-5)
    np.testing.assert_allclose(passes[0][0], ((y_pred - y) ** 2).mean(axis=1), rtol=1e-5)
    kernel, bias = (np.asarray(w) for w in dense.weights)
    masks = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])[:, None, :]
    error = np.zeros((4, 64))  # of every mask that an example may have, over all passes
    for k, (f, ((b, logits), (c, inner))) in enumerate(passes):
        np.testing.assert_array_equal(logits, passes[0][1][0][1])
        np.testing.assert_allclose(inner, b @ kernel + bias, rtol=1e-4, atol=1e-5)
        error = np.maximum(error, np.abs(f - ((masks * c - y) ** 2).mean(axis=2)))
        for f_other, ((other, _), _) in passes[:k]:
            assert (b != other).any()
            assert (f != f_other).any()
    assert (error.min(axis=0) < 1e-5).all()


@modes
def test_derivative_at_the_samples(mode, x, y):
    inputs = keras.Input((3,))
    code = RelaxBernoulli(prior="uniform")(keras.layers.Dense(4)(inputs))
    decoder = keras.layers.Dense(2)
    model = RelaxModel(inputs, decoder(code))
    model.compile(
        keras.optimizers.SGD(), "mse", loss_weights=3.0, estimator=Spy(lambda one: one.derivative())
    )
    (derivative,), y_pred = look(model, x, y, mode)
    expected = 3 * (y_pred - y) @ np.asarray(decoder.kernel).T
    np.testing.assert_allclose(derivative, expected, rtol=1e-4, atol=1e-5)


@modes
def test_means_pass_through_all_later_layers(mode, x, y):
    inputs = keras.Input((3,))
    dense = [keras.layers.Dense(2) for _ in range(2)]
    value = inputs
    for linear in dense:
        value = RelaxBernoulli()(linear(value))
    model = RelaxModel(inputs, value)

    def means(one):
        levels = one.sites.levels()
        given = [[tf.fill(tf.shape(site.b), 0.25) for site in level] for level in levels]
        values = [one.at_mean(level, mean) for level, mean in zip(levels, given, strict=True)]
        return values, [site.b for site in one.sites]

    model.compile("sgd", loss="mse", estimator=Spy(means))
    ((first, second), _), _ = look(model, x, y, mode)
    kernel, bias = (np.asarray(w) for w in dense[1].weights)
    mean = 1 / (1 + np.exp(-(np.full((5, 2), 0.25) @ kernel + bias)))
    np.testing.assert_allclose(first, ((mean - y) ** 2).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(second, ((0.25 - y) ** 2).mean(axis=1), rtol=1e-5)


@modes
def test_objective_of_a_step_is_the_loss_at_its_outputs(mode, x, y):
    inputs = keras.Input((3,))
    code = RelaxBernoulli(prior="uniform", kl_weight=0.5)(
        keras.layers.Dense(4, name="code")(inputs)
    )
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    model.compile("sgd", loss="mse", loss_weights=2.0, estimator=Spy())
    weight = np.array([1.0, 0.0, 2.0, 1.0, 3.0], "float32")
    f, y_pred = look(model, x, y, mode, weight)
    logits = np.asarray(model.get_layer("code")(x))
    p = 1 / (1 + np.exp(-logits))
    kl = (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))).sum(axis=1)
    expected = 2 * weight * ((y - y_pred) ** 2).mean(axis=1) + 0.5 * kl
    np.testing.assert_allclose(f, expected, rtol=1e-5)


@modes
@pytest.mark.parametrize("coupled", [False, True])
def test_coupled_examples_answer_for_the_sum_over_the_batch(coupled, mode, x, y):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, batch_statistics(inputs))
    spies = {}
    noise = tf.zeros((5, 4))
    for batch_coupled in (coupled, None, not coupled):
        model.compile("sgd", "mse", estimator=Spy(), batch_coupled=batch_coupled)
        model.differentiate(tf.constant(x), tf.constant(y), noise=[noise])
        spies[batch_coupled] = model.estimator.seen
    assert spies[True].shape == (1,)
    assert spies[None].shape == (1,)  # found by itself
    np.testing.assert_allclose(spies[True], [np.sum(spies[False])], rtol=1e-6)


@run_modes
@pytest.mark.parametrize("estimator", ["relax", "concrete"])
def test_batch_statistics_move_once_per_step_and_as_in_keras(estimator, run_eagerly, rng):
    """Logits of +-80 make a stock model of the stochastic one; nothing else is trained."""
    # Batches of four with one positive value per column: no column is constant.
    column = np.array([[1.0], [-1.0], [-1.0], [-1.0]], "float32")
    batches = [k * rng.permuted(np.tile(column, 3), axis=0) for k in (1, 2, 3)]
    x, y = np.concatenate(batches), np.zeros((12, 3), "float32")

    def build(model_class, sample):
        inputs = keras.Input((3,))
        before = keras.layers.BatchNormalization(
            momentum=0.5, center=False, scale=False, name="before"
        )
        after = keras.layers.BatchNormalization(momentum=0.5, name="after")
        return model_class(inputs, after(sample(80 * before(inputs))))

    model = build(RelaxModel, RelaxBernoulli())
    model.compile(keras.optimizers.SGD(0.0), "mse", estimator=estimator, run_eagerly=run_eagerly)
    stock = build(
        keras.Model, keras.layers.Lambda(lambda logits: keras.ops.cast(logits > 0, "float32"))
    )
    stock.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    for trained in (model, stock):
        trained.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for name in ("before", "after"):
        layer, expected = model.get_layer(name), stock.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, expected.moving_mean, rtol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, expected.moving_variance, rtol=1e-5)


@modes
def test_class_weight_reaches_the_examples(mode, rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    labels = np.array([0, 1, 1, 0])
    inputs = keras.Input((3,))
    model = RelaxModel(
        inputs, keras.layers.Dense(2)(RelaxBernoulli()(keras.layers.Dense(2)(inputs)))
    )
    kept = tf.Variable(tf.zeros(4))
    kept_prediction = tf.Variable(tf.zeros((4, 2)))

    def keep(y_true, y_pred):
        kept_prediction.assign(y_pred)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    model.compile(
        "sgd", keep, estimator=Spy(lambda one: kept.assign(one.f)), run_eagerly=mode == "eager"
    )
    weights = {0: 0.5, 1: 3.0}
    model.fit(x, labels, batch_size=4, shuffle=False, class_weight=weights, verbose=0)
    logits = np.asarray(kept_prediction)
    nll = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
    expected = nll * np.array([0.5, 3.0, 3.0, 0.5])
    np.testing.assert_allclose(kept, expected, rtol=1e-5)
