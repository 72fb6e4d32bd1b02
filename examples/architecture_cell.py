"""The cell that `architecture_search.py` searches: nodes, edges, and the operations on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

NODES = 4
EDGES = [(source, target) for target in range(NODES) for source in range(target)]
OPERATIONS = ("zero", "identity", "max pool", "mean pool", "conv 3x3", "conv 5x5")
CHANNELS = 8
Edges = Sequence[Sequence[str]]  # the operations on every edge, in the order of EDGES


def multiplications(operation: str, side: int) -> int:
    """Counts the multiplications of an operation per image."""
    kernel = {"conv 3x3": 3, "conv 5x5": 5}.get(operation, 0)
    return (kernel * side * CHANNELS) ** 2


def prune(architecture: Sequence[str]) -> list[str]:
    """Replaces by zero what no path from the input to the output goes through."""
    alive = [edge for edge, name in zip(EDGES, architecture, strict=True) if name != "zero"]
    fed, read = {0}, {NODES - 1}
    for source, target in alive:  # sorted by target: a node's own edges come before its readers
        fed |= {target} if source in fed else set()
    for source, target in reversed(alive):
        read |= {source} if target in read else set()
    return [
        str(name) if source in fed and target in read else "zero"
        for (source, target), name in zip(EDGES, architecture, strict=True)
    ]


class Cell(layers.Layer):
    """Applies the operations on its edges; an edge that has several gives their weighted sum.

    Call arguments:
        features: `[batch, side, side, channels]`.
        weights: `[batch, edges, operations]`, or `None` for the mean.
    """

    def __init__(self, edges: Edges, **kwargs: Any):
        super().__init__(**kwargs)
        self.edges = [[name for name in names if name != "zero"] for names in edges]
        # Keras tracks the layers of a flat list.
        self.operations = [make_operation(name) for names in self.edges for name in names]

    def build(self, features_shape: Any, weights_shape: Any = None) -> None:
        for operation in self.operations:
            operation.build(features_shape)

    def call(self, features: Any, weights: Any = None) -> Any:
        # A product, so that a cell without a path still has a gradient: zero.
        nodes = [features] + [0.0 * features] * (NODES - 1)
        operations = iter(self.operations)
        pooled: dict[tuple[int, str], Any] = {}  # has no weights: the same for all that read it
        for e, (source, target) in enumerate(EDGES):
            for name in self.edges[e]:
                operation = next(operations)
                output = pooled.get((source, name))
                output = operation(nodes[source]) if output is None else output
                if "pool" in name:
                    pooled[source, name] = output
                if weights is None:
                    output = output / len(self.edges[e])
                else:
                    k = OPERATIONS.index(name)
                    output = output * weights[:, e, k, None, None, None]
                nodes[target] = nodes[target] + output
        return nodes[-1]


def make_operation(name: str) -> keras.layers.Layer:
    """Creates an operation that keeps the shape of its input."""
    if name == "identity":
        return layers.Identity()
    if name == "max pool":
        return layers.MaxPooling2D(3, 1, padding="same")
    if name == "mean pool":
        return layers.AveragePooling2D(3, 1, padding="same")
    return layers.Conv2D(CHANNELS, int(name[-1]), padding="same", activation="relu")
