"""A pass that draws samples and remembers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_relax.sites.handler import Handler
from tf_relax.sites.site import Site, Sites


class Record(Handler):
    """Draws a sample at every site and remembers it.

    Args:
        output: what a layer returns for its site; by default the layer's own choice, a hard sample
            that refuses to be differentiated.
        conditional: whether to draw `z~ ~ p(z | b)` at every site as well.
        noise: one noise tensor per site, in the order of the calls, instead of fresh noise.
        conditional_noise: the same for `z~`.
        divergence: overrides how layers compute the divergence from their prior.
        relaxed: whether `output` gives relaxed samples, which black-box objectives refuse.
        always_samples: whether layers sample even where their `inference` mode would not.
    """

    def __init__(
        self,
        output: Callable[[Site], tf.Tensor] | None = None,
        conditional: bool = False,
        noise: Sequence[tf.Tensor] | None = None,
        conditional_noise: Sequence[tf.Tensor] | None = None,
        divergence: str | None = None,
        relaxed: bool = False,
        always_samples: bool = False,
    ):
        self.sites = Sites()
        self.divergence = divergence
        self.relaxed = relaxed
        self.always_samples = always_samples
        self._output = output
        self._conditional = conditional
        self._noise = noise
        self._conditional_noise = conditional_noise

    def __enter__(self) -> Sites:
        super().__enter__()
        return self.sites

    def visit(self, layer: Any, logits: tf.Tensor, context: tf.Tensor | None) -> tf.Tensor:
        self._check_graph(layer, logits)
        position = len(self.sites)
        calls = sum(site.layer is layer for site in self.sites)
        draw = layer.relaxation.sample(
            logits, self._draw_noise(self._noise, position, layer, logits)
        )
        site = Site(
            layer=layer,
            name=f"{layer.name}[{calls}]" if calls else layer.name,
            logits=logits,
            context=context,
            draw=draw,
        )
        if self._conditional:
            noise = self._draw_noise(self._conditional_noise, position, layer, logits)
            site.z_tilde = layer.relaxation.conditional(logits, draw, noise)
        sample = layer.hard_output(logits, draw.b) if self._output is None else self._output(site)
        site.output = tf.identity(sample)
        self.sites.append(site)
        return site.output

    @staticmethod
    def _draw_noise(
        given: Sequence[tf.Tensor] | None, position: int, layer: Any, logits: tf.Tensor
    ) -> tf.Tensor:
        if given is None:
            return layer.noise(logits)
        if position >= len(given) or not logits.shape.is_compatible_with(given[position].shape):
            found = f"shape {given[position].shape}" if position < len(given) else "none"
            raise ValueError(
                f"Call {position} of a stochastic layer, '{layer.name}', needs noise of the shape "
                f"of its logits, {logits.shape}. Received: {found}."
            )
        return tf.cast(given[position], logits.dtype)


def record(
    noise: Sequence[tf.Tensor] | None = None,
    conditional_noise: Sequence[tf.Tensor] | None = None,
) -> Record:
    """Records logits, z, b and z~ of every stochastic layer that is called inside.

    Args:
        noise: one tensor per call, shaped like its logits, to be used instead of fresh noise
            (common random numbers, reproducing a draw). For `RelaxBernoulli`: logistic noise.
        conditional_noise: the same for the conditional sample z~.

    Returns:
        A context manager that yields a list of sites, in the order of the calls. Each has `name`,
        `layer`, `logits`, `z`, `b`, `z_tilde` and `output`.

    Raises:
        RuntimeError: if a stochastic layer is called inside a `tf.map_fn`, a recurrent loop or an
            inner `tf.function`, whose tensors do not exist outside.

    Example:

    >>> import tensorflow as tf, tf_relax
    >>> layer = tf_relax.layers.RelaxBernoulli(seed=0, name="code")
    >>> with tf_relax.record() as sites:
    ...     sample = layer(tf.zeros((2, 3)), training=True)
    >>> site = sites[0]
    >>> site.name, bool(tf.reduce_all(site.b == tf.cast(site.z > 0, tf.float32)))
    ('code', True)
    >>> bool(tf.reduce_all((site.z_tilde > 0) == (site.z > 0)))
    True
    """
    return Record(conditional=True, noise=noise, conditional_noise=conditional_noise)
