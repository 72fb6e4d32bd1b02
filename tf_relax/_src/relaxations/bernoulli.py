"""Independent Bernoulli units behind logistic noise, stable in float32 for |a| <= 80."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import (
    Antithetic,
    BinaryUnits,
    Conditional,
    Enumerable,
    MeanOfLogits,
)
from tf_relax._src.relaxations.impossible import bounded_units, where_possible
from tf_relax._src.relaxations.law import LOGISTIC
from tf_relax._src.relaxations.relaxation import Draw

tfd = tfp.distributions


class Bernoulli(BinaryUnits, Antithetic, Conditional, MeanOfLogits, Enumerable):
    r"""Bernoulli units $b = \mathbf{1}[z > 0]$ with $z = a + l$, $l$ logistic.

    With $s = 2b - 1$ the conditional sample of Tucker et al. (2017), REBAR, appendix C, is

    $$\tilde z = s \, \mathrm{softplus}(l' + \mathrm{softplus}(s a))$$

    The textbook form in uniform space, $v' = v p + 1 - p$, puts $\tilde z$ on the wrong side of
    zero or at infinity in float32 once $\lvert a \rvert$ reaches 20; this one is exact to rounding
    up to 80.

    Example:

    >>> import tensorflow as tf
    >>> bernoulli = Bernoulli()
    >>> draw = bernoulli.sample(tf.constant([[80.0, -80.0]]), noise=tf.constant([[0.5, 0.5]]))
    >>> print(draw.b.numpy(), draw.z.numpy())
    [[1. 0.]] [[ 80.5 -79.5]]
    """

    law = LOGISTIC

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return bounded_units(a)

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray:
        units = math.prod(event_shape)
        strings = np.array(list(itertools.product([0.0, 1.0], repeat=units)))
        return strings.reshape([-1, *event_shape])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int:
        return 2 ** math.prod(event_shape)

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        return Draw(noise=noise, z=z, b=tf.cast(z > 0, z.dtype))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return tfd.Bernoulli(logits=a).log_prob(draw.b)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        uncertain = where_possible(-tf.abs(a), a)
        return where_possible(
            -tf.abs(a), tfd.Bernoulli(logits=uncertain).log_prob(y)
        )  # linear in y

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        return tfd.kl_divergence(tfd.Bernoulli(logits=a), tfd.Bernoulli(logits=prior))

    def entropy(self, a: tf.Tensor) -> tf.Tensor:
        return tfd.Bernoulli(logits=a).entropy()

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        s = 2 * draw.b - 1
        return s * tf.sigmoid(-s * a)  # = b - sigmoid(a), without its cancellation

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return where_possible(-tf.abs(a), tf.tanh(draw.noise / 2))  # z - a, unrounded

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        s = 2 * draw.b - 1
        return s * tf.nn.softplus(noise + tf.nn.softplus(s * a))

    def conditional_vjp(
        self, a: tf.Tensor, draw: Draw, z_tilde: tf.Tensor, h: tf.Tensor
    ) -> tf.Tensor:
        s = 2 * draw.b - 1
        return -tf.sigmoid(s * a) * tf.math.expm1(-tf.abs(z_tilde)) * h

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        s = 2 * draw.b - 1
        # 1 - dz~/da, written as a sum of positive terms: nothing cancels where it is near zero.
        return (tf.sigmoid(-s * a) + tf.sigmoid(s * a) * tf.exp(-tf.abs(draw.z))) * h

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(z / temperature)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(a)

    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return mean * (1 - mean) * h

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return tf.cast(a > 0, a.dtype)
