"""LAX and DLAX: the control variate's own score function against its own pathwise derivative."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import (
    Estimate,
    Passes,
    sampled,
)
from tf_relax._src.estimators.surrogate_value import SurrogateUser, surrogate_and_derivative
from tf_relax._src.relaxations import Continuous, Relaxed
from tf_relax._src.sites import Site


@keras.saving.register_keras_serializable(package="tf_relax")
class Dlax(SurrogateUser):
    r"""``g = f(b) d log p(b|a)/da - c(z) d log p(z|a)/da + dc(z)/da``, unbiased.

    Grathwohl et al. (2018), equation 7: LAX for discrete b. It needs neither a sample of ``z | b``
    nor, in relaxations without a tractable ``p(b)``, its probability; where both exist,
    `Relax` has less variance.

    Args:
        surrogate: what ``c`` is made of: `"sum"` (the objective at relaxed samples plus a network),
            `"objective"`, `"network"`, a `tf_relax.surrogates.Surrogate` or a Keras model of z. An
            object serves the first layer that it is used for, further ones get copies.
        temperature: initial temperature t > 0 of `relax(z, t)`, learned; `None` takes the
            relaxation's, 0.1 for most.
        scale: initial factor of the objective at relaxed samples; learned.

    Raises:
        ValueError: for an unknown surrogate and a temperature that is not positive.

    Example:

    >>> Dlax().unbiased
    True
    """

    needs: tuple[type, ...] = (Relaxed,)

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = {}
        for level in one.sites.levels():
            c, h = surrogate_and_derivative(one, level, [site.z for site in level])
            for k, site in enumerate(level):
                gradients[site] = self._gradient(site, one.f, c[k], h[k])
        g = [[gradients[site] for site in one.sites]]
        return Estimate(g, surrogate_loss=rules.squared_gradient(g))

    def _gradient(self, site: Site, f: tf.Tensor, c: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return rules.dlax(*sampled(site), f, c, h)


@keras.saving.register_keras_serializable(package="tf_relax")
class Lax(Dlax):
    r"""``g = [f(b) - c(b)] d log p(b|a)/da + dc(b)/da``, for continuous b; unbiased.

    Grathwohl et al. (2018), equation 6, with ``c`` a surrogate. With the objective in
    it and a scale of 1 it starts from the reparameterised gradient; with `surrogate="network"` it
    takes any black box.

    Args:
        surrogate: what ``c`` is made of, as for `Relax`.
        temperature: no use for continuous samples, which are their own relaxation.
        scale: initial factor of the objective; learned.

    Raises:
        ValueError: for an unknown surrogate.

    Example:

    >>> Lax().unbiased
    True
    """

    needs = (Continuous, Relaxed)

    def _gradient(self, site: Site, f: tf.Tensor, c: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return rules.lax(*sampled(site), f - c, h)
