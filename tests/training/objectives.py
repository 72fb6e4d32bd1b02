"""Models that return their inputs, whose objective is known beforehand."""

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.training.objective import per_example_objective

# Row by row: squared errors (0, 1), (4, 16), (0, 4).
PREDICTION = np.array([[0.0, 1.0], [2.0, 4.0], [1.0, 1.0]], "float32")
TARGET = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 3.0]], "float32")
SQUARED = [0.5, 10.0, 2.0]  # mean squared error
ABSOLUTE = [0.5, 3.0, 1.0]  # mean absolute error


def run(function, mode):
    """Calls a function without arguments in the given mode."""
    return function() if mode == "eager" else tf.function(function)()


def identity_model(y_pred, **compile_arguments):
    """A model that returns its inputs, of any structure."""
    if isinstance(y_pred, dict):
        inputs = {key: keras.Input(p.shape[1:], name=key) for key, p in y_pred.items()}
    else:
        inputs = keras.tree.map_structure(lambda p: keras.Input(p.shape[1:]), y_pred)
    outputs = keras.tree.map_structure(lambda x: keras.layers.Identity()(x), inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", **compile_arguments)
    return model


def objective_of(y_pred, y, mode, sample_weight=None, **compile_arguments):
    model = identity_model(y_pred, **compile_arguments)

    def objective():
        return per_example_objective(model, y_pred, y, model(y_pred), sample_weight)

    result = run(objective, mode)
    # Whatever the loss is made of, its parts add up to what Keras minimises.
    stock = model.compute_loss(y_pred, y, model(y_pred), sample_weight)
    np.testing.assert_allclose(result.loss, stock, rtol=1e-6)
    total = np.mean(result.f) + np.sum([np.sum(term) for term in result.shared])
    np.testing.assert_allclose(total, stock, rtol=1e-6)
    return result


def assert_f(result, expected):
    assert result.f.shape == (len(expected),)
    np.testing.assert_allclose(result.f, expected, rtol=1e-6)


def combine(*terms):
    return sum(factor * np.asarray(values) for factor, values in terms)
