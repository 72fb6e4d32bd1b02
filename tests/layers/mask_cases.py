"""Masked layers, and what they can draw, listed without any of the package's formulas."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tf_relax import layers
from tf_relax.relaxations import Arborescence

# A choice: the item, and all that could have been chosen in its place.
Choice = tuple[Any, list[Any]]


class Case(NamedTuple):
    """A layer whose examples have masks of their own.

    Attributes:
        name: for test ids.
        make: makes the layer.
        masks: one per example, shaped like its logits.
        outcomes: lists the choices, and the sample that they make, under a mask.
    """

    name: str
    make: Callable[..., Any]
    masks: np.ndarray
    outcomes: Callable[[np.ndarray], Iterator[tuple[list[Choice], np.ndarray]]]


def one_of(mask):
    items = list(np.flatnonzero(mask))
    for item in items:
        yield [(item, items)], np.eye(len(mask))[item]
    if not items:
        yield [], np.zeros(len(mask))


def without_replacement(mask, k):
    items = list(np.flatnonzero(mask))
    for drawn in itertools.permutations(items, min(k, len(items))):
        yield [(item, [j for j in items if j not in drawn[:i]]) for i, item in enumerate(drawn)]


def subset(mask, k=2):
    for choices in without_replacement(mask, k):
        b = np.zeros(len(mask))
        b[[item for item, _ in choices]] = 1
        yield choices, b


def order(mask):
    for choices in without_replacement(mask, len(mask)):
        places = [item for item, _ in choices] + list(np.flatnonzero(~mask))
        yield choices, np.eye(len(mask))[places]


def matching(mask, row=0, taken=()):
    if row == len(mask):
        yield [], np.zeros(mask.shape)
        return
    free = [(row, int(c)) for c in np.flatnonzero(mask[row]) if c not in taken]
    for pair in free or [None]:
        more = taken if pair is None else (*taken, pair[1])
        for choices, b in matching(mask, row + 1, more):
            if pair is not None:
                choices, b = [(pair, free), *choices], b.copy()
                b[pair] = 1
            yield choices, b


EDGES = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def forest(mask, part=(0, 1, 2, 3)):
    free = [e for e in np.flatnonzero(mask) if part[EDGES[e][0]] != part[EDGES[e][1]]]
    if not free:
        yield [], np.zeros(len(EDGES))
    for edge in free:
        u, v = EDGES[edge]
        merged = tuple(part[u] if p == part[v] else p for p in part)
        for choices, b in forest(mask, merged):
            b = b.copy()
            b[edge] = 1
            yield [(edge, free), *choices], b


def arborescence(mask):
    """The tree on the nodes that can be reached, by the layer for this very graph."""
    reached = {0}
    for _ in mask:
        reached |= {int(v) for u in reached for v in np.flatnonzero(mask[u])}
    nodes = sorted(reached)
    edges = [(u, v) for u, v in zip(*np.nonzero(mask), strict=True) if u in reached and v != u]
    edges = [(nodes.index(u), nodes.index(v)) for u, v in edges if v != 0]
    relaxation = Arborescence(len(nodes), 0, edges)
    shape = (len(nodes), len(nodes))
    for chosen in relaxation.outcomes(shape):
        draw = relaxation.forced(np.zeros((1, *shape)), chosen[np.newaxis])
        choices = []
        for who, alive in zip(chosen, draw.trace.alive[0].numpy(), strict=True):
            if who.any():
                name = [(nodes[k // len(nodes)], nodes[k % len(nodes)]) for k in range(who.size)]
                free = [name[k] for k in np.flatnonzero(alive)]
                choices.append((name[int(who.argmax())], free))
        b = np.zeros(mask.shape)
        b[np.ix_(nodes, nodes)] = draw.b[0]
        yield choices, b


def _masks(*rows):
    return np.array([[[c == "1" for c in line] for line in row.split()] for row in rows])


CASES = [
    Case(
        "categorical",
        layers.RelaxCategorical,
        _masks("1111", "1011", "0001", "0000", "0110")[:, 0],
        one_of,
    ),
    Case(
        "top_k",
        lambda **a: layers.RelaxTopK(2, **a),
        _masks("11111", "10110", "00100")[:, 0],
        subset,
    ),
    Case("plackett_luce", layers.RelaxPermutation, _masks("1111", "1011", "0100")[:, 0], order),
    Case(
        "matching",
        lambda **a: layers.RelaxPermutation(method="matching", **a),
        # The third has a row that may find nothing left, the fourth a list of two.
        _masks("111 111 111", "110 111 011", "110 110 110", "110 110 000"),
        matching,
    ),
    Case(
        "spanning_tree",
        layers.RelaxSpanningTree,
        # The last two are graphs in two parts.
        _masks("111111", "101111", "101001", "100001")[:, 0],
        forest,
    ),
    Case(
        "arborescence",
        lambda **a: layers.RelaxArborescence(4, **a),
        # In the last, nodes 2 and 3 reach each other and nothing reaches them.
        _masks("1111 1111 1111 1111", "0110 0011 0101 0010", "0100 0000 0001 0010"),
        arborescence,
    ),
]
