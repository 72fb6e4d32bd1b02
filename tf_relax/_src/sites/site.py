"""One call of a stochastic layer, and the calls of one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_relax._src.relaxations import Draw
from tf_relax._src.sites.dependence import depends_on
from tf_relax._src.sites.layer import StochasticLayer


@dataclasses.dataclass(eq=False)
class Site:
    r"""One call of a stochastic layer.

    Attributes:
        layer: the layer that was called.
        name: the layer's name; further calls of a shared layer count up: `code`, `code[1]`, ...
        logits: parameters of the distribution, `[batch, *event]`, float32 or better.
        context: what a surrogate may look at besides `z` and the logits, or `None`.
        draw: noise, relaxed `z` and hard `b`; where a repeated pass draws nothing, that of the
            recorded pass.
        noises: the noise of this and of all further samples of the step; the first made `draw`.
        conditional_noises: the noise of the samples of $z \mid b$ of this and all further passes.
        z_tildes: samples of $z \mid b$, as many as were asked for.
        output: what the layer returned.
        hard: whether that is the hard sample of `draw`, and not a relaxed one or a mean.
        mask: what takes part, with as many axes as the logits; `None` for everything.
        state: what the estimator has learned for the layer, or `None` where none is at work.
    """

    layer: StochasticLayer
    name: str
    logits: tf.Tensor
    context: tf.Tensor | None
    draw: Draw
    noises: Sequence[tf.Tensor] = ()
    conditional_noises: Sequence[tf.Tensor] = ()
    z_tildes: Sequence[tf.Tensor] = ()
    output: tf.Tensor | None = None
    hard: bool = True
    mask: tf.Tensor | None = None
    state: Any = None

    @property
    def z(self) -> tf.Tensor:
        """Relaxed sample, shaped like `b`."""
        return self.draw.z

    @property
    def b(self) -> tf.Tensor:
        """Hard sample; for discrete units shaped like the logits."""
        return self.draw.b

    @property
    def z_tilde(self) -> tf.Tensor | None:
        r"""The first sample of $z \mid b$, `None` where none was asked for."""
        return self.z_tildes[0] if self.z_tildes else None

    def conditional(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        r"""Returns one $\tilde z \sim p(z \mid b)$ per noise tensor."""
        relaxation = self.layer.relaxation
        return [relaxation.conditional(self.logits, self.draw, noise) for noise in noises]


class Sites(list[Site]):
    """The sites of one pass, in the order of their calls."""

    # Whether examples reach each other's objective (batch statistics of samples). Then only the
    # sum over the batch is an objective that every example's logits can be held accountable for.
    batch_coupled = False
    _levels: list[list[Site]] | None = None

    def signal(self, per_example: tf.Tensor) -> tf.Tensor:
        """Returns what multiplies the score of an example: its own value, or the batch's."""
        return tf.reduce_sum(per_example, keepdims=True) if self.batch_coupled else per_example

    def levels(self) -> list[list[Site]]:
        """Groups the sites so that within a group none is upstream of another.

        In a graph, dependence is read off the graph and holds whether or not the path between two
        sites is differentiable. Eagerly there is no graph to read: every site is then a level of
        its own, which is correct for any program and only costs more replays.
        """
        if self._levels is not None:
            return self._levels
        depths: list[int] = []
        for index, site in enumerate(self):
            if tf.executing_eagerly():
                depths.append(index)
                continue
            inputs = [site.logits] if site.context is None else [site.logits, site.context]
            upstream = [
                depth
                for depth, earlier in zip(depths, self, strict=False)
                if depends_on(inputs, [earlier.output])
            ]
            depths.append(1 + max(upstream, default=-1))
        self._levels = [
            [site for site, depth in zip(self, depths, strict=True) if depth == level]
            for level in sorted(set(depths))
        ]
        return self._levels

    def set_levels(self, levels: list[list[Site]]) -> None:
        """Says what `levels` returns, for sites that are some of those of a pass."""
        self._levels = levels

    def until(self, level: Sequence[Site]) -> list[Site]:
        """Returns the sites of all levels up to and including `level`, which is one of them."""
        levels = self.levels()
        depth = next(k for k, other in enumerate(levels) if level[0] in other)
        return [site for earlier in levels[: depth + 1] for site in earlier]
