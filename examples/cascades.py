"""Graphs, what spreads along their edges, and its likelihood: for `graph_structure.py`."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

LEAK, PASS = 0.05, 0.7
LENGTH = 5  # transitions per cascade
SEEDED = 0.2  # P(a node is active at the start of a cascade)


class Problem(NamedTuple):
    """A graph, `[nodes, nodes]`, and transitions along it, each `[transitions, nodes]`."""

    structure: str
    graph: np.ndarray
    before: np.ndarray
    after: np.ndarray


def random_graph(structure: str, nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Returns an adjacency matrix, entry (u, v) for the edge from u to v."""
    if structure == "edges":
        graph = rng.random((nodes, nodes)) < 2 / nodes  # two neighbours or so
        return (graph & ~np.eye(nodes, dtype=bool)).astype("float32")
    tree = np.zeros((nodes, nodes), "float32")
    order = [0, *(1 + rng.permutation(nodes - 1))]
    for i in range(1, nodes):
        tree[order[rng.integers(i)], order[i]] = 1
    return tree if structure == "arborescence" else tree + tree.T


def spread(
    graph: np.ndarray, cascades: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states before and after every transition of some cascades."""
    states = [rng.random((cascades, len(graph))) < SEEDED]
    for _ in range(LENGTH):
        passed = states[-1][:, :, np.newaxis] * PASS * graph
        quiet = (1 - LEAK) * np.prod(1 - passed, axis=1)
        states.append(rng.random(quiet.shape) > quiet)
    states = np.array(states, "float32")
    return np.concatenate(states[:-1]), np.concatenate(states[1:])


def negative_log_likelihood(graphs: Any, problem: Problem, xp: ModuleType = np) -> Any:
    """Returns ``-log p(x' | x, A)`` per graph, `[batch]`, as a mean over transitions.

    The module `xp` is NumPy, or `keras.ops`, whose result has a derivative, also between graphs.
    """
    before, after = problem.before, problem.after
    if xp is not np:
        before, after = tf.constant(before), tf.constant(after)
    graphs = graphs * (1 - np.eye(problem.graph.shape[0], dtype="float32"))  # no loops
    # As x is 0 or 1, log(1 - pass A x) = x log(1 - pass A).
    log_quiet = math.log(1 - LEAK) + before @ xp.log(1 - PASS * graphs)
    log_active = xp.log(-xp.expm1(log_quiet))
    log_p = xp.sum(after * log_active + (1 - after) * log_quiet, axis=-1)
    return -xp.mean(log_p, axis=-1)
