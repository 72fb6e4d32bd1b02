"""Ordinary layers, and what they compute, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

# The same numbers in float32, which Keras makes of some constants.
L2, EPSILON = 2.0**-7, 2.0**-10


class Node(NamedTuple):
    """An ordinary part of a network: features in, one feature out, all of them vectors.

    Attributes:
        op: one of `OPS`.
        inputs: numbers of features, two for `concat`, `add` and `multiply`.
        size: of the feature.
        activation: of dense layers.
        regularized: whether a dense layer has a penalty.
    """

    op: str
    inputs: tuple[int, ...]
    size: int
    activation: str = "linear"
    regularized: bool = False


OPS = ("dense", "norm", "conv", "dropout", "reshape", "concat", "add", "multiply")

ACTIVATIONS = {
    "linear": tf.identity,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "relu": lambda x: tf.maximum(x, 0),
    "softplus": lambda x: tf.reduce_logsumexp(tf.stack([x, tf.zeros_like(x)]), axis=0),
    "silu": lambda x: x * tf.sigmoid(x),
    "elu": lambda x: tf.where(x > 0, x, tf.exp(tf.minimum(x, 0)) - 1),
    # TensorFlow rounds this root to float32, whatever the type of x.
    "gelu": lambda x: x * (1 + tf.math.erf(x * float(np.float32(np.sqrt(0.5))))) / 2,
}


def dense(size: int, name: str, activation: str = "linear", l2: bool = False) -> Any:
    penalty = keras.regularizers.L2(L2) if l2 else None
    return keras.layers.Dense(size, activation, name=name, kernel_regularizer=penalty)


def as_layers(node: Node, name: str, inputs: Sequence[Any]) -> Any:
    """Calls the layers of Keras."""
    first = inputs[0]
    if node.op == "dense":
        return dense(node.size, name, node.activation, node.regularized)(first)
    if node.op == "norm":
        return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(first)
    if node.op == "conv":
        column = keras.layers.Reshape((-1, 1))(first)
        column = keras.layers.Conv1D(1, 2, padding="same", activation="tanh", name=name)(column)
        return keras.layers.Flatten()(column)
    if node.op == "dropout":
        return keras.layers.Dropout(0.0)(first)
    if node.op == "reshape":
        return keras.layers.Flatten()(keras.layers.Reshape((1, -1))(first))
    if node.op == "concat":
        return keras.layers.Concatenate()(inputs)
    projected = dense(node.size, name)(inputs[1])
    kind = {"add": keras.layers.Add, "multiply": keras.layers.Multiply}[node.op]
    return kind()([first, projected])


def affine(model: keras.Model, name: str, x: tf.Tensor) -> tf.Tensor:
    layer = model.get_layer(name)
    return x @ layer.kernel.value + layer.bias.value


def written_out(node: Node, name: str, inputs: Sequence[tf.Tensor], model: Any) -> tf.Tensor:
    """Computes the same from the weights alone."""
    first = inputs[0]
    if node.op == "dense":
        return ACTIVATIONS[node.activation](affine(model, name, first))
    if node.op == "norm":
        layer = model.get_layer(name)
        centred = first - tf.reduce_mean(first, axis=1, keepdims=True)
        variance = tf.reduce_mean(centred**2, axis=1, keepdims=True)
        return centred / tf.sqrt(variance + EPSILON) * layer.gamma.value + layer.beta.value
    if node.op == "conv":
        layer = model.get_layer(name)
        kernel = layer.kernel.value[:, 0, 0]
        after = tf.concat([first[:, 1:], tf.zeros_like(first[:, :1])], axis=1)
        return tf.tanh(kernel[0] * first + kernel[1] * after + layer.bias.value)
    if node.op in ("dropout", "reshape"):
        return first
    if node.op == "concat":
        return tf.concat(inputs, axis=1)
    projected = affine(model, name, inputs[1])
    return first + projected if node.op == "add" else first * projected
