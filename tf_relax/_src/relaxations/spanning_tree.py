"""Spanning trees of a graph: Kruskal's algorithm as a race."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse.csgraph
import tensorflow as tf

from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import (
    bounded_choices,
    impossible,
    only_possible,
    where_possible,
)
from tf_relax._src.relaxations.matrix_tree import marginals
from tf_relax._src.relaxations.race import Race, Trace
from tf_relax._src.relaxations.relaxation import Relaxation


class SpanningTree(Race):
    r"""The maximum spanning tree under $z = a + G$: edges race, and die when they close a cycle.

    Struminsky et al. (2021), appendix on spanning trees. The order in which Kruskal's algorithm
    takes the edges is part of what is drawn. `relax` gives the edges' probabilities in the Gibbs
    distribution $p(T) \propto e^{\sum_{e \in T} z_e / t}$ (Paulus et al. 2020).

    Args:
        edges: pairs of nodes, numbered from 0, `[edges, 2]`; `None` for the complete graph that has
            as many edges as there are logits, see `for_shape`.
        adjacency: whether `b` is the symmetric adjacency matrix, `[..., nodes, nodes]`, instead of
            one number per edge.

    Raises:
        ValueError: if the graph is not connected, or an edge is a loop or comes twice.

    Example:

    >>> import tensorflow as tf
    >>> triangle = SpanningTree([(0, 1), (1, 2), (0, 2)])
    >>> print(triangle.sample(tf.constant([[0.0, 80.0, -80.0]]), tf.zeros((1, 3))).b.numpy())
    [[1. 1. 0.]]
    """

    initial_temperature = 0.5

    def __init__(self, edges: Sequence[tuple[int, int]] | None, adjacency: bool = False):
        self.adjacency = adjacency
        self.any_size = edges is None
        if edges is None:
            return
        self.edges = _checked(edges)
        self.nodes = int(self.edges.max()) + 1
        self.steps = self.nodes - 1

    def for_shape(self, logits_shape: tf.TensorShape, dtype: Any = tf.float32) -> Relaxation:
        if not self.any_size:
            return self
        return SpanningTree(complete_graph(logits_shape[-1] or 0), adjacency=self.adjacency)

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] != len(self.edges):
            raise ValueError(
                f"draws trees of a graph with {len(self.edges)} edges and expects logits of shape "
                f"[batch, ..., {len(self.edges)}]. Received: [batch, {shown(event_shape)}]"
            )

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        if not self.adjacency:
            return logits_shape
        return logits_shape[:-1].concatenate([self.nodes, self.nodes])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        """Counts by Kirchhoff's theorem: every tree, in every order of its edges."""
        if event_shape.rank > 1:
            return None
        laplacian = np.zeros((self.nodes, self.nodes))
        for u, v in self.edges:
            laplacian[[u, v], [u, v]] += 1
            laplacian[[u, v], [v, u]] -= 1
        return round(np.linalg.det(laplacian[1:, 1:])) * math.factorial(self.steps)

    def run(self, z: tf.Tensor) -> Trace:
        u, v = self.edges.T
        label = tf.zeros_like(z[..., :1], tf.int32) + tf.range(self.nodes)
        chosen, alive = [], []
        for _ in range(self.steps):
            from_u, from_v = tf.gather(label, u, axis=-1), tf.gather(label, v, axis=-1)
            apart = (from_u != from_v) & tf.logical_not(impossible(z))
            best = tf.argmax(tf.where(apart, z, z.dtype.min), axis=-1, output_type=tf.int32)
            alive.append(tf.cast(apart, z.dtype))
            winner = tf.one_hot(best, len(self.edges), dtype=z.dtype) * alive[-1]
            chosen.append(winner)
            is_winner = tf.cast(winner, tf.int32)
            kept = tf.reduce_sum(from_u * is_winner, axis=-1, keepdims=True)
            gone = tf.reduce_sum(from_v * is_winner, axis=-1, keepdims=True)
            label = tf.where(label == gone, kept, label)
        return Trace(tf.stack(chosen, axis=-2), tf.stack(alive, axis=-2))

    def seen(self, trace: Trace) -> tf.Tensor:
        return self._as_seen(tf.reduce_sum(trace.chosen, axis=-2))

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        u, v = self.edges.T
        none = np.ones((self.nodes, self.nodes))
        none[u, v] = none[v, u] = 0
        log_w = self._as_matrix(bounded_choices(z) / temperature)
        log_w += tf.constant(-1e30 * none, z.dtype)
        both_ways = marginals(log_w, root=0)
        ways = both_ways + tf.linalg.matrix_transpose(both_ways)
        ways *= self._as_matrix(only_possible(z))  # a graph in parts has trees of parts
        return ways if self.adjacency else self._on_edges(ways)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        y = self._on_edges(y) if self.adjacency else y
        return tf.reduce_sum(y * where_possible(a, tf.nn.log_softmax(a)), axis=-1)

    def _as_seen(self, per_edge: tf.Tensor) -> tf.Tensor:
        return self._as_matrix(per_edge) if self.adjacency else per_edge

    def _as_matrix(self, per_edge: tf.Tensor) -> tf.Tensor:
        """Writes a number per edge into both of its places in a matrix."""
        (u, v), nodes = self.edges.T, self.nodes
        place = np.full((nodes, nodes), len(self.edges))
        place[u, v] = place[v, u] = np.arange(len(self.edges))
        padded = tf.concat([per_edge, tf.zeros_like(per_edge[..., :1])], axis=-1)
        return tf.gather(padded, place, axis=-1)

    def _on_edges(self, matrix: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(matrix, [*tf.unstack(tf.shape(matrix)[:-2]), self.nodes**2])
        return tf.gather(flat, self.edges[:, 0] * self.nodes + self.edges[:, 1], axis=-1)


def complete_graph(num_edges: int) -> list[tuple[int, int]]:
    """Returns the edges of the complete graph with so many, in lexicographic order.

    Raises:
        ValueError: if no complete graph has that number of edges.
    """
    nodes = (1 + math.isqrt(1 + 8 * num_edges)) // 2
    if nodes * (nodes - 1) // 2 != num_edges or nodes < 2:
        raise ValueError(
            "expects one logit per edge of a complete graph, n (n - 1) / 2 of them, and "
            f"{num_edges} is no such number: pass `edges`, or the right number of logits"
        )
    return [(u, v) for u in range(nodes) for v in range(u + 1, nodes)]


def _checked(edges: Sequence[tuple[int, int]]) -> np.ndarray:
    pairs = np.asarray(edges)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or pairs.min() < 0:
        raise ValueError(f"`edges` must be pairs of nodes, numbered from 0. Received: {edges!r}")
    pairs = pairs.astype(int)
    if np.any(pairs[:, 0] == pairs[:, 1]) or len(np.unique(np.sort(pairs), axis=0)) < len(pairs):
        raise ValueError("`edges` must not contain loops, nor the same edge twice.")
    nodes = pairs.max() + 1
    matrix = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(nodes, nodes))
    parts, label = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    if parts > 1:
        apart = np.flatnonzero(label != label[0])
        raise ValueError(
            f"the graph is not connected, so it has no spanning tree: nodes "
            f"{apart.tolist()} cannot be reached from node 0"
        )
    return pairs
