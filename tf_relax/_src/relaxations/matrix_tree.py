"""Sums over all trees of a graph, by the matrix-tree theorem in logarithms."""

from __future__ import annotations

import tensorflow as tf


def log_sum_of_arborescences(log_weights: tf.Tensor, root: int) -> tf.Tensor:
    r"""Returns ``log sum_T prod_{(u, v) in T} w_uv`` over the trees directed away from a root.

    The determinant of Tutte's matrix-tree theorem, by Gaussian elimination in the form of
    Grassmann, Taksar and Heyman (1985): eliminating node k multiplies by its inflow and passes its
    edges on, ``w_uv += w_uk w_kv / sum_u w_uk``. Nothing is ever subtracted, so logarithms do, and
    weights may differ by hundreds of orders of magnitude.

    Args:
        log_weights: ``log w_uv`` of the edges from u to v, `[..., nodes, nodes]`; -1e30 where there
            is none. The diagonal is not used.
        root: the node that all paths start from.

    Returns:
        One number per matrix, `[...]`.
    """
    nodes = log_weights.shape[-1]
    others = [k for k in range(nodes) if k != root]
    log_w = tf.gather(tf.gather(log_weights, [*others, root], axis=-2), others, axis=-1)
    total = tf.zeros_like(log_w[..., 0, 0])
    for _ in others:
        # The first node goes: its inflow from all others, and its edges to the other non-roots.
        inflow = log_w[..., 1:, 0]
        log_inflow = tf.reduce_logsumexp(inflow, axis=-1)
        total += log_inflow
        share = inflow - log_inflow[..., tf.newaxis]
        passed_on = share[..., tf.newaxis] + log_w[..., :1, 1:]
        rest = log_w[..., 1:, 1:]
        high = tf.maximum(rest, passed_on)
        log_w = high + tf.math.log1p(tf.exp(-tf.abs(rest - passed_on)))
    return total


def marginals(log_weights: tf.Tensor, root: int) -> tf.Tensor:
    r"""Returns the probability of every edge under ``p(T) ~ prod w``, `[..., nodes, nodes]`.

    As a function of logits over a temperature it is a relaxed tree (Paulus et al. 2020, section 5):
    a point of the convex hull of all trees, and the heaviest tree where the temperature goes to 0.
    """
    with tf.GradientTape() as tape:
        tape.watch(log_weights)
        log_sum = log_sum_of_arborescences(log_weights, root)
    return tape.gradient(log_sum, log_weights)
