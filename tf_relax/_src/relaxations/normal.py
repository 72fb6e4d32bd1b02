"""Independent normal units: continuous, so the sample is its own relaxation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import Antithetic, Conditional, Continuous, KnownMean
from tf_relax._src.relaxations.law import NORMAL
from tf_relax._src.relaxations.relaxation import Draw

tfd = tfp.distributions


class Normal(Continuous, Antithetic, Conditional, KnownMean):
    r"""Normal units $b = z = \mu + e^s \varepsilon$, $\varepsilon$ standard normal.

    The parameters of $n$ units are $2n$ numbers on the last axis, the means $\mu$, then the
    logarithms $s$ of the standard deviations: $a = [\mu, s]$.

    Example:

    >>> import tensorflow as tf
    >>> normal = Normal()
    >>> draw = normal.sample(tf.constant([[1.0, 0.0]]), noise=tf.constant([[-0.25]]))
    >>> print(draw.b.numpy(), normal.score(tf.constant([[1.0, 0.0]]), draw).numpy())
    [[0.75]] [[-0.25   -0.9375]]
    """

    choice_rank = 1  # means and deviations share an axis
    law = NORMAL
    initial_temperature = None

    def relaxed_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        size = logits_shape[-1]
        return logits_shape[:-1].concatenate([None if size is None else size // 2])

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        mean, log_scale = tf.split(a, 2, axis=-1)
        z = mean + tf.exp(log_scale) * noise
        return Draw(noise=noise, z=z, b=z)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_log_prob(a, draw.b)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return self._normal(a).log_prob(y)

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        return tfd.kl_divergence(self._normal(a), self._normal(prior))

    def entropy(self, a: tf.Tensor) -> tf.Tensor:
        return self._normal(a).entropy()

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        _, log_scale = tf.split(a, 2, axis=-1)
        eps = draw.noise
        return tf.concat([eps * tf.exp(-log_scale), tf.square(eps) - 1], axis=-1)

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.score(a, draw)

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        _, log_scale = tf.split(a, 2, axis=-1)
        return tf.concat([h, h * tf.exp(log_scale) * draw.noise], axis=-1)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        return draw.z  # given b = z, nothing is left to chance

    def conditional_vjp(
        self, a: tf.Tensor, draw: Draw, z_tilde: tf.Tensor, h: tf.Tensor
    ) -> tf.Tensor:
        return tf.zeros_like(a)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        return self.vjp(a, draw, h)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return z

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.split(a, 2, axis=-1)[0]

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return self.mean(a)

    def _normal(self, a: tf.Tensor) -> Any:
        mean, log_scale = tf.split(a, 2, axis=-1)
        return tfd.Normal(mean, tf.exp(log_scale))
