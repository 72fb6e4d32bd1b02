"""A pass that repeats a recorded one with relaxed samples from one level of sites on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_relax.sites.handler import Handler
from tf_relax.sites.site import Site, Sites


class Replay(Handler):
    """Repeats a recorded pass as a function of the relaxed samples of some sites.

    Sites of earlier levels return their hard samples again. Those of `level` return the given `z`,
    relaxed. All others recompute their `z` from the logits that they now receive and the noise of
    the recorded pass, and return it relaxed: that noise is independent of the sites of `level`, so
    the replay is a fixed function of their `z` and the estimator stays unbiased.

    Args:
        sites: the recorded pass.
        level: the sites whose `z` is given, one of `sites.levels()`.
        z: one tensor per site of `level`, shaped like its logits.
    """

    relaxed = True

    def __init__(
        self,
        sites: Sites,
        level: Sequence[Site],
        z: Sequence[tf.Tensor],
    ):
        self._remaining = list(sites)
        levels = sites.levels()
        depth = next(k for k, other in enumerate(levels) if level[0] in other)
        self._hard = [site for earlier in levels[:depth] for site in earlier]
        self._given = dict(zip(level, z, strict=True))

    def visit(self, layer: Any, logits: tf.Tensor, context: tf.Tensor | None) -> tf.Tensor:
        self._check_graph(layer, logits)
        if not self._remaining or self._remaining[0].layer is not layer:
            raise RuntimeError(
                f"{type(layer).__name__} '{layer.name}' was called in another order when the "
                "forward pass was repeated. The calls of stochastic layers must not depend on "
                "Python state that changes between two passes."
            )
        site = self._remaining.pop(0)
        if site in self._hard:
            return tf.stop_gradient(site.output)
        if site in self._given:
            return layer.relaxed_output(self._given[site])
        return layer.relaxed_output(layer.relaxation.sample(logits, site.draw.noise).z)
