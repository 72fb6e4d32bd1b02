"""What cannot work says so, names who is meant and what to do, and leaves the weights alone."""

import contextlib

import keras
import numpy as np
import pytest

from tests.models import bernoulli
from tf_relax import RelaxModel

X = np.ones((4, 3), "float32")
Y = np.zeros((4, 4), "float32")


def functional(layer, units=4):
    inputs = keras.Input((3,))
    code = layer(keras.layers.Dense(4, name="encoder")(inputs))
    return RelaxModel(inputs, keras.layers.Dense(units, name="decoder")(code))


class Subclassed(RelaxModel):
    """Calls its stochastic layer in a way that is up to the test."""

    def __init__(self, layer, call_layer, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.layers.Dense(4)
        self.layer = layer
        self.decoder = keras.layers.Dense(4)
        self.call_layer = call_layer

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.layer.build((None, 4))
        self.decoder.build((None, 4))

    def call(self, x, training=None):
        return self.decoder(self.call_layer(self.layer, self.encoder(x), training))


@contextlib.contextmanager
def unchanged(model):
    """Asserts that the block changes no weight, nor what an estimator has learned."""
    state = getattr(model, "estimator_state", None)  # a plain Keras model has none
    variables = [*model.weights, *([] if state is None else state.variables)]
    before = [v.numpy() for v in variables]
    yield
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)


def refuses(error, match, model, x=X, y=Y, **fit_arguments):
    with unchanged(model), pytest.raises(error, match=match) as caught:
        model.fit(x, y, verbose=0, **fit_arguments)
    return str(caught.value)


def two_outputs(container):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(4)(inputs))
    outputs = {name: keras.layers.Dense(4, name=name)(code) for name in ("a", "b")}
    return RelaxModel(inputs, container(outputs))


def encoder(layer):
    """A model that ends with its samples: no layer after them could learn from a black box."""
    inputs = keras.Input((3,))
    return RelaxModel(inputs, layer(keras.layers.Dense(4)(inputs)))
