"""A pass that draws samples and remembers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.sites.handler import Handler
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.sites.site import Site, Sites


class Record(Handler):
    r"""Draws a sample at every site and remembers it.

    Args:
        output: what a layer returns for its site; by default the layer's own choice, a hard sample
            that refuses to be differentiated.
        num_noises: noise tensors per site: the first makes its sample, the others are for further
            passes, which run on the same random state and could not draw any of their own.
        num_conditional: how many $\tilde z \sim p(z \mid b)$ to draw at a site of a layer.
        num_passes: for how many passes to draw the noise of $\tilde z$.
        couple: maps the independent noise tensors of a layer's site, given its logits, to dependent
            ones.
        couple_conditional: the same for the noise of the $\tilde z$ of one pass.
        noise: one tensor per site, in the order of the calls, instead of fresh noise,
            `[batch, *event]` or, for several, `[num_noises, batch, *event]`.
        conditional_noise: the same for $\tilde z$.
        divergence: overrides how layers compute the divergence from their prior.
        relaxed: whether `output` gives relaxed samples, which black-box objectives refuse.
        always_samples: whether layers sample even where their `inference` mode would not.
        states: what an estimator has learned, by layer.
    """

    def __init__(
        self,
        output: Callable[[Site], tf.Tensor] | None = None,
        num_noises: int = 1,
        num_conditional: Callable[[StochasticLayer], int] = lambda layer: 0,
        num_passes: int = 1,
        couple: Callable[[StochasticLayer, list[tf.Tensor], tf.Tensor], list[tf.Tensor]]
        | None = None,
        couple_conditional: Callable[[StochasticLayer, list[tf.Tensor]], list[tf.Tensor]]
        | None = None,
        noise: Sequence[tf.Tensor] | None = None,
        conditional_noise: Sequence[tf.Tensor] | None = None,
        divergence: str | None = None,
        relaxed: bool = False,
        always_samples: bool = False,
        states: Mapping[Any, keras.Layer] | None = None,
    ):
        self.sites = Sites()
        self.divergence = divergence
        self.relaxed = relaxed
        self.always_samples = always_samples
        self._output = output
        self._states = {} if states is None else states
        self._num_noises = num_noises
        self._num_conditional = num_conditional
        self._num_passes = num_passes
        self._couple = couple
        self._couple_conditional = couple_conditional
        self._noise = _one_per_call(noise)
        self._conditional_noise = _one_per_call(conditional_noise)

    def __enter__(self) -> Sites:
        super().__enter__()
        return self.sites

    def __exit__(self, kind: Any = None, *exception: Any) -> None:
        super().__exit__(kind, *exception)
        for noise in (self._noise, self._conditional_noise):
            if kind is None and noise is not None and len(noise) != len(self.sites):
                raise ValueError(
                    f"There is noise for {len(noise)} calls of stochastic layers, and "
                    f"{len(self.sites)} were made. Pass one tensor per call, in their order."
                )

    def visit(
        self,
        layer: StochasticLayer,
        logits: tf.Tensor,
        context: tf.Tensor | None,
        mask: tf.Tensor | None = None,
    ) -> Site:
        self._check_graph(layer, logits)
        noises = self._draw_noise(self._noise, self._num_noises, layer, logits)
        if self._couple is not None:
            noises = self._couple(layer, noises, logits)
        calls = sum(site.layer is layer for site in self.sites)
        site = Site(
            layer=layer,
            name=f"{layer.name}[{calls}]" if calls else layer.name,
            logits=logits,
            context=context,
            draw=layer.relaxation.sample(logits, noises[0]),
            noises=noises,
            hard=not self.relaxed,
            mask=mask,
            state=self._states.get(layer),
        )
        num_conditional = self._num_conditional(layer)
        if num_conditional:
            count = num_conditional * self._num_passes
            tildes = self._draw_noise(self._conditional_noise, count, layer, logits)
            if self._couple_conditional is not None:
                of_passes = range(0, count, num_conditional)
                groups = [tildes[k : k + num_conditional] for k in of_passes]
                tildes = [x for group in groups for x in self._couple_conditional(layer, group)]
            site.conditional_noises = tildes
            site.z_tildes = site.conditional(tildes[:num_conditional])
        if self._output is None:
            sample = layer.hard_output(logits, layer.as_output(site.draw))
        else:
            sample = self._output(site)
        site.output = tf.identity(sample)
        self.sites.append(site)
        return site

    def _draw_noise(
        self,
        given: Sequence[tf.Tensor] | None,
        count: int,
        layer: StochasticLayer,
        logits: tf.Tensor,
    ) -> list[tf.Tensor]:
        if given is None:
            noise = layer.noise(logits, count, position=len(self.sites))
        else:
            position = len(self.sites)
            shape = layer.relaxation.noise_shape(logits.shape)
            expected = shape if count == 1 else tf.TensorShape([count]).concatenate(shape)
            if position >= len(given) or not expected.is_compatible_with(given[position].shape):
                found = f"shape {given[position].shape}" if position < len(given) else "none"
                raise ValueError(
                    f"Call {position} of a stochastic layer, '{layer.name}', needs noise of shape "
                    f"{expected}. Received: {found}."
                )
            noise = tf.convert_to_tensor(given[position])
            noise = tf.cast(noise, logits.dtype) if noise.dtype.is_floating else noise
            noise = noise[tf.newaxis] if count == 1 else noise
        return tf.unstack(noise, num=count)


def _one_per_call(noise: Any) -> Any:
    if noise is not None and not isinstance(noise, (list, tuple)):
        raise TypeError(
            "Noise is given as a list with one tensor per call of a stochastic layer. Received: "
            f"{type(noise).__name__}. For a single call pass [noise]."
        )
    return noise


def record(
    noise: Sequence[tf.Tensor] | None = None,
    conditional_noise: Sequence[tf.Tensor] | None = None,
) -> Record:
    r"""Records logits, z, b and $\tilde z$ of every stochastic layer that is called inside.

    Args:
        noise: one tensor per call, shaped like its samples, to be used instead of fresh noise
            (common random numbers, reproducing a draw). For `RelaxBernoulli`: logistic noise.
        conditional_noise: the same for the conditional sample $\tilde z$.

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
    return Record(num_conditional=lambda layer: 1, noise=noise, conditional_noise=conditional_noise)
