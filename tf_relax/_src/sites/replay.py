"""A pass that repeats a recorded one with other samples."""

from __future__ import annotations

from collections.abc import Callable, Collection

import tensorflow as tf

from tf_relax._src.relaxations import Draw
from tf_relax._src.sites.handler import Handler
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.sites.site import Site, Sites

# From a recorded site and the logits that it now receives: its draw, and what to return.
SampleAgain = Callable[[Site, tf.Tensor], tuple[Draw | None, tf.Tensor]]


class Replay(Handler):
    """Repeats a recorded pass site by site.

    Every site asks `sample` for what to return. Sites in `unchanged` keep the logits of the
    recorded pass: whatever computed those need not run again (a graph then drops it), and
    derivatives of all passes with respect to them meet in one tensor.

    Args:
        recorded: the recorded pass.
        sample: from a recorded site and the logits that it now receives, its draw (`None` for a
            relaxed sample or a mean) and what to return.
        unchanged: sites whose logits cannot differ from the recorded ones.
        relaxed: whether `sample` returns relaxed samples, which black-box objectives refuse.
        divergence: overrides how layers compute the divergence from their prior.
    """

    always_samples = True

    def __init__(
        self,
        recorded: Sites,
        sample: SampleAgain,
        unchanged: Collection[Site] = (),
        relaxed: bool = False,
        divergence: str | None = None,
    ):
        self.sites = Sites()
        self.sites.batch_coupled = recorded.batch_coupled
        self.relaxed = relaxed
        self.divergence = divergence
        self._remaining = list(recorded)
        self._sample = sample
        self._unchanged = unchanged

    def __enter__(self) -> Sites:
        super().__enter__()
        return self.sites

    def visit(
        self,
        layer: StochasticLayer,
        logits: tf.Tensor,
        context: tf.Tensor | None,
        mask: tf.Tensor | None = None,
    ) -> Site:
        self._check_graph(layer, logits)
        if not self._remaining or self._remaining[0].layer is not layer:
            raise RuntimeError(
                f"{type(layer).__name__} '{layer.name}' was called in another order when the "
                "forward pass was repeated. The calls of stochastic layers must not depend on "
                "Python state that changes between two passes."
            )
        recorded = self._remaining.pop(0)
        if recorded in self._unchanged:
            logits, context = recorded.logits, recorded.context
        draw, sample = self._sample(recorded, logits)
        site = Site(
            layer=layer,
            name=recorded.name,
            logits=logits,
            context=context,
            draw=recorded.draw if draw is None else draw,
            output=tf.identity(sample),
            hard=draw is not None,
            state=recorded.state,
        )
        self.sites.append(site)
        return site
