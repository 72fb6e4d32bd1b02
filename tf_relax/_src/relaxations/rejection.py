"""Gamma, beta and Dirichlet samples by acceptance and rejection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import Continuous
from tf_relax._src.relaxations.distribution import Distribution, nan_unless_finite, numbers
from tf_relax._src.relaxations.noise import open_uniform
from tf_relax._src.relaxations.relaxation import Draw, Relaxation

tfd = tfp.distributions


class Accepted(NamedTuple):
    """What gamma samples are made of.

    Attributes:
        eps: accepted proposals, `[..., gammas]`.
        u: uniforms of the shape augmentation, `[boosts, ..., gammas]`.
    """

    eps: tf.Tensor
    u: tf.Tensor


class Rejection(Continuous, Distribution):
    r"""Gamma variables of Marsaglia and Tsang (2000), as functions of their accepted proposals.

    $$h(\varepsilon, \alpha) = (\alpha - 1/3) (1 + \frac{\varepsilon}{\sqrt{9 \alpha - 3}})^3$$

    An accepted $\varepsilon$ depends on $\alpha$ through its density alone,

    $$\pi(\varepsilon; \alpha) = \Gamma(h; \alpha) \lvert dh/d\varepsilon \rvert$$

    with the density $\Gamma(\cdot; \alpha)$ of the gamma (Naesseth et al. 2017, equation 6), so any
    exact sampler of the gamma gives one: $\varepsilon = h^{-1}$. With $B$ boosts the proposal is
    made for $\alpha + B$ and the sample multiplied by $\prod_i u_i^{1 / (\alpha + i - 1)}$, which
    makes the part of the derivative that is left to the score smaller (section 3.2). Beta and
    Dirichlet variables are normalised gammas.

    Args:
        make_distribution: maps parameters to a `tfd.Gamma`, `tfd.Beta` or `tfd.Dirichlet`.
        boosts: B, at least 1, so that every alpha > 0 will do.
    """

    def __init__(self, make_distribution: Callable[[tf.Tensor], Any], boosts: int = 1):
        super().__init__(make_distribution)
        self.boosts = boosts

    def for_shape(self, logits_shape: tf.TensorShape, dtype: Any = tf.float32) -> Relaxation:
        # Not `Relaxed`: the derivative at fixed eps is not the derivative of the expectation.
        return self

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        distribution = self.make_distribution(numbers(a))
        alpha = _concentrations(distribution)
        seeds = tf.random.experimental.stateless_split(noise, 2)
        gamma = tf.random.stateless_gamma(
            tf.shape(alpha), seeds[0], tf.stop_gradient(alpha) + self.boosts, dtype=a.dtype
        )
        shape = tf.concat([[self.boosts], tf.shape(alpha)], axis=0)
        u = open_uniform(shape, a.dtype, seeds[1])
        trace = Accepted(_h_inverse(gamma, tf.stop_gradient(alpha) + self.boosts), u)
        b = nan_unless_finite(a, self._accepted_to_sample(distribution, trace))
        return Draw(noise=noise, z=b, b=b, trace=trace)

    def correction(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        r"""Returns $\nabla_a \log \pi(\varepsilon; a)$ at fixed $\varepsilon$.

        Equation 8 of Naesseth et al. (2017).
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            alpha = _concentrations(self.make_distribution(a)) + self.boosts
            eps = draw.trace.eps
            width = tf.sqrt(9 * alpha - 3)
            gamma = _h(eps, alpha)
            log_q = (alpha - 1) * tf.math.log(gamma) - gamma - tf.math.lgamma(alpha)
            # dh/deps = (3 alpha - 1) (1 + eps / width)^2 / width
            root = tf.math.log1p(eps / width)
            log_jacobian = tf.math.log(3 * alpha - 1) + 2 * root - tf.math.log(width)
            log_pi = log_q + log_jacobian
        return tape.gradient(log_pi, a, unconnected_gradients="zero")

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            b = self._accepted_to_sample(self.make_distribution(a), draw.trace)
        return tape.gradient(b, a, output_gradients=h, unconnected_gradients="zero")

    def _accepted_to_sample(self, distribution: Any, trace: Accepted) -> tf.Tensor:
        alpha = _concentrations(distribution)
        log_gamma = tf.math.log(_h(trace.eps, alpha + self.boosts))
        for i in range(self.boosts):
            log_gamma += tf.math.log(trace.u[i]) / (alpha + i)
        if isinstance(distribution, tfd.Gamma):
            return tf.exp(log_gamma[..., 0] - tf.math.log(_rate(distribution)))
        shares = tf.nn.softmax(log_gamma)
        return shares[..., 0] if isinstance(distribution, tfd.Beta) else shares


def _concentrations(distribution: Any) -> tf.Tensor:
    """Returns alpha of the gamma variables behind a distribution, `[..., gammas]`."""
    if isinstance(distribution, tfd.Gamma):
        return tf.broadcast_to(distribution.concentration, distribution.batch_shape_tensor())[
            ..., tf.newaxis
        ]
    if isinstance(distribution, tfd.Beta):
        pair = [distribution.concentration1, distribution.concentration0]
        shape = distribution.batch_shape_tensor()
        return tf.stack([tf.broadcast_to(c, shape) for c in pair], axis=-1)
    return tf.convert_to_tensor(distribution.concentration)


def _rate(distribution: Any) -> tf.Tensor:
    if distribution.rate is not None:
        return tf.convert_to_tensor(distribution.rate)
    return tf.exp(distribution.log_rate)


def _h(eps: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    return (alpha - 1 / 3) * (1 + eps / tf.sqrt(9 * alpha - 3)) ** 3


def _h_inverse(gamma: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(9 * alpha - 3) * (tf.pow(gamma / (alpha - 1 / 3), 1 / 3) - 1)
