"""Numbers of events: Poisson and geometric."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import Discrete, KnownMean
from tf_relax._src.relaxations.distribution import nan_unless_finite, numbers
from tf_relax._src.relaxations.impossible import IMPOSSIBLE
from tf_relax._src.relaxations.noise import open_uniform, seed_pair
from tf_relax._src.relaxations.relaxation import Draw

# Counts above 2^24 have no exact float32; samplers slow down long before.
_LARGEST_LOGIT = 16.0


class Counts(Discrete, KnownMean):
    r"""Independent whole numbers, one per logit, with a weak derivative.

    $$\frac{\partial}{\partial a_i} \mathbb{E}[f(b)] = w_i \mathbb{E}[f(b + m_i e_i) - f(b)]$$

    for a weight $w_i(a)$ and a whole number $m_i$ (Mohamed et al. 2020, section 6): a derivative by
    comparing two samples, of which one has more of unit $i$. The noise of a draw is the seed of its
    sampler.
    """

    @abc.abstractmethod
    def weak_weight(self, a: tf.Tensor) -> tf.Tensor:
        """Returns $w$, shaped like the logits."""

    @abc.abstractmethod
    def more(self, a: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns $m$, shaped like the logits, from the noise of another draw."""

    @abc.abstractmethod
    def draw(self, a: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws counts from logits that are numbers."""

    def noise_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([2])

    def noise(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        bits = tf.random.stateless_uniform(
            shape, seed_pair(seed), minval=None, maxval=None, dtype=tf.int32, alg="philox"
        )
        return tf.reshape(bits, shape)

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        # Samplers that try until they succeed do not end with NaN for a parameter.
        b = nan_unless_finite(a, tf.stop_gradient(self.draw(numbers(a), noise)))
        return Draw(noise=noise, z=b, b=b)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_log_prob(a, draw.b)


class Poisson(Counts):
    r"""Poisson counts of rate $e^a$.

    $$p(k) = \frac{e^{a k - e^a}}{k!}$$

    with $w = e^a$ and $m = 1$. Logits above 16 count as 16.

    Example:

    >>> import tensorflow as tf
    >>> a = tf.math.log([[2.0, 5.0]])
    >>> print(Poisson().mean(a).numpy())
    [[2. 5.]]
    """

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(a, tf.constant(IMPOSSIBLE, a.dtype), _LARGEST_LOGIT)

    def draw(self, a: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.cast(tfp.distributions.Poisson(log_rate=a).sample(seed=seed), a.dtype)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(a, y) - tf.exp(a) - tf.math.lgamma(y + 1)

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        rate = tf.exp(a)
        return tf.math.multiply_no_nan(a - prior, rate) - rate + tf.exp(prior)

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return draw.b - tf.exp(a)

    def weak_weight(self, a: tf.Tensor) -> tf.Tensor:
        return tf.exp(a)

    def more(self, a: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return tf.ones_like(a)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.exp(a)

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return tf.floor(tf.exp(a))


class Geometric(Counts):
    r"""Numbers of failures before a success of probability $q = \sigma(a)$.

    $$p(k) = q (1 - q)^k$$

    with $w = -(1 - q)$ and $m = 1 + k'$, $k'$ another draw. Logits below -16 count as -16.

    Example:

    >>> import tensorflow as tf
    >>> print(Geometric().mean(tf.zeros((1, 2))).numpy())
    [[1. 1.]]
    """

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(a, -_LARGEST_LOGIT, tf.constant(-IMPOSSIBLE, a.dtype))

    def draw(self, a: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        u = open_uniform(tf.shape(a), a.dtype, seed)
        return tf.floor(tf.math.log(u) / -tf.nn.softplus(a))  # P(K >= k) = (1 - q)^k

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return -tf.nn.softplus(-a) - tf.math.multiply_no_nan(tf.nn.softplus(a), y)

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        successes = tf.nn.softplus(-prior) - tf.nn.softplus(-a)
        failures = tf.nn.softplus(prior) - tf.nn.softplus(a)
        return successes + tf.math.multiply_no_nan(failures, self.mean(a))

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return tf.sigmoid(-a) - draw.b * tf.sigmoid(a)

    def weak_weight(self, a: tf.Tensor) -> tf.Tensor:
        return -tf.sigmoid(-a)

    def more(self, a: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return 1 + self.draw(numbers(a), noise)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.exp(-a)

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return tf.zeros_like(a)
