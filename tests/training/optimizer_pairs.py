"""A model with variables for each of two optimizers, and what the tests of the pair do with it."""

import keras
import numpy as np

from tests.training.models import assert_same, numpy
from tf_relax._src.surrogates.variables import mark_surrogate_variables
from tf_relax._src.training.relax_optimizer import RelaxOptimizer

adam, adamw, sgd = keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.SGD


@keras.saving.register_keras_serializable(package="tests.training.optimizer_pairs")
class Surrogate(keras.layers.Dense):
    """A layer that stands for any surrogate: trainable, and flagged when it is built."""

    def build(self, input_shape):
        super().build(input_shape)
        mark_surrogate_variables(self.trainable_variables)


def make_model(optimizer, **compile_arguments):
    """The surrogate's variables come first, so that a list taken by position goes wrong."""
    compile_arguments = compile_arguments or {"run_eagerly": True}  # faster than tracing
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    phi = Surrogate(3, name="phi")(inputs)
    theta = keras.layers.Dense(3, name="theta")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([phi, theta]))
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def data(batches=3):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8 * batches, 4)).astype("float32")
    y = generator.normal(size=(8 * batches, 3)).astype("float32")
    return x, y


def fit(model, epochs=1, **arguments):
    return model.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0, **arguments)


def two_variables():
    theta, phi = keras.Variable([1.0, 1.0], name="theta"), keras.Variable([1.0], name="phi")
    mark_surrogate_variables([phi])
    return theta, phi


def two_sgd():
    return RelaxOptimizer(sgd(0.25), surrogate_optimizer=sgd(0.5))


def assert_close(actual, expected):
    for a, b in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def assert_same_state(model, other):
    assert_same(model.weights, other.weights)
    assert_same(model.optimizer.variables, other.optimizer.variables)
