"""Trees in a graph as Keras layers: latent structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tf_relax._src.layers.discrete import Discrete
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import Arborescence, SpanningTree


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxSpanningTree(Discrete):
    r"""Stochastic spanning trees: Kruskal's algorithm on $a + G$.

    The edge with the largest value that closes no cycle is taken, again and again; that is a race
    in which edges die, with an exact conditional sample (Struminsky et al. 2021), so RELAX
    (Grathwohl et al. 2018, equation 8) is unbiased. The relaxed tree of the surrogate is that of
    Paulus et al. (2020).

    Args:
        edges: pairs of nodes, numbered from 0. `None` is the complete graph, whose edges are
            (0, 1), (0, 2), ..., (1, 2), ...
        output: `"edges"` (1 for the edges of the tree, `[..., edges]`) or `"adjacency"` (symmetric,
            `[..., nodes, nodes]`).
        prior: distribution that samples are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (trainable logits) or logits, broadcast over the event.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$ where a formula is known, `"sampled"` for
            $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"` or the `"mode"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: `[batch, ..., edges]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: edges that this
            example has. A graph in several parts gets a tree for each.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): trees in the compute dtype.

    Raises:
        ValueError: for a graph that is not connected, loops and double edges, ill-shaped logits.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Dense(6)(keras.Input((8,)))
    >>> tf_relax.layers.RelaxSpanningTree(output="adjacency")(logits).shape
    (None, 4, 4)
    """

    outputs = ("edges", "adjacency")

    def __init__(
        self,
        edges: Sequence[tuple[int, int]] | None = None,
        output: str = "edges",
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        try:
            relaxation = SpanningTree(edges, adjacency=output == "adjacency")
        except ValueError as error:
            raise ValueError(f"RelaxSpanningTree: {error}") from None
        super().__init__(
            relaxation=relaxation,
            output=output,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.edges = None if edges is None else [tuple(map(int, edge)) for edge in edges]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": self.edges}


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxArborescence(Discrete):
    r"""Stochastic trees directed away from a root: Edmonds' algorithm on $a + G$.

    Every node chooses its parent; circles become nodes and choose again. Each choice is a race,
    with an exact conditional sample (Struminsky et al. 2021), so RELAX (Grathwohl et al. 2018,
    equation 8) is unbiased. The relaxed tree of the surrogate is that of Paulus et al. (2020).

    Args:
        nodes: number of nodes.
        root: the node that all paths start from.
        edges: pairs (from, to) that may be used; `None` is all of them.
        prior: distribution that samples are held against: `None` (no divergence), `"uniform"`,
            `"learned"` (trainable logits) or logits, broadcast over the event.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$ where a formula is known, `"sampled"` for
            $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, which a callback can
            anneal: `layer.kl_weight.assign(...)`.
        inference: what `training=False` returns: a `"sample"` or the `"mode"`.
        seed: integer seed of the noise.
        check_numerics: whether logits with NaN or infinity raise an error that names the layer.
            Turns `jit_compile` off.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: `[batch, ..., nodes, nodes]`, entry (u, v) for the edge from u to v; those into the
            root, on the diagonal and of edges that may not be used play no part.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: edges that this
            example has. Nodes that cannot be reached from the root have no parent.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): adjacency matrices `[batch, ..., nodes, nodes]` in the compute dtype.

    Raises:
        ValueError: for nodes that cannot be reached from the root, and ill-shaped logits.

    Example:

    >>> import keras, tf_relax
    >>> logits = keras.layers.Reshape((4, 4))(keras.layers.Dense(16)(keras.Input((8,))))
    >>> tf_relax.layers.RelaxArborescence(4)(logits).shape
    (None, 4, 4)
    """

    def __init__(
        self,
        nodes: int,
        root: int = 0,
        edges: Sequence[tuple[int, int]] | None = None,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        try:
            relaxation = Arborescence(nodes, root, edges)
        except ValueError as error:
            raise ValueError(f"RelaxArborescence: {error}") from None
        super().__init__(
            relaxation=relaxation,
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )
        self.nodes = nodes
        self.root = root
        self.edges = None if edges is None else [tuple(map(int, edge)) for edge in edges]

    def get_config(self) -> dict[str, Any]:
        own = {"nodes": self.nodes, "root": self.root, "edges": self.edges}
        return {**super().get_config(), **own}
