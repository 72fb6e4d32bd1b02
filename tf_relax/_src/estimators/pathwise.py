"""Estimators that differentiate through the sample or a stand-in for it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.estimators.estimator import (
    Estimate,
    Estimator,
    Passes,
)
from tf_relax._src.estimators.surrogate_value import check_temperature
from tf_relax._src.relaxations import Continuous, Discrete, KnownMean, MeanOfLogits, Relaxed
from tf_relax._src.sites import Site


class Pathwise(Estimator):
    """Base of the estimators that leave everything to backpropagation through `output`."""

    needs_differentiable_objective = True
    importance_weighted = True

    def estimate(self, passes: Passes) -> Estimate:
        return Estimate(gradients=None)


@keras.saving.register_keras_serializable(package="tf_relax")
class Reparameterization(Pathwise):
    r"""Reparameterisation for continuous samples, which have a derivative; unbiased.

    $$g = \frac{df}{db} \frac{d b(a, \varepsilon)}{da}$$

    Kingma and Welling (2014), section 2.4.

    Example:

    >>> Reparameterization().unbiased
    True
    """

    papers = ("kingma2014",)
    needs = (Continuous, Relaxed)

    def output(self, site: Site) -> tf.Tensor:
        return site.layer.as_output(site.draw)


@keras.saving.register_keras_serializable(package="tf_relax")
class Concrete(Pathwise):
    r"""Training on relaxed samples in the place of hard ones; biased.

    $$g = \nabla_a f(\mathrm{relax}(z, t))$$

    Maddison et al. (2016), equation 15, and Jang et al. (2016). The whole model, decoder included,
    trains on relaxed samples; the loss that `fit` shows is the relaxed one.

    Args:
        temperature: $t$; `None` takes the relaxation's, which suits surrogates: 0.1 for most.

    Raises:
        ValueError: for a temperature that is not positive.

    Example:

    >>> Concrete().unbiased
    False
    """

    papers = ("maddison2017", "jang2017")
    needs = (Discrete, Relaxed)

    unbiased = False
    relaxes_samples = True
    works_on_all_layers = True

    def __init__(self, temperature: float | None = 0.5):
        self.temperature = check_temperature("Concrete", temperature)

    def output(self, site: Site) -> tf.Tensor:
        y = site.layer.relaxation.pathwise(site.draw, temperature_of(site, self.temperature))
        return tf.cast(y, site.layer.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


@keras.saving.register_keras_serializable(package="tf_relax")
class StraightThrough(Pathwise):
    r"""Hard samples forward, the derivative of a stand-in backward; biased.

    $$g = \frac{df}{db} \frac{d y(a)}{da}$$

    Bengio et al. (2013), section 3.3, with

    - `"mean"`: $y = \mathbb{E}[b]$, for Bernoulli units $\sigma(a)$;
    - `"identity"`: $y = a$;
    - `"relaxed"`: $y = \mathrm{relax}(z, t)$.

    Args:
        backward: which stand-in to differentiate.
        temperature: $t$ of the relaxed one; `None` takes the relaxation's, 0.1 for most.

    Raises:
        ValueError: for an unknown stand-in.

    Example:

    >>> StraightThrough(backward="identity")
    StraightThrough(backward='identity')
    """

    papers = ("bengio2013",)
    unbiased = False

    def __init__(self, backward: str = "mean", temperature: float | None = None):
        if backward not in ("mean", "identity", "relaxed"):
            raise ValueError(
                "StraightThrough: `backward` must be 'mean', 'identity' or 'relaxed'. "
                f"Received: {backward!r}"
            )
        self.backward = backward
        need = KnownMean if backward == "mean" else Relaxed
        self.needs = (need, Relaxed, Discrete)
        self.temperature = check_temperature("StraightThrough", temperature)

    def output(self, site: Site) -> tf.Tensor:
        relaxation = site.layer.relaxation
        if self.backward == "mean":
            y = relaxation.mean(site.logits)
        elif self.backward == "identity":
            y = site.logits
            if y.shape.rank != site.b.shape.rank or y.shape[-1] != site.b.shape[-1]:
                raise ValueError(
                    f"{self} puts the logits in the place of the sample, and those of "
                    f"{type(site.layer).__name__} '{site.name}' differ in shape, {y.shape} and "
                    f"{site.b.shape}. Use backward='relaxed'."
                )
        else:
            y = relaxation.pathwise(site.draw, temperature_of(site, self.temperature))
        return straight_through(site, y)

    def get_config(self) -> dict[str, Any]:
        return {"backward": self.backward, "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="tf_relax")
class GumbelStraightThrough(Pathwise):
    r"""Hard samples forward, the derivative of the relaxed ones backward; biased.

    $$g = \frac{df}{db} \frac{d \, \mathrm{relax}(z, t)}{da}$$

    Straight-through Gumbel-softmax, Jang et al. (2016), section 2.2.

    Args:
        temperature: $t$; `None` takes the relaxation's, which suits surrogates: 0.1 for most.

    Raises:
        ValueError: for a temperature that is not positive.

    Example:

    >>> GumbelStraightThrough()
    GumbelStraightThrough()
    """

    papers = ("jang2017",)
    needs = (Discrete, Relaxed)

    unbiased = False

    def __init__(self, temperature: float | None = 1.0):
        self.temperature = check_temperature("GumbelStraightThrough", temperature)

    def output(self, site: Site) -> tf.Tensor:
        t = temperature_of(site, self.temperature)
        return straight_through(site, site.layer.relaxation.pathwise(site.draw, t))

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


@keras.saving.register_keras_serializable(package="tf_relax")
class ReinMax(Pathwise):
    r"""Straight-through that is exact to second order, by Heun's method; biased.

    $$g = \frac{df}{db}^T [2 J(m) - \frac{1}{2} J(p)]$$

    Liu et al. (2023), algorithm 2, with $p = \mathbb{E}[b]$,
    $m = (\mathrm{softmax}(a / t) + b) / 2$ and $J$ the derivative of a mean in its logits, for
    Bernoulli units $J(m) = m (1 - m)$. At $t = 1$ the bias is zero where $f$ is at most quadratic
    in each unit.

    Args:
        temperature: $t$, at least 1.

    Raises:
        ValueError: for a temperature below 1.

    Example:

    >>> ReinMax().unbiased
    False
    """

    papers = ("liu2023",)
    needs = (Discrete, KnownMean, Relaxed, MeanOfLogits)

    unbiased = False

    def __init__(self, temperature: float = 1.0):
        if not temperature >= 1:
            raise ValueError(f"ReinMax: `temperature` must be at least 1. Received: {temperature}")
        self.temperature = temperature

    def output(self, site: Site) -> tf.Tensor:
        relaxation, a = site.layer.relaxation, site.logits
        b = tf.cast(site.layer.as_output(site.draw), a.dtype)
        p, m = relaxation.mean(a), (relaxation.mean(a / self.temperature) + b) / 2
        p, m = tf.stop_gradient(p), tf.stop_gradient(m)
        # Zero, with the derivative of a; what is ruled out, by -inf, has none. (By way of a custom
        # gradient TensorFlow would keep every graph for good.)
        da = tf.where(tf.math.is_finite(a), a - tf.stop_gradient(a), tf.zeros_like(a))
        # J is symmetric, so that the derivative of J da is J^T.
        by_a = 2 * relaxation.mean_vjp(m, da) - relaxation.mean_vjp(p, da) / 2
        return tf.cast(b + by_a, site.layer.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}


def straight_through(site: Site, y: tf.Tensor) -> tf.Tensor:
    """Returns b with the derivative of y."""
    # b first: (b - y) + y would round b away from 0 and 1.
    return tf.cast(site.b + (y - tf.stop_gradient(y)), site.layer.compute_dtype)


def temperature_of(site: Site, temperature: float | None) -> tf.Tensor:
    """Returns a temperature, the relaxation's where none is given."""
    if temperature is None:
        temperature = site.layer.relaxation.initial_temperature or 1.0
    return tf.constant(temperature, site.z.dtype)
