"""What discrete samples are, written down from their definitions: all outcomes, and their odds.

Nothing here is the package's own: the networks are held against it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Outcomes(NamedTuple):
    """All that one layer may draw for one example.

    Attributes:
        values: what the rest of the model sees of each, `[outcomes, ...]`.
        log_prob: maps logits `[rows, *logits]` and the outcome of every row to ``log p``, `[rows]`.
    """

    values: np.ndarray
    log_prob: Callable[[tf.Tensor, np.ndarray], tf.Tensor]


Step = tuple[int, Sequence[int]]  # who won, among whom
Way = list[Step]  # the steps of a race, in their order


# ------------------------------------------------------------------------------ yes or no


def bits(values: np.ndarray, units: np.ndarray, consulted: np.ndarray) -> Outcomes:
    """Independent units, `[outcomes, units]`, of which some are consulted: their odds are a's."""

    def log_prob(a: tf.Tensor, outcome: np.ndarray) -> tf.Tensor:
        flat = tf.reshape(a, [len(outcome), -1])
        b, counts = units[outcome], consulted[outcome]
        log_p = b * tf.math.log_sigmoid(flat) + (1 - b) * tf.math.log_sigmoid(-flat)
        return tf.reduce_sum(counts * log_p, axis=1)

    return Outcomes(values, log_prob)


def bernoulli(mask: np.ndarray) -> Outcomes:
    """Bits, those without a part are zero."""
    choices = [(0.0, 1.0) if takes_part else (0.0,) for takes_part in mask]
    values = np.array(list(itertools.product(*choices)))
    return bits(values, values, np.broadcast_to(mask.astype(float), values.shape))


def sticks(categories: int) -> Outcomes:
    """The first stick with a yes, or else the last category."""
    eye = np.eye(categories)
    return bits(
        eye, eye[:, :-1], np.array([np.arange(categories - 1) <= k for k in range(len(eye))])
    )


def permutations_by_sticks(n: int) -> Outcomes:
    """Entries of the matrix, row by row, each a yes or no where both are still possible."""
    matrices = [np.eye(n)[list(order)] for order in itertools.permutations(range(n))]
    consulted = []
    for matrix in matrices:
        for_entry = np.zeros((n - 1, n - 1))
        for i, k in itertools.product(range(n - 1), repeat=2):
            same_start = [
                other[i, k]
                for other in matrices
                if (other[:i] == matrix[:i]).all() and (other[i, :k] == matrix[i, :k]).all()
            ]
            for_entry[i, k] = len(set(same_start)) > 1
        consulted.append(for_entry.ravel())
    units = np.array([matrix[:-1, :-1].ravel() for matrix in matrices])
    return bits(np.array(matrices), units, np.array(consulted))


# ------------------------------------------------------------------------------ races


def races(ways: Iterable[tuple[Way, np.ndarray]], items: int, rows: int = 1) -> Outcomes:
    """Choices one after the other, each among those alive in proportion to ``exp(a)``.

    Args:
        ways: all races, with what the rest of the model sees of each.
        items: number of items.
        rows: 1 if all steps choose by one row of logits, else each step has a row of its own.
    """
    ways = list(ways)
    steps = max(len(way) for way, _ in ways)
    won = np.zeros((len(ways), steps, items))
    alive = np.zeros((len(ways), steps, items), bool)
    for n, (way, _) in enumerate(ways):
        for s, (winner, among) in enumerate(way):
            won[n, s, winner] = 1
            alive[n, s, list(among)] = True
        alive[n, len(way) :] = True  # nothing is won there, so it does not matter

    def log_prob(a: tf.Tensor, outcome: np.ndarray) -> tf.Tensor:
        a = tf.reshape(a, [len(outcome), rows, items])
        among = tf.where(alive[outcome], a, tf.constant(-np.inf, a.dtype))
        log_p = a - tf.reduce_logsumexp(among, axis=2, keepdims=True)
        return tf.reduce_sum(won[outcome] * log_p, axis=[1, 2])

    return Outcomes(np.array([seen for _, seen in ways]), log_prob)


def without_replacement(items: Sequence[int], count: int) -> Iterator[Way]:
    """All orders in which so many of the items may be taken."""
    for order in itertools.permutations(items, count):
        yield [(k, [j for j in items if j not in order[:i]]) for i, k in enumerate(order)]


def categorical(mask: np.ndarray, index: bool) -> Outcomes:
    """Choices, `[choices, categories]`, or their numbers."""
    categories = mask.shape[-1]
    choices = mask.reshape(-1, categories)
    among = [np.flatnonzero(row) for row in choices]

    def all_of_them() -> Iterator[tuple[Way, np.ndarray]]:
        for picked in itertools.product(*among):
            seen = np.array(picked) if index else np.eye(categories)[list(picked)]
            shape = mask.shape[:-1] if index else mask.shape
            yield list(zip(picked, among, strict=True)), seen.reshape(shape)

    return races(all_of_them(), categories, rows=len(choices))


def top_k(mask: np.ndarray, k: int, output: str) -> Outcomes:
    """Subsets, in the order in which their members came."""
    n = len(mask)

    def all_of_them() -> Iterator[tuple[Way, np.ndarray]]:
        for way in without_replacement(np.flatnonzero(mask).tolist(), k):
            order = [winner for winner, _ in way]
            seen = {"index": np.array(order), "ordered": np.eye(n)[order]}
            yield way, seen.get(output, np.eye(n)[order].sum(axis=0))

    return races(all_of_them(), n)


def plackett_luce(mask: np.ndarray, index: bool) -> Outcomes:
    """Orders of the items that are there; the others come last."""
    present, absent = np.flatnonzero(mask).tolist(), np.flatnonzero(~mask).tolist()

    def all_of_them() -> Iterator[tuple[Way, np.ndarray]]:
        for way in without_replacement(present, len(present)):
            order = [winner for winner, _ in way] + absent
            yield way, np.array(order) if index else np.eye(len(mask))[order]

    return races(all_of_them(), len(mask))


def matching(n: int) -> Outcomes:
    """Row after row takes one of the columns that are left."""
    ways = without_replacement(range(n), n)
    return races(((way, np.eye(n)[[k for k, _ in way]]) for way in ways), n, rows=n)


def spanning_trees(edges: Sequence[tuple[int, int]], mask: np.ndarray, output: str) -> Outcomes:
    """Edge after edge that closes no circle, until there is none: a tree of every part."""
    nodes = 1 + max(map(max, edges))

    def finish(taken: Way, part: list[int]) -> Iterator[Way]:
        alive = [e for e, (u, v) in enumerate(edges) if mask[e] and part[u] != part[v]]
        if not alive:
            yield taken
        for e in alive:
            u, v = edges[e]
            joined = [part[u] if p == part[v] else p for p in part]
            yield from finish([*taken, (e, alive)], joined)

    def seen(way: Way) -> np.ndarray:
        chosen = [e for e, _ in way]
        if output == "edges":
            return np.eye(len(edges))[chosen].sum(axis=0)
        matrix = np.zeros((nodes, nodes))
        for e in chosen:
            u, v = edges[e]
            matrix[u, v] = matrix[v, u] = 1
        return matrix

    return races(((way, seen(way)) for way in finish([], list(range(nodes)))), len(edges))


def arborescences_of_three() -> Outcomes:
    """Nodes 1 and 2 choose a parent each; if they chose each other, both of them choose the root.

    That is one more race, between the edges (0, 1) and (0, 2) into the circle; what enters it takes
    the place of the choice of the node where it enters.
    """

    def edge(u: int, v: int) -> int:
        return 3 * u + v

    def tree(*edges: int) -> np.ndarray:
        return np.eye(9)[list(edges)].sum(axis=0).reshape(3, 3)

    into = {v: [edge(u, v) for u in range(3) if u != v] for v in (1, 2)}
    ways = []
    for first, second in itertools.product(into[1], into[2]):
        way = [(first, into[1]), (second, into[2])]
        if (first, second) != (edge(2, 1), edge(1, 2)):
            ways.append((way, tree(first, second)))
            continue
        circle = [edge(0, 1), edge(0, 2)]
        ways.append(([*way, (circle[0], circle)], tree(circle[0], second)))
        ways.append(([*way, (circle[1], circle)], tree(circle[1], first)))
    return races(ways, 9)


# ------------------------------------------------------------------------------ numbers


def counts(log_prob_of: Callable[[tf.Tensor, np.ndarray], tf.Tensor], most: int) -> Outcomes:
    """One number of things from 0 to `most`, above which there is next to nothing."""
    values = np.arange(most + 1.0)[:, np.newaxis]
    return Outcomes(values, lambda a, k: log_prob_of(a[:, 0], values[k, 0]))


def poisson(most: int = 40) -> Outcomes:
    """``e^(a k - e^a) / k!``."""
    return counts(lambda a, k: a * k - tf.exp(a) - tf.math.lgamma(k + 1), most)


def geometric(most: int = 60) -> Outcomes:
    """``q (1 - q)^k`` with ``q = sigmoid(a)``."""
    return counts(lambda a, k: tf.math.log_sigmoid(a) + k * tf.math.log_sigmoid(-a), most)


def binomial_of_two() -> Outcomes:
    """How many of two bits are 1."""

    def log_prob(a: tf.Tensor, k: np.ndarray) -> tf.Tensor:
        ways = np.log(np.array([1.0, 2.0, 1.0]))[k.astype(int)]
        return ways + k * tf.math.log_sigmoid(a) + (2 - k) * tf.math.log_sigmoid(-a)

    return counts(log_prob, 2)
