"""Permutations by sorting, in n log n: Plackett and Luce's model."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import Antithetic, Conditional, Enumerable, Items
from tf_relax._src.relaxations.categorical import relaxed_gumbel_score, shown
from tf_relax._src.relaxations.impossible import bounded_choices, impossible, where_possible
from tf_relax._src.relaxations.law import GUMBEL
from tf_relax._src.relaxations.race import soft_log_prob
from tf_relax._src.relaxations.relaxation import Draw


class PlackettLuce(Items, Antithetic, Conditional, Enumerable):
    r"""The order of $z = a + G$, largest first: a race of $n$ steps without replacement.

    `b` is the permutation matrix whose row $i$ is the item in place $i$, so `b @ x` is `x` in that
    order. The formulas are those of `Race` (Gadetsky et al. 2020), rearranged along the sorted
    items, where every sum over steps is a cumulative one: the cost of everything but the matrix is
    that of sorting. Items that are impossible come last, in the order of their numbers, and their
    places are nobody's choice. With sorted $z$ and $a$ and $L_i = \log \sum_{j \ge i} e^{a_j}$,

    $$W_i \cdot h = (1 - e^{z_i - z_{i-1}}) u_i, \quad u_i = h_i + e^{z_{i+1} - z_i} u_{i+1}$$

    $$\sum_i \pi_{ij} q_i = e^{a_j - L_j} s_j, \quad s_j = q_j + e^{L_j - L_{j-1}} s_{j-1}$$

    Example:

    >>> import tensorflow as tf
    >>> draw = PlackettLuce().sample(tf.constant([[0.0, 80.0, -80.0]]), tf.zeros((1, 3)))
    >>> print(draw.trace.numpy())
    [[1 0 2]]
    """

    choice_rank = 1
    law = GUMBEL

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] is None or event_shape[-1] < 2:
            raise ValueError(
                "expects logits of shape [batch, ..., n], one per item, with fixed n >= 2. "
                f"Received: [batch, {shown(event_shape)}]"
            )

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        return logits_shape.concatenate(logits_shape[-1:])

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        if event_shape.rank > 1:
            return None
        return np.array(list(itertools.permutations(range(event_shape[-1]))))

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        return math.factorial(event_shape[-1]) if event_shape.rank == 1 else None

    def outcome(self, draw: Draw) -> tf.Tensor:
        return draw.trace

    def forced(self, a: tf.Tensor, outcome: tf.Tensor) -> Draw:
        order = tf.cast(outcome, tf.int32)
        zero = tf.zeros_like(a)
        return Draw(noise=zero, z=zero, b=_matrix(order, a), trace=order)

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        order = _descending(tf.stop_gradient(z))
        # Nobody pays for the n x n matrix who does not look at it: graphs leave it out.
        return Draw(noise=noise, z=z, b=_matrix(order, a), trace=order)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        a = _sort(a, draw.trace)
        return tf.reduce_sum(where_possible(a, a - _log_rate(a)), axis=-1)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return soft_log_prob(a[..., tf.newaxis, :], y)

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        a = _sort(a, draw.trace)
        times_alive = a + tf.math.cumulative_logsumexp(-_log_rate(a), axis=-1)
        return _unsort(where_possible(a, -tf.math.expm1(times_alive)), draw.trace)

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return relaxed_gumbel_score(a, draw)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        log_d = -_sort(noise, draw.trace) - _log_rate(_sort(a, draw.trace))
        return _unsort(-tf.math.cumulative_logsumexp(log_d, axis=-1), draw.trace)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        a, z, h = (_sort(x, draw.trace) for x in (a, draw.z, h))
        rate = _log_rate(a)
        gap = tf.minimum(z[..., 1:] - z[..., :-1], 0)  # rounding may turn z~ around
        u = _recurrence(tf.exp(gap), h, reverse=True)
        wh = u * tf.concat([tf.ones_like(h[..., :1]), -tf.math.expm1(gap)], axis=-1)
        s = _recurrence(tf.exp(rate[..., 1:] - rate[..., :-1]), wh)
        # All items are chosen: W sums to 1.
        return _unsort(where_possible(a, h - tf.exp(a - rate) * s), draw.trace)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        # SoftSort, Prillo and Eisenschlos (2020), equation 3: only differences of neighbours count,
        # so that float32 holds it at any z (NeuralSort adds up the differences of all).
        order = _descending(tf.stop_gradient(z))
        ordered = _sort(z, order)
        apart = tf.abs(ordered[..., :, tf.newaxis] - z[..., tf.newaxis, :])
        y = tf.nn.softmax(-apart / temperature)
        return tf.where(impossible(ordered)[..., tf.newaxis], _matrix(order, z), y)

    def index(self, draw: Draw) -> tf.Tensor:
        return super().index(draw) if draw.trace is None else draw.trace


def _descending(z: tf.Tensor) -> tf.Tensor:
    return tf.argsort(bounded_choices(z), direction="DESCENDING", stable=True)


def _matrix(order: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    return tf.one_hot(order, a.shape[-1], dtype=a.dtype)


def _sort(x: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    return tf.gather(x, order, axis=-1, batch_dims=order.shape.rank - 1)


def _unsort(x: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    return _sort(x, tf.argsort(order))


def _log_rate(sorted_a: tf.Tensor) -> tf.Tensor:
    return tf.math.cumulative_logsumexp(sorted_a, axis=-1, reverse=True)


def _recurrence(factor: tf.Tensor, x: tf.Tensor, reverse: bool = False) -> tf.Tensor:
    """Returns ``y_j = x_j + factor_j y_{j-1}`` (`reverse`: ``y_{j+1}``) along the last axis.

    Args:
        factor: one per pair of neighbours, `[..., n - 1]`.
        x: `[..., n]`.
        reverse: whether to start at the end.
    """
    if reverse:
        return tf.reverse(_recurrence(tf.reverse(factor, [-1]), tf.reverse(x, [-1])), [-1])
    factor = tf.concat([tf.zeros_like(x[..., :1]), factor], axis=-1)

    def compose(first: Any, then: Any) -> Any:
        return first[0] * then[0], then[1] + then[0] * first[1]

    return tfp.math.scan_associative(compose, (factor, x), axis=-1)[1]
