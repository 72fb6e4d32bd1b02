"""Sums over, questions about, and broadcasts along the event dimensions: all but the first."""

from __future__ import annotations

import tensorflow as tf


def sum_event(x: tf.Tensor) -> tf.Tensor:
    """Sums `[batch, *event]` over the event, giving `[batch]`."""
    return tf.reduce_sum(x, axis=list(range(1, x.shape.rank)))


def all_finite(x: tf.Tensor) -> tf.Tensor:
    """Returns `[batch]`: whether all numbers of an example are numbers, and finite."""
    return tf.reduce_all(tf.math.is_finite(x), axis=list(range(1, x.shape.rank)))


def along_event(per_example: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Reshapes `[batch]` (or `[1]`) to broadcast against `x`, `[batch, *event]`."""
    return tf.reshape(per_example, [-1] + [1] * (x.shape.rank - 1))
