"""Samples that cannot be recorded, or not twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.bad_input.models import Subclassed, X, Y, functional, refuses, unchanged
from tests.models import bernoulli, relax, run_modes
from tf_relax import RelaxModel
from tf_relax.layers import RelaxBernoulli

INSIDE = "RelaxBernoulli 'code'.*(tf.map_fn|tf.function)"


@run_modes
def test_map_fn(run_eagerly):
    """As many units as examples: the shapes would fit, the gradient would not."""

    def call_layer(layer, logits, training):
        return tf.map_fn(lambda row: layer(row, training=training), logits)

    model = Subclassed(bernoulli(), call_layer)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(RuntimeError, f"{INSIDE}.*whole batch", model)


class Cell(keras.layers.Layer):
    """A recurrent cell with a stochastic state."""

    state_size = output_size = 4

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.dense = keras.layers.Dense(4)

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 4))
        self.layer.build((None, 4))

    def call(self, x, states, training=None):
        logits = self.dense(keras.ops.concatenate([x, states[0]], axis=-1))
        sample = self.layer(logits, training=training)
        return sample, [sample]


def recurrent(unroll):
    inputs = keras.Input((2, 3))
    layer = bernoulli(prior="uniform")
    outputs = keras.layers.RNN(Cell(layer), unroll=unroll)(inputs)
    return RelaxModel(inputs, keras.layers.Dense(4)(outputs))


def test_recurrent_loop():
    model = recurrent(unroll=False)
    model.compile("sgd", "mse", estimator=relax())
    refuses(RuntimeError, f"{INSIDE}.*unroll=True", model, np.ones((4, 2, 3), "float32"))


@run_modes
def test_unrolled_recurrent_loop_works(run_eagerly):
    model = recurrent(unroll=True)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    before = [v.numpy() for v in model.trained_variables]
    x = np.ones((4, 2, 3), "float32")
    sites = model.differentiate(tf.constant(x), tf.constant(Y)).sites
    assert [site.name for site in sites] == ["code", "code[1]"]
    assert len(sites.levels()) == 2
    model.fit(x, Y, verbose=0)
    for a, b in zip(before, model.trained_variables, strict=True):
        assert (a != b.numpy()).any(), b.path


@run_modes
@pytest.mark.parametrize("traced_before", [False, True])
def test_inner_tf_function(traced_before, run_eagerly):
    layer = bernoulli()

    @tf.function
    def inner(logits):
        return layer(logits, training=True)

    model = Subclassed(layer, lambda layer, logits, training: inner(logits))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    if traced_before:
        model(X)
    # Eagerly, TensorFlow asks the inner function for its gradient before anything can be recorded.
    error = (RuntimeError, LookupError)
    refuses(error, "(?s)RelaxBernoulli 'code'.*remove.*inner tf.function", model)


def test_inner_tf_function_beside_a_call_that_is_recorded():
    """The layer was recorded, so only its other call can tell."""
    layer = bernoulli()

    @tf.function
    def inner(logits):
        return layer(logits, training=True)

    def call_layer(layer, logits, training):
        return layer(logits, training=training) + inner(logits)

    model = Subclassed(layer, call_layer)
    model(X)
    model.compile("sgd", "mse", estimator=relax())
    refuses(RuntimeError, "RelaxBernoulli 'code'", model)


def test_layer_that_is_not_called():
    model = Subclassed(bernoulli(), lambda layer, logits, training: layer(logits))
    model.unused = RelaxBernoulli(name="unused")
    model.unused.build((None, 2))
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    model(X)
    refuses(RuntimeError, "RelaxBernoulli 'unused' was not recorded", model)


@run_modes
def test_model_without_stochastic_layer(run_eagerly):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, keras.layers.Dense(4)(inputs), name="plain")
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=run_eagerly)
    refuses(ValueError, "RelaxModel 'plain' has no stochastic layer.*RelaxBernoulli", model)


def test_predict_inside_record():
    model = functional(bernoulli())
    with (
        unchanged(model),
        pytest.raises(RuntimeError, match=r"'code'.*call the model itself"),
        tf_relax.record(),
    ):
        model.predict(X, verbose=0)


def test_calls_in_another_order_when_the_pass_is_repeated():
    second = RelaxBernoulli(name="second")
    calls = []

    def call_layer(layer, logits, training):
        calls.append(1)
        first = layer if len(calls) % 2 else model.second
        other = model.second if first is layer else layer
        return other(first(logits, training=training), training=training)

    model = Subclassed(bernoulli(), call_layer)
    model.second = second
    model(X)
    model.compile("sgd", "mse", estimator=relax(), run_eagerly=True)
    refuses(RuntimeError, "called in another order.*Python state", model)
