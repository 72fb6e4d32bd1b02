"""What the tests of several layers build and read."""

import keras
import numpy as np
import tensorflow as tf


def divergence(layer):
    """Of every example, in the one call that the layer had."""
    (term,) = layer.losses
    return np.asarray(term) * len(term)  # what add_loss was given is divided by the batch


class Table(keras.layers.Layer):
    """Logits of a batch as a weight, so that every example has a gradient of its own."""

    def __init__(self, rows):
        super().__init__(name="table")
        self.rows = self.add_weight(shape=rows.shape, initializer="zeros", name="rows")
        self.rows.assign(rows)

    def call(self, inputs):
        column = keras.ops.reshape(inputs[:, 0], [-1] + [1] * (len(self.rows.shape) - 1))
        return self.rows + 0 * column


def gradients_of_rows(model, x, y):
    """Gradients in the logits of a `Table`, `[batch, *event]`."""

    @tf.function(autograph=False)
    def step():
        result = model.differentiate(x, y)
        return {v.path: g for v, g in zip(result.variables, result.gradients, strict=True)}

    return len(x) * step()[model.get_layer("table").rows.path].numpy()
