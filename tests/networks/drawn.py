"""Random networks: what Hypothesis draws."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.networks.kinds import KINDS, Kind
from tests.networks.ordinary import ACTIVATIONS, OPS, Node

# More joint outcomes than this, and the package is not asked to enumerate them.
MOST_LISTED, MOST = 24, 600
EMBEDDED = 2  # numbers per index
LOSSES = ("mse", "mae", "bce", "nll", "black_box")


class Site(NamedTuple):
    """A stochastic layer, its logits a dense layer of some features.

    Attributes:
        kind: of layer.
        inputs: numbers of features that the logits are computed from.
        scale: of the logits.
        mask: what takes part, `[examples][size]`, or `None`.
        own_mask: whether the layer is made with the mask, instead of called with one.
        prior: `None`, `"uniform"`, `"learned"`, `"fixed"` or `"conditional"`.
        sampled: whether the divergence is taken at the sample.
        kl_weight: its factor.
    """

    kind: Kind
    inputs: tuple[int, ...]
    scale: float
    mask: tuple[tuple[bool, ...], ...] | None = None
    own_mask: bool = False
    prior: str | None = None
    sampled: bool = False
    kl_weight: float = 1.0


class Network(NamedTuple):
    """A network, with data.

    Attributes:
        parts: nodes and sites; part k makes feature k + 1, feature 0 being the input.
        inputs: size of the input.
        outputs: size of the output, a dense layer of `top`.
        top: numbers of features that the output is computed from.
        loss: one of `LOSSES`.
        weighted: whether examples have weights.
        examples: how many.
        seed: of weights and data.
    """

    parts: tuple[Node | Site, ...]
    inputs: int
    outputs: int
    top: tuple[int, ...]
    loss: str
    weighted: bool
    examples: int
    seed: int

    @property
    def sites(self) -> list[tuple[int, Site]]:
        """The sites, with the numbers of their parts."""
        return [(k, part) for k, part in enumerate(self.parts) if isinstance(part, Site)]


def feature_size(part: Node | Site) -> int:
    if isinstance(part, Node):
        return part.size
    return math.prod(part.kind.shown) * (EMBEDDED if part.kind.indices else 1)


def outcomes_of(kind: Kind) -> int:
    return len(kind.outcomes(np.ones(kind.logits, bool)).values)


SIZES = {kind.name: outcomes_of(kind) for kind in KINDS}


@st.composite
def networks(draw: Any, listed: int = MOST_LISTED) -> Network:
    """A strategy for networks, most of them of no more than `listed` joint outcomes."""
    inputs, examples = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    sizes, parts = [inputs], []
    budget = draw(st.sampled_from([listed, listed, MOST]))

    def some_features(count: int) -> tuple[int, ...]:
        """The latest feature, and others."""
        others = st.integers(0, len(sizes) - 1)
        return (len(sizes) - 1, *(draw(others) for _ in range(count - 1)))

    def add(part: Node | Site) -> None:
        parts.append(part)
        sizes.append(feature_size(part))

    def ordinary() -> Node:
        op = draw(st.sampled_from(OPS))
        chosen = some_features(2 if op in ("concat", "add", "multiply") else 1)
        if op == "dense":
            activation, penalty = draw(st.sampled_from(list(ACTIVATIONS))), draw(st.booleans())
            return Node(op, chosen, draw(st.integers(1, 3)), activation, penalty)
        size = sizes[chosen[0]] + (sizes[chosen[1]] if op == "concat" else 0)
        return Node(op, chosen, size)

    for k in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(0, 2))):
            add(ordinary())
        fitting = [kind for kind in KINDS if SIZES[kind.name] <= budget]
        if k and not fitting:
            break
        site = draw(sites(fitting, some_features(draw(st.integers(1, 2))), examples))
        budget //= SIZES[site.kind.name]
        add(site)
    for _ in range(draw(st.integers(0, 2))):
        add(ordinary())
    at_sites = [k + 1 for k, part in enumerate(parts) if isinstance(part, Site)]
    return Network(
        parts=tuple(parts),
        inputs=inputs,
        outputs=draw(st.integers(1, 3)),
        top=tuple(dict.fromkeys([*at_sites, len(parts)])),
        loss=draw(st.sampled_from(LOSSES)),
        weighted=draw(st.booleans()),
        examples=examples,
        seed=draw(st.integers(0, 2**31 - 1)),
    )


@st.composite
def sites(draw: Any, kinds: list[Kind], inputs: tuple[int, ...], examples: int) -> Site:
    kind = draw(st.sampled_from(kinds))
    priors = [None, "learned", "fixed", "conditional"]
    priors += ["uniform"] if kind.flat is not None else []
    # Rates of counts above e have more outcomes than are listed.
    scale = 0.3 if "counts" in kind.traits else draw(st.sampled_from([0.5, 1.0, 1.0, 3.0, 30.0]))
    site = Site(
        kind=kind,
        inputs=inputs,
        scale=scale,
        prior=draw(st.sampled_from(priors)),
        sampled=draw(st.booleans()),
        kl_weight=draw(st.sampled_from([1.0, 0.5])),
    )
    if kind.needs is None or not draw(st.booleans()):
        return site
    # The mask of a layer itself is that of all examples.
    own = kind.name.startswith(("categorical", "top")) and draw(st.booleans())
    width = kind.logits[-1]

    def row() -> tuple[bool, ...]:
        present = draw(st.sets(st.integers(0, width - 1), min_size=kind.needs))
        return tuple(k in present for k in range(width))

    masks = [sum((row() for _ in range(kind.size // width)), ()) for _ in range(examples)]
    return site._replace(mask=tuple(masks[:1] * examples if own else masks), own_mask=own)
