"""The compiled loss of one output as one value per example."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import modes
from tests.training.objectives import (
    ABSOLUTE,
    PREDICTION,
    SQUARED,
    TARGET,
    assert_f,
    identity_model,
    objective_of,
    run,
)
from tf_relax._src.training.objective import per_example_objective
from tf_relax.losses import BernoulliNLL


def summed_absolute(y_true, y_pred):
    return keras.ops.sum(keras.ops.abs(y_true - y_pred), axis=-1)


def elementwise_square(y_true, y_pred):
    return (y_true - y_pred) ** 2


@keras.saving.register_keras_serializable(package="test_objective")
class Doubled(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return 2 * keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


@modes
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", SQUARED),
        ("mean_absolute_error", ABSOLUTE),
        (keras.losses.MeanSquaredError(), SQUARED),
        (keras.losses.mean_squared_error, SQUARED),
        (summed_absolute, [1.0, 6.0, 2.0]),
        (elementwise_square, SQUARED),  # Keras averages over elements as well
        (Doubled(), [1.0, 20.0, 4.0]),
        (keras.losses.MeanSquaredError(reduction="sum"), [1.5, 30.0, 6.0]),  # mean f is the sum
        (
            BernoulliNLL(),
            [
                np.log(2) + np.log1p(np.e),
                2 + 4 + np.log1p(np.exp([-2, -4])).sum(),
                2 * np.log1p(np.e) - 1 - 3,
            ],
        ),
    ],
    ids=[
        "name",
        "long_name",
        "object",
        "keras_function",
        "function",
        "elements",
        "subclass",
        "sum",
        "bernoulli_nll",
    ],
)
def test_loss_of_one_output(loss, expected, mode):
    result = objective_of(PREDICTION, TARGET, mode, loss=loss)
    assert_f(result, expected)
    assert result.shared == []


@modes
def test_labels_of_lower_rank(mode):
    y_pred = np.log(np.array([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]], "float32"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    result = objective_of(y_pred, np.array([1, 0, 1]), mode, loss=loss)
    assert_f(result, -np.log([0.75, 0.5, 0.1]))


@modes
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_sample_weight(mode, dtype):
    weight = np.array([2, 0, 1], dtype)
    assert_f(objective_of(PREDICTION, TARGET, mode, weight, loss="mse"), [1.0, 0.0, 2.0])


@modes
def test_sample_weight_of_two_dimensions(mode):
    weight = np.array([[2.0], [0.0], [1.0]], "float32")
    assert_f(objective_of(PREDICTION, TARGET, mode, weight, loss="mse"), [1.0, 0.0, 2.0])


@modes
def test_temporal_sample_weight(mode):
    y_pred = np.array([[[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]], "float32")
    weight = np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.5]], "float32")
    # Keras divides by the number of time steps in the batch, whatever they weigh.
    expected = [(1 + 2 * 9) / 3, (3 * 1 + 0.5 * 4) / 3]
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, weight, loss="mse"), expected)
    without = [(1 + 4 + 9) / 3, (1 + 0 + 4) / 3]
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, loss="mse"), without)


@modes
def test_mask(mode):
    x = np.array([[[1.0], [2.0], [0.0]], [[3.0], [0.0], [0.0]]], "float32")
    inputs = keras.Input((3, 1))
    model = keras.Model(inputs, keras.layers.Masking()(inputs))
    model.compile("sgd", loss="mse")

    def objective():
        return per_example_objective(model, x, np.ones_like(x), model(x), None)

    # Three of six steps are masked, so Keras doubles the weight of the others.
    assert_f(run(objective, mode), [2 * (0 + 1) / 3, 2 * 4 / 3])


@modes
@pytest.mark.parametrize("size", [2, 3])
def test_output_of_three_dimensions(size, mode):
    """With as many time steps as examples a weight per example also fits the wrong dimension."""
    y_pred = np.array([[[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]], "float32")[:, :size]
    expected = np.mean(y_pred**2, axis=(1, 2))
    assert_f(objective_of(y_pred, np.zeros_like(y_pred), mode, loss="mse"), expected)
    weight = np.array([3.0, 1.0], "float32")[:, None]
    result = objective_of(y_pred, np.zeros_like(y_pred), mode, weight, loss="mse")
    assert_f(result, weight[:, 0] * expected)


@modes
def test_images(mode, rng):
    """Losses that keep all dimensions but the last, all of them, or the first alone."""
    y_pred = rng.normal(size=(2, 2, 2, 2)).astype("float32")
    y = np.zeros_like(y_pred)
    expected = np.mean(y_pred**2, axis=(1, 2, 3))
    assert_f(objective_of(y_pred, y, mode, loss="mse"), expected)
    assert_f(objective_of(y_pred, y, mode, loss=elementwise_square), expected)
    nll = np.sum(np.log1p(np.exp(y_pred)), axis=(1, 2, 3))
    assert_f(objective_of(y_pred, y, mode, loss=BernoulliNLL()), nll)


@modes
def test_batch_of_one(mode):
    assert_f(objective_of(PREDICTION[:1], TARGET[:1], mode, loss="mse"), SQUARED[:1])


def test_values_are_differentiable_and_compile_under_xla():
    """Both weigh in: derivatives of f train the surrogates, inside the compiled step."""
    model = identity_model(PREDICTION, loss="mse")
    weight = tf.constant([2.0, 0.0, 1.0])

    @tf.function(jit_compile=True)
    def gradient(y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            f = per_example_objective(model, y_pred, TARGET, model(y_pred), weight).f
        return f, tape.gradient(f, y_pred)

    f, derivative = gradient(tf.constant(PREDICTION))
    np.testing.assert_allclose(f, [1.0, 0.0, 2.0], rtol=1e-6)
    expected = np.array([[2.0], [0.0], [1.0]]) * (PREDICTION - TARGET)
    np.testing.assert_allclose(derivative, expected, rtol=1e-6)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_other_default_float(floatx):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    y_pred, y = PREDICTION.astype(floatx), TARGET.astype(floatx)
    model = identity_model(y_pred, loss="mse")
    result = per_example_objective(model, y_pred, y, model(y_pred), None)
    assert result.f.dtype == floatx
    np.testing.assert_allclose(result.f, SQUARED, rtol=1e-3)
