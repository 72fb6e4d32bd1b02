"""LAX and DLAX: the control variate's own score function against its own pathwise derivative."""

from __future__ import annotations

from collections.abc import Sequence

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
    r"""DLAX: LAX for discrete $b$, whose surrogate has a score of its own; unbiased.

    $$g = f(b) \nabla_a \log p(b \mid a) - c(z) \nabla_a \log p(z \mid a) + \nabla_a c(z)$$

    Grathwohl et al. (2018), equation 7. It needs neither a sample of $z \mid b$ nor, in relaxations
    without a tractable $p(b)$, its probability; where both exist, `Relax` has less variance.

    Args:
        surrogate: what $c$ is made of: `"sum"` (the objective at relaxed samples plus a network),
            `"objective"`, `"network"`, a `tf_relax.surrogates.Surrogate` or a Keras model of z. An
            object serves the first layer that it is used for, further ones get copies.
        temperature: initial temperature $t > 0$ of `relax(z, t)`, learned; `None` takes the
            relaxation's, 0.1 for most.
        scale: initial factor of the objective at relaxed samples; learned.
        num_samples: samples per step, of which the estimate is the mean.
        coupling: `"antithetic"` or `"independent"` samples, as for `Relax`.
        learn_temperature: whether the temperature is learned, as for `Relax`.

    Raises:
        ValueError: for an unknown surrogate or coupling, a temperature that is not positive, fewer
            than one sample, and a single antithetic one.

    Example:

    >>> Dlax().unbiased
    True
    """

    papers = ("grathwohl2018",)
    needs: tuple[type, ...] = (Relaxed,)
    takes_surrogate_off_first = False

    def estimate(self, passes: Passes) -> Estimate:
        surrogates: list[dict[Site, tuple[tf.Tensor, tf.Tensor]]] = []
        for one in passes:
            surrogates.append({})
            for level in one.sites.levels():
                values = surrogate_and_derivative(one, level, [site.z for site in level])
                surrogates[-1].update(zip(level, zip(*values, strict=True), strict=True))
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        # The same site of every pass.
        for sites in zip(*[one.sites for one in passes], strict=True):
            c, h = zip(*[surrogates[k][site] for k, site in enumerate(sites)], strict=True)
            for k, g in enumerate(self._gradients(sites, [one.f for one in passes], c, h)):
                gradients[k].append(g / len(passes))
        return Estimate(gradients, surrogate_loss=rules.squared_gradient(gradients))

    def _gradients(
        self,
        sites: Sequence[Site],
        f: Sequence[tf.Tensor],
        c: Sequence[tf.Tensor],
        h: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns the estimate of every sample at the site of its pass."""
        f, c = (self.against_others(sites, each) for each in (f, c))
        terms = zip(sites, f, c, h, strict=True)
        return [rules.dlax(*sampled(site), *term) for site, *term in terms]


@keras.saving.register_keras_serializable(package="tf_relax")
class Lax(Dlax):
    r"""LAX: a learned control variate for continuous $b$, which has a derivative; unbiased.

    $$g = [f(b) - c(b)] \nabla_a \log p(b \mid a) + \nabla_a c(b)$$

    Grathwohl et al. (2018), equation 6, with $c$ a surrogate. With the objective in it and a scale
    of 1 it starts from the reparameterised gradient; with `surrogate="network"` it takes any black
    box.

    Args:
        surrogate: what $c$ is made of, as for `Relax`.
        temperature: no use for continuous samples, which are their own relaxation.
        scale: initial factor of the objective; learned.
        num_samples: samples per step, of which the estimate is the mean.
        coupling: `"antithetic"` or `"independent"` samples, as for `Relax`.
        learn_temperature: whether the temperature is learned, as for `Relax`.

    Raises:
        ValueError: for an unknown surrogate or coupling, fewer than one sample, and a single
            antithetic one.

    Example:

    >>> Lax().unbiased
    True
    """

    needs = (Continuous, Relaxed)
    takes_surrogate_off_first = True

    def _gradients(
        self,
        sites: Sequence[Site],
        f: Sequence[tf.Tensor],
        c: Sequence[tf.Tensor],
        h: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        left = [f_k - c_k for f_k, c_k in zip(f, c, strict=True)]
        signals = self.against_others(sites, left)
        terms = zip(sites, signals, h, strict=True)
        return [rules.lax(*sampled(site), *term) for site, *term in terms]
