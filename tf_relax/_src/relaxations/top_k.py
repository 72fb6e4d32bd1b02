"""Subsets of k out of n items, drawn without replacement."""

from __future__ import annotations

import math

import tensorflow as tf

from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import where_possible
from tf_relax._src.relaxations.race import Race, Trace, soft_log_prob, soft_race


class TopK(Race):
    r"""The $k$ items with the largest $z = a + G$: a race of $k$ steps without replacement.

    Gumbel-top-k (Kool et al. 2019), with the conditional sample of Struminsky et al. (2021). The
    order of arrival is part of what is drawn, whether or not the rest of the model sees it.

    Args:
        k: size of the subset.
        ordered: whether `b` tells the order, `[..., k, n]`, one row per place, or only who is in,
            `[..., n]`.

    Example:

    >>> import tensorflow as tf
    >>> draw = TopK(2).sample(tf.constant([[3.0, -80.0, 80.0]]), tf.zeros((1, 3)))
    >>> print(draw.b.numpy())
    [[1. 0. 1.]]
    """

    def __init__(self, k: int, ordered: bool = False):
        self.k = k
        self.ordered = ordered

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] is None or event_shape[-1] < self.k:
            raise ValueError(
                f"chooses k={self.k} items and expects logits of shape [batch, ..., n] with fixed "
                f"n >= {self.k}. Received: [batch, {shown(event_shape)}]"
            )

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        if not self.ordered:
            return logits_shape
        return logits_shape[:-1].concatenate([self.k, logits_shape[-1]])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        if event_shape.rank > 1:
            return None
        return math.perm(event_shape[-1], self.k)

    def run(self, z: tf.Tensor) -> Trace:
        _, order = tf.math.top_k(z, k=self.k)
        chosen = tf.one_hot(order, z.shape[-1], dtype=z.dtype)
        return Trace(chosen, 1 - tf.cumsum(chosen, axis=-2, exclusive=True))

    def seen(self, trace: Trace) -> tf.Tensor:
        return trace.chosen if self.ordered else tf.reduce_sum(trace.chosen, axis=-2)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        y = soft_race(z[..., tf.newaxis, :], temperature, self.k)
        return y if self.ordered else tf.reduce_sum(y, axis=-2)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if self.ordered:
            return soft_log_prob(a[..., tf.newaxis, :], y)
        return tf.reduce_sum(y * where_possible(a, tf.nn.log_softmax(a)), axis=-1)
