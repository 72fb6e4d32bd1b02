"""Derivatives in the variables of a network."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def slopes(
    tape: tf.GradientTape, target: tf.Tensor, variables: list[Any], seed: tf.Tensor | None = None
) -> list[tf.Tensor]:
    """Returns derivatives in a network's variables, 0 where there is none.

    Args:
        tape: that watched the variables.
        target: what is differentiated.
        variables: of Keras.
        seed: what is pulled back; of the shape of `target`.
    """
    found = tape.gradient(target, variables, output_gradients=seed)
    # TensorFlow would do it itself, but not for variables of Keras.
    pairs = zip(found, variables, strict=True)
    return [tf.zeros_like(v.value) if x is None else tf.convert_to_tensor(x) for x, v in pairs]


def flatten(tensors: list[Any]) -> tf.Tensor:
    """Returns all entries as one vector."""
    return tf.concat([tf.reshape(x, [-1]) for x in tensors], axis=0)
