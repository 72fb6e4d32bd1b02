"""Permutations by sequential matching: row after row takes one of the columns that are left."""

from __future__ import annotations

import math

import tensorflow as tf

from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import where_possible
from tf_relax._src.relaxations.race import Race, Trace, soft_log_prob, soft_race


class SequentialMatching(Race):
    r"""Row $i$ of the $n \times n$ logits races over the columns that rows before it left free.

    Every row has arrivals of its own, so $W_{ik} = M_{ik} e^{z_{ik} - z_{i, T_i}}$: $n$ categorical
    choices, each among what is left (Struminsky et al. 2021, appendix on perfect matchings).

    Example:

    >>> import tensorflow as tf
    >>> a = tf.constant([[[0.0, 9.0], [0.0, 9.0]]])
    >>> print(SequentialMatching().sample(a, tf.zeros((1, 2, 2))).b.numpy())
    [[[0. 1.]
      [1. 0.]]]
    """

    shared = False
    choice_rank = 2

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 2 or None in event_shape[-2:] or event_shape[-1] != event_shape[-2]:
            raise ValueError(
                "expects square logits of shape [batch, ..., n, n] with fixed n. "
                f"Received: [batch, {shown(event_shape)}]"
            )

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        return math.factorial(event_shape[-1]) if event_shape.rank == 2 else None

    def run(self, z: tf.Tensor) -> Trace:
        free = tf.ones_like(z[..., 0, :])
        chosen, alive = [], []
        for i in range(z.shape[-2]):
            row = z[..., i, :]
            alive.append(where_possible(row, free))
            best = tf.argmax(tf.where(alive[-1] > 0, row, z.dtype.min), axis=-1)
            chosen.append(tf.one_hot(best, z.shape[-1], dtype=z.dtype) * alive[-1])
            free -= chosen[-1]
        return Trace(tf.stack(chosen, axis=-2), tf.stack(alive, axis=-2))

    def seen(self, trace: Trace) -> tf.Tensor:
        return trace.chosen

    def to_rows(self, x: tf.Tensor) -> tf.Tensor:
        return x

    def from_rows(self, x: tf.Tensor) -> tf.Tensor:
        return x

    def log_waits(self, z: tf.Tensor, trace: Trace) -> tf.Tensor:
        return -tf.reduce_sum(trace.chosen * z, axis=-1, keepdims=True)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return soft_race(z, temperature, z.shape[-2])

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return soft_log_prob(a, y)
