"""Stochastic layers of every kind, small enough to be enumerated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tests.networks import definitions
from tests.networks.definitions import Outcomes
from tf_relax import layers


def binomial_of_two(a: tf.Tensor) -> Any:
    return tfp.distributions.Binomial(total_count=tf.constant(2.0, a.dtype), logits=a)


class Kind(NamedTuple):
    """A kind of stochastic layer.

    Attributes:
        name: for reports.
        layer: makes the layer.
        logits: their shape.
        outcomes: of one example, given booleans shaped like the logits: what takes part.
        shown: shape of what the layer returns.
        traits: what estimators may ask for: "conditional" (z given b is known), "mean", "binary",
            "sticks", "counts", "entropy" (has a formula), "one_choice" (whatever the mask),
            "listed" (can be enumerated by the package), "bare" (only score functions will do).
        indices: how many there are, for layers that return them, else `None`.
        needs: how many items a mask has to leave of every row, `None` where there can be no mask.
        flat: logits of the prior that favours nothing, or `None`.
    """

    name: str
    layer: Callable[..., Any]
    logits: tuple[int, ...]
    outcomes: Callable[[np.ndarray], Outcomes]
    shown: tuple[int, ...]
    traits: frozenset[str]
    indices: int | None = None
    needs: int | None = None
    flat: np.ndarray | None = None

    @property
    def size(self) -> int:
        return math.prod(self.logits)

    def __repr__(self) -> str:
        return self.name


def _kinds() -> list[Kind]:
    found: list[Kind] = []

    def add(
        name: str, layer: Any, logits: Any, outcomes: Any, shown: Any, traits: str, **more: Any
    ):
        traits = frozenset(traits.split())
        flat = more.pop("flat", None if "counts" in traits or "bare" in traits else 0.0)
        flat = None if flat is None else np.broadcast_to(flat, logits)
        found.append(Kind(name, layer, logits, outcomes, shown, traits, flat=flat, **more))

    def of(cls: Any, **fixed: Any) -> Callable[..., Any]:
        return lambda **options: cls(**fixed, **options)

    for n in (1, 2, 3):
        traits = "conditional mean entropy binary listed"
        outcomes = definitions.bernoulli
        add(f"bits{n}", layers.RelaxBernoulli, (n,), outcomes, (n,), traits, needs=0)
    for shape in ((2,), (3,), (4,), (2, 2), (2, 3)):
        for output in ("one_hot", "index"):
            index = output == "index"
            add(
                f"categorical{shape}{output}",
                of(layers.RelaxCategorical, output=output),
                shape,
                lambda mask, index=index: definitions.categorical(mask, index),
                shape[:-1] or (1,) if index else shape,
                "conditional mean entropy one_choice listed",
                indices=shape[-1] if index else None,
                needs=1,
            )
    for k in (2, 3, 4):
        add(
            f"sticks{k}",
            of(layers.RelaxCategorical, method="stick_breaking"),
            (k - 1,),
            lambda mask, k=k: definitions.sticks(k),
            (k,),
            "conditional mean entropy sticks listed",
            flat=-np.log(np.arange(k - 1, 0, -1.0)),
        )
    for n, k in ((3, 1), (3, 2), (4, 2)):
        for output, shown in (("set", (n,)), ("ordered", (k, n)), ("index", (k,))):
            add(
                f"top{k}of{n}{output}",
                of(layers.RelaxTopK, k=k, output=output),
                (n,),
                lambda mask, k=k, output=output: definitions.top_k(mask, k, output),
                shown,
                "conditional listed",
                indices=n if output == "index" else None,
                needs=k,
            )
    for n in (2, 3):
        for output in ("matrix", "index"):
            index = output == "index"
            add(
                f"order{n}{output}",
                of(layers.RelaxPermutation, output=output),
                (n,),
                lambda mask, index=index: definitions.plackett_luce(mask, index),
                (n,) if index else (n, n),
                "conditional listed",
                indices=n if index else None,
                needs=1,
            )
        add(
            f"order{n}sticks",
            of(layers.RelaxPermutation, method="stick_breaking"),
            (n - 1, n - 1),
            lambda mask, n=n: definitions.permutations_by_sticks(n),
            (n, n),
            "conditional listed",
            flat=-np.log(np.arange(n - 1, 0, -1.0)),
        )
        add(
            f"order{n}matching",
            of(layers.RelaxPermutation, method="matching"),
            (n, n),
            lambda mask, n=n: definitions.matching(n),
            (n, n),
            "conditional listed",
        )
    triangle, square = [(0, 1), (0, 2), (1, 2)], [(0, 1), (1, 2), (2, 3), (0, 3)]
    for edges in (triangle, square):
        nodes = 1 + max(map(max, edges))
        for output, shown in (("edges", (len(edges),)), ("adjacency", (nodes, nodes))):
            add(
                f"tree{nodes}{output}",
                of(layers.RelaxSpanningTree, edges=edges, output=output),
                (len(edges),),
                lambda mask, edges=edges, output=output: definitions.spanning_trees(
                    edges, mask, output
                ),
                shown,
                "conditional listed",
                needs=1,
            )
    add(
        "arborescence",
        of(layers.RelaxArborescence, nodes=3),
        (3, 3),
        lambda mask: definitions.arborescences_of_three(),
        (3, 3),
        "conditional listed",
    )
    for name, cls, outcomes in (
        ("poisson", layers.RelaxPoisson, definitions.poisson),
        ("geometric", layers.RelaxGeometric, definitions.geometric),
    ):
        add(name, cls, (1,), lambda mask, outcomes=outcomes: outcomes(), (1,), "mean counts")
    add(
        "binomial",
        of(layers.RelaxSample, make_distribution=binomial_of_two),
        (1,),
        lambda mask: definitions.binomial_of_two(),
        (1,),
        "bare",
    )
    return found


KINDS = _kinds()
