"""Every family of discrete samples, small enough to be enumerated."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import tensorflow as tf

from tf_relax import layers
from tf_relax.relaxations import Blocks, Relaxation


class Family(NamedTuple):
    """One kind of discrete sample.

    Attributes:
        name: for test ids.
        make: makes the layer.
        event: shape of its logits.
        outcomes: how many there are.
    """

    name: str
    make: Callable[..., Any]
    event: tuple[int, ...]
    outcomes: int

    @property
    def relaxation(self) -> Relaxation:
        layer = self.make()
        layer.build((None, *self.event))
        return layer.relaxation

    @property
    def shape(self) -> tf.TensorShape:
        return tf.TensorShape(self.event)


def _of(layer: type, **fixed: Any) -> Callable[..., Any]:
    return lambda **arguments: layer(**fixed, **arguments)


# Two edges short of complete, and with a node that has only one way in.
SPARSE = [(0, 1), (0, 2), (1, 2), (2, 1), (2, 3), (1, 3)]

FAMILIES = [
    Family("categorical", _of(layers.RelaxCategorical), (2, 4), 16),
    Family("sticks", _of(layers.RelaxCategorical, method="stick_breaking"), (2, 3), 16),
    Family("plackett_luce", _of(layers.RelaxPermutation), (4,), 24),
    Family("stick_breaking", _of(layers.RelaxPermutation, method="stick_breaking"), (3, 3), 24),
    Family("matching", _of(layers.RelaxPermutation, method="matching"), (4, 4), 24),
    Family("top_2_of_5", _of(layers.RelaxTopK, k=2), (5,), 20),
    Family("ordered_top_2_of_5", _of(layers.RelaxTopK, k=2, output="ordered"), (5,), 20),
    Family("spanning_tree", _of(layers.RelaxSpanningTree), (6,), 16 * 6),
    Family(
        "adjacency",
        _of(layers.RelaxSpanningTree, edges=[(3, 1), (0, 1), (2, 0), (1, 2)], output="adjacency"),
        (4,),
        3 * 6,
    ),
    Family("arborescence", _of(layers.RelaxArborescence, nodes=4), (4, 4), 82),
    Family("sparse", _of(layers.RelaxArborescence, nodes=4, edges=SPARSE), (4, 4), 10),
]

# Those that no layer samples from are tested with the families, and not as layers.
RELAXATIONS = [
    *FAMILIES,
    Family(
        "blocks",
        lambda: SimpleNamespace(build=lambda shape: None, relaxation=Blocks([2, 4, 3])),
        (9,),
        2 * 4 * 3,
    ),
]
