"""Arborescences, trees directed away from a root: Edmonds' algorithm as a race."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse.csgraph
import tensorflow as tf

from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import bounded_choices, only_possible, where_possible
from tf_relax._src.relaxations.matrix_tree import marginals
from tf_relax._src.relaxations.race import Race, Trace


class Arborescence(Race):
    r"""The tree of least total arrival time $x_{uv} = e^{-z_{uv}}$, by Edmonds' algorithm.

    Every node but the root takes the first edge to arrive from outside of it, whose arrival time is
    subtracted from those of all the edges it had a choice of; nodes that have chosen each other in
    a circle become one node, which chooses again (Struminsky et al. 2021, appendix on
    arborescences). By the memorylessness of exponentials every choice is a race among the edges
    that enter from outside. All those choices are what is drawn; `b` is the tree that they make.
    `relax` gives the edges' probabilities in the Gibbs distribution
    $p(T) \propto e^{\sum_{e \in T} z_e / t}$ (Paulus et al. 2020).

    Args:
        nodes: number of nodes.
        root: the one that all paths start from.
        edges: pairs (from, to) of nodes; `None` is all of them.

    Raises:
        ValueError: if a node cannot be reached from the root.

    Example:

    >>> import tensorflow as tf
    >>> a = tf.constant([[[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]])
    >>> print(Arborescence(3).sample(a, tf.zeros((1, 3, 3))).b.numpy())
    [[[0. 1. 0.]
      [0. 0. 1.]
      [0. 0. 0.]]]
    """

    choice_rank = 2
    initial_temperature = 0.5

    def __init__(self, nodes: int, root: int = 0, edges: Sequence[tuple[int, int]] | None = None):
        self.nodes = nodes
        self.root = root
        self.allowed = _checked(nodes, root, edges)
        # Nodes choose, and so does every circle: there are fewer circles than nodes.
        self.steps = max(2 * nodes - 3, 1)

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 2 or event_shape[-2:].as_list() != [self.nodes, self.nodes]:
            raise ValueError(
                f"draws trees on {self.nodes} nodes and expects logits of shape [batch, ..., "
                f"{self.nodes}, {self.nodes}], entry (u, v) for the edge from u to v. "
                f"Received: [batch, {shown(event_shape)}]"
            )

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        if event_shape.rank > 2:
            return None
        most = math.prod(range(1, self.nodes)) * self.nodes**self.steps
        if most > 1e7:
            return most
        outcomes = self.outcomes(event_shape)
        return None if outcomes is None else len(outcomes)

    def to_rows(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [*tf.unstack(tf.shape(x)[:-2]), 1, self.nodes**2])

    def from_rows(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, [*tf.unstack(tf.shape(x)[:-2]), self.nodes, self.nodes])

    def run(self, z: tf.Tensor) -> Trace:
        return self._edmonds(z, wait=True)

    def replayed(self, priority: tf.Tensor) -> Trace:
        return self._edmonds(priority, wait=False)

    def _edmonds(self, z: tf.Tensor, wait: bool) -> Trace:
        """Runs the algorithm on z, with or without subtracting waiting times."""
        allowed = self._usable(z)
        none = tf.zeros_like(z[..., 0])  # [..., nodes]
        # Row v, column c: whether node v is part of the (contracted) node named c.
        member = none[..., tf.newaxis] + tf.eye(self.nodes, dtype=z.dtype)
        source = tf.zeros_like(z)  # row c: the node that c's chosen edge comes from
        waiting = none + tf.one_hot(
            self.root, self.nodes, on_value=0.0, off_value=1.0, dtype=z.dtype
        )
        log_waited = tf.fill(tf.shape(z), tf.constant(-1e30, z.dtype))
        chosen, alive = [], []
        for _ in range(self.steps):
            # The first node that has not chosen yet, if any.
            first = waiting * tf.cast(tf.cumsum(waiting, axis=-1) == 1, z.dtype)
            inside = tf.linalg.matvec(member, first)  # the nodes that it is made of
            entering = allowed * (1 - inside)[..., tf.newaxis] * inside[..., tf.newaxis, :]
            left = -z + _log1mexp(log_waited + z) if wait else -z
            winner = _lowest(left, entering)
            log_d = tf.reduce_sum(winner * left, axis=[-2, -1], keepdims=True)
            if wait:
                later = tf.reduce_logsumexp(
                    tf.stack([log_waited, tf.broadcast_to(log_d, tf.shape(z))]), axis=0
                )
                log_waited = tf.where(entering > 0, later, log_waited)
            chosen.append(winner)
            alive.append(entering)
            came_from = tf.reduce_sum(winner, axis=-1)  # [..., nodes], one-hot
            mine = first[..., tf.newaxis]
            source += mine * came_from[..., tf.newaxis, :]
            waiting -= first
            # Who has chosen whom, over any number of steps.
            reach = source @ member
            for _ in range(max(self.nodes - 1, 1).bit_length()):
                reach = tf.minimum(reach + reach @ reach, 1)
            from_me = tf.linalg.matvec(reach, first, transpose_a=True)
            circle = from_me * tf.reduce_sum(from_me * first, axis=-1, keepdims=True)
            # The circle becomes one node, by the name of the one that closed it.
            joins = tf.linalg.matvec(member, circle)[..., tf.newaxis]
            member = member * (1 - joins) + joins * first[..., tf.newaxis, :]
            source *= 1 - circle[..., tf.newaxis]
            waiting += first * tf.reduce_sum(circle * first, axis=-1, keepdims=True)
        rows = [self.to_rows(x) for x in chosen], [self.to_rows(x) for x in alive]
        return Trace(*(tf.concat(x, axis=-2) for x in rows))

    def _usable(self, z: tf.Tensor) -> tf.Tensor:
        """Returns 1 for edges that may be used and start at a node that can be reached."""
        allowed = tf.constant(self.allowed, z.dtype) * only_possible(z)
        reach = allowed + tf.eye(self.nodes, dtype=z.dtype)
        for _ in range((self.nodes - 1).bit_length()):
            reach = tf.minimum(reach @ reach, 1)
        return allowed * reach[..., self.root, :, tf.newaxis]

    def log_waits(self, z: tf.Tensor, trace: Trace) -> tf.Tensor:
        log_waited = tf.fill(tf.shape(z), tf.constant(-1e30, z.dtype))
        log_d = []
        for i in range(self.steps):
            chosen, alive = trace.chosen[..., i : i + 1, :], trace.alive[..., i : i + 1, :]
            left = -z + _log1mexp(log_waited + z)
            log_d.append(tf.reduce_sum(chosen * left, axis=-1, keepdims=True))
            later = tf.reduce_logsumexp(
                tf.stack([log_waited, tf.broadcast_to(log_d[-1], tf.shape(z))]), axis=0
            )
            log_waited = tf.where(alive > 0, later, log_waited)
        return tf.concat(log_d, axis=-2)

    def seen(self, trace: Trace) -> tf.Tensor:
        """Opens the circles again, last first: what enters one replaces a choice inside of it."""
        tree = tf.zeros_like(trace.chosen[..., 0, :])
        for i in reversed(range(self.steps)):
            entered = tf.reduce_sum(tree * trace.alive[..., i, :], axis=-1, keepdims=True)
            tree += trace.chosen[..., i, :] * (1 - tf.minimum(entered, 1))
        return self.from_rows(tree[..., tf.newaxis, :])

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        none = tf.constant(-1e30 * (1 - self.allowed), z.dtype)
        log_w = bounded_choices(z) / temperature * self.allowed + none
        return marginals(log_w, self.root) * self._usable(z)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        by_head = tf.nn.log_softmax(a + tf.constant(-1e9 * (1 - self.allowed), a.dtype), axis=-2)
        return tf.reduce_sum(y * where_possible(by_head, by_head), axis=[-2, -1])


def _log1mexp(x: tf.Tensor) -> tf.Tensor:
    """Returns ``log(1 - exp(x))`` for x <= 0."""
    return tf.math.log(-tf.math.expm1(tf.minimum(x, -1e-30)))


def _lowest(x: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """Returns the lowest entry of matrices as a one-hot, zeros where there is nothing to choose."""
    size = x.shape[-1] ** 2
    flat = tf.concat([tf.shape(x)[:-2], [size]], axis=0)
    x, inside = tf.reshape(x, flat), tf.reshape(among, flat)
    best = tf.argmin(tf.where(inside > 0, x, x.dtype.max), axis=-1)
    return tf.reshape(tf.one_hot(best, size, dtype=x.dtype) * inside, tf.shape(among))


def _checked(nodes: int, root: int, edges: Sequence[tuple[int, int]] | None) -> np.ndarray:
    """Returns the adjacency matrix of the edges that may be used."""
    whole = all(isinstance(number, (int, np.integer)) for number in (nodes, root))
    if not whole or nodes < 2 or not 0 <= root < nodes:
        raise ValueError(
            "needs at least 2 nodes, and a root among them, as whole numbers. "
            f"Received: nodes={nodes!r}, root={root!r}"
        )
    allowed = np.ones((nodes, nodes)) if edges is None else np.zeros((nodes, nodes))
    for u, v in edges or ():
        if not (0 <= u < nodes and 0 <= v < nodes):
            raise ValueError(f"edge ({u}, {v}) is not between two of the {nodes} nodes")
        allowed[u, v] = 1
    np.fill_diagonal(allowed, 0)
    allowed[:, root] = 0
    reached = scipy.sparse.csgraph.breadth_first_order(
        allowed, root, directed=True, return_predecessors=False
    )
    if len(reached) < nodes:
        lost = sorted(set(range(nodes)) - set(reached.tolist()))
        raise ValueError(
            f"the graph is not connected: nodes {lost} cannot be reached from the root, {root}"
        )
    return allowed
