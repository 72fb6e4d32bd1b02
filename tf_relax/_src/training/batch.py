"""The data of one step: arrays and tensors of every kind that Keras takes, and inputs left out."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def first_tensor(x: Any) -> Any:
    """Returns the first tensor of a structure; optional inputs that were left out are `None`."""
    return next(tensor for tensor in keras.tree.flatten(x) if tensor is not None)


def batch_size(x: Any) -> tf.Tensor:
    """Returns the number of examples, a scalar."""
    return tf.shape(first_tensor(x))[0]


def as_tensors(data: Any) -> Any:
    """Turns the arrays of a structure into tensors."""

    def convert(array: Any) -> Any:
        ready = array is None or isinstance(array, (tf.RaggedTensor, tf.SparseTensor))
        return array if ready else tf.convert_to_tensor(array)

    return keras.tree.map_structure(convert, data)


def symbolic(data: Any) -> Any:
    """Returns what Keras builds a model from: shapes and types without values."""

    def symbol(tensor: Any) -> Any:
        if tensor is None:
            return None
        kinds = {
            "ragged": isinstance(tensor, tf.RaggedTensor),
            "sparse": isinstance(tensor, tf.SparseTensor),
        }
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        return keras.KerasTensor(tensor.shape, dtype, **{k: v for k, v in kinds.items() if v})

    return keras.tree.map_structure(symbol, data)


def as_dense(gradient: Any, like: Any) -> tf.Tensor:
    """Returns a gradient as a tensor, `[rows, ...]`: that of a lookup holds the rows it touched.

    Args:
        gradient: a tensor or `tf.IndexedSlices`.
        like: what it is the gradient of.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows = tf.shape(like)[0] if tf.is_tensor(like) else like.shape[0]
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)
