"""Objectives and layers that `Exact` cannot enumerate."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.bad_input.models import X, Y, encoder, functional, refuses
from tests.models import bernoulli, costs, run_modes
from tf_relax import RelaxModel, estimators
from tf_relax.losses import BlackBox


@run_modes
@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((7,), r"128 joint outcomes \(128 of 'first'\).*max_outcomes=64.*'relax'"),
        ((4, 5), r"512 joint outcomes \(16 of 'first', 32 of 'second'\).*max_outcomes=64"),
        ((100,), r"1.268e\+30 joint outcomes \(1.27e\+30 of 'first'\)"),
    ],
    ids=["one", "two", "huge"],
)
def test_too_many_outcomes(units, message, run_eagerly):
    inputs = value = keras.Input((3,))
    for size, name in zip(units, ("first", "second"), strict=False):
        value = bernoulli(name=name)(keras.layers.Dense(size)(value))
    model = RelaxModel(inputs, keras.layers.Dense(4)(value))
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    refuses(ValueError, f"Exact would have to enumerate {message}", model)


def test_as_many_outcomes_as_are_allowed():
    model = functional(bernoulli())
    for largest, error in ((16, None), (15, ValueError)):
        estimator = estimators.Exact(max_outcomes=largest)
        model.compile("sgd", "mse", estimator=estimator, run_eagerly=True)
        with pytest.raises(error, match="16 joint") if error else contextlib.nullcontext():
            model.fit(X, Y, verbose=0)


def test_outcomes_of_unknown_number():
    inputs = keras.Input((None, 2))
    code = bernoulli()(inputs)
    model = RelaxModel(inputs, keras.ops.sum(code, axis=1))
    model.compile("sgd", "mse", estimator="exact")
    data = tf.data.Dataset.from_generator(
        lambda: iter([(np.ones((4, 3, 2)), np.ones((4, 2)))]),
        output_signature=(tf.TensorSpec((4, None, 2)), tf.TensorSpec((4, 2))),
    )
    with pytest.raises(ValueError, match=r"Exact cannot enumerate RelaxBernoulli 'code'.*fixed"):
        model.fit(data, shuffle=False, verbose=0)


class TensorFlowNoise(keras.layers.Layer):
    """Random numbers that no variable remembers."""

    def call(self, x):
        return x + tf.random.uniform(tf.shape(x))


NOISE = {
    "dropout": (lambda: keras.layers.Dropout(0.5, name="drop"), "seed_generator"),
    "gaussian": (lambda: keras.layers.GaussianNoise(1.0), "seed_generator"),
    "keras_random": (
        lambda: keras.layers.Lambda(lambda x: x + keras.random.uniform((1, 4))),
        "seed",
    ),
    "lambda": (
        lambda: keras.layers.Lambda(lambda x: x + tf.random.normal((1, 4))),
        "RandomStandardNormal",
    ),
    "layer": (TensorFlowNoise, "RandomUniform"),
}


@pytest.mark.parametrize(
    ("noise", "run_eagerly"),
    [
        *[(name, False) for name in NOISE],
        # Eagerly there is no graph in which a TensorFlow operation could be found.
        *[(name, True) for name in ("dropout", "gaussian", "keras_random")],
    ],
)
def test_random_objective_is_not_enumerated(noise, run_eagerly):
    make, culprit = NOISE[noise]
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(make()(code)), name="model")
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    message = rf"Exact\(.*deterministic.*RelaxModel 'model' draws.*{culprit}.*remove dropout"
    refuses(ValueError, message, model)


def random_cost(y_true, y_pred):
    return np.random.default_rng().normal(size=len(y_pred))


@run_modes
def test_random_black_box_is_not_enumerated(run_eagerly):
    model = encoder(bernoulli())
    model.compile("sgd", BlackBox(random_cost), estimator="exact", run_eagerly=run_eagerly)
    error = (ValueError, tf.errors.InvalidArgumentError)
    message = "(?s)Exact.*deterministic.*BlackBox.*two values for the same samples"
    refuses(error, message, model)


@run_modes
def test_deterministic_black_box_is_enumerated(run_eagerly):
    model = encoder(bernoulli())
    model.compile("sgd", BlackBox(costs), estimator="exact", run_eagerly=run_eagerly)
    before = model.layers[1].get_weights()
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
    assert all((a != b).any() for a, b in zip(before, model.layers[1].get_weights(), strict=True))


@run_modes
def test_batch_statistics_of_samples_are_not_enumerated(run_eagerly):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    outputs = keras.layers.Dense(4)(keras.layers.BatchNormalization()(code))
    model = RelaxModel(inputs, outputs)
    model.compile("sgd", "mse", estimator="exact", run_eagerly=run_eagerly)
    refuses(
        ValueError,
        r"Exact\(\) compares samples of one example.*batch statistics.*Use 'relax'",
        model,
    )


@run_modes
def test_batch_statistics_of_inputs_are(run_eagerly):
    inputs = keras.Input((3,))
    logits = keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(4)(bernoulli()(logits)))
    ways = {"run_eagerly": True} if run_eagerly else {"jit_compile": False}
    model.compile("sgd", "mse", estimator="exact", **ways)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()
