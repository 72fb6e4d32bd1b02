"""Where a sample came from, for layers that come after the one that drew it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src.relaxations import Draw, Relaxation

_ATTRIBUTE = "_tf_relax_drawn"  # as Keras keeps masks with tensors


class Drawn(NamedTuple):
    """What a stochastic layer did to return what it returned.

    Attributes:
        relaxation: what it draws.
        draw: the draw behind a hard sample; `None` for relaxed samples, modes and means.
        sampled: whether a sample was drawn, hard or relaxed.
        mask: what took part, with as many axes as the logits; `None` for everything.
    """

    relaxation: Relaxation
    draw: Draw | None = None
    sampled: bool = True
    mask: tf.Tensor | None = None

    @classmethod
    def of(cls, output: Any) -> Drawn | None:
        """Returns what was kept with an output; `None` for other tensors."""
        return getattr(output, _ATTRIBUTE, None)

    def kept_with(self, output: tf.Tensor) -> tf.Tensor:
        """Returns an output that `of` knows."""
        setattr(output, _ATTRIBUTE, self)
        return output

    def check_sample(self, layer: keras.layers.Layer) -> None:
        """Raises a ValueError if there is no sample to estimate a divergence from."""
        if not self.sampled:
            raise ValueError(
                f"{type(layer).__name__} '{layer.name}' has a prior whose divergence is estimated "
                "from a sample, and this call does not draw one: use inference='sample'."
            )

    def log_prob(self, logits: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns the log-probability of the sample under logits, `[batch, ...]`.

        Args:
            logits: `[batch, *event]`; of the layer, or of a prior of its kind.
            output: what the layer returned.
        """
        if self.draw is not None and (self.draw.trace is not None or not output.dtype.is_floating):
            return self.relaxation.log_prob(logits, self.draw)
        # By way of the output, so that derivatives in it see the probability as well.
        return self.relaxation.relaxed_log_prob(logits, tf.cast(output, logits.dtype))
