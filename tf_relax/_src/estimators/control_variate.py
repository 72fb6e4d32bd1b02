"""RELAX and REBAR: score function and pathwise derivative of a control variate, balanced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import (
    Estimate,
    Pass,
    Passes,
    sampled,
)
from tf_relax._src.estimators.surrogate_value import (
    SurrogateUser,
    check_count,
    surrogate_and_derivative,
)
from tf_relax._src.relaxations import Conditional, Discrete
from tf_relax._src.sites import Site
from tf_relax._src.surrogates import Surrogate


class ControlVariate(SurrogateUser):
    r"""``g = [f(b) - c(z~)] d log p(b | a)/da + dc(z)/da - dc(z~)/da``, trained on its variance.

    Grathwohl et al. (2018), equation 8.

    Args:
        coupled: whether z~ shares its noise with (z, b) such that it equals z in value and differs
            only in its derivative. Every term depends on the marginal of z and on the joint
            distribution of (b, z~) alone, so this is as unbiased as an independent z~, and it
            needs one evaluation of ``c`` instead of two.
        num_samples: K samples (z_k, b_k), each with an evaluation of the objective. The estimate is
            their mean.
        coupling: how they depend on each other, see `SurrogateUser`. Independent ones hold
            ``f(b_k) - c(z~_k)`` against ``w`` times the mean of the others, ``w`` learned.
        num_conditional: M samples of ``z~ | b`` per sample, over which the terms in ``c`` are
            averaged. As z itself is one of ``z | b``, the coupled estimate averages over z and
            M - 1 others, or over M antithetic ones.
        surrogate: what ``c`` is made of; see `SurrogateUser`.
        temperature: initial temperature of `relax`; `None` takes the relaxation's.
        scale: initial factor of the objective at relaxed samples.
        learn_temperature: whether the temperature is learned.

    Raises:
        ValueError: for fewer than one sample of either kind.
    """

    needs = (Discrete, Conditional)

    def __init__(
        self,
        coupled: bool,
        num_samples: int,
        num_conditional: int,
        surrogate: str | Surrogate | None,
        temperature: float | None,
        scale: float,
        coupling: str,
        learn_temperature: bool,
    ):
        check_count(type(self).__name__, "num_conditional", num_conditional)
        self.num_conditional = num_conditional
        super().__init__(surrogate, temperature, scale, num_samples, coupling, learn_temperature)
        if not isinstance(coupled, bool):
            raise ValueError(
                f"{type(self).__name__}: `coupled` must be True or False. Received: {coupled!r}. "
                "Other arguments go by name, such as surrogate=..."
            )
        self.coupled = coupled
        # Coupled, z is one of the samples of z | b, unless those are to depend on each other.
        dependent = coupling == "antithetic" and num_conditional > 1
        self.z_is_one = coupled and not dependent
        self.num_z_tildes = num_conditional - self.z_is_one

    def estimate(self, passes: Passes) -> Estimate:
        signals: list[dict[Site, tf.Tensor]] = []
        pathwise: list[dict[Site, tf.Tensor]] = []
        for one in passes:
            signals.append({})
            pathwise.append({})
            for level in one.sites.levels():
                for site, c_tilde, path in self._terms(one, level):
                    signals[-1][site] = one.f - c_tilde
                    pathwise[-1][site] = path
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        # The same site of every pass.
        for sites in zip(*[one.sites for one in passes], strict=True):
            signal = self.against_others(sites, [signals[k][site] for k, site in enumerate(sites)])
            for k, site in enumerate(sites):
                g = rules.relax(*sampled(site), signal[k], pathwise[k][site])
                gradients[k].append(g / len(passes))
        return Estimate(gradients, surrogate_loss=rules.squared_gradient(gradients))

    def _terms(self, one: Pass, level: Sequence[Site]) -> list[tuple[Site, tf.Tensor, tf.Tensor]]:
        """Returns c(z~) and dc(z)/da - dc(z~)/da at the sites of a level, averaged over z~."""
        c_mean = [tf.zeros((1,), site.z.dtype) for site in level]
        path_mean = [tf.zeros_like(site.logits) for site in level]
        if self.coupled:
            # z = z~ in value, hence also c(z) = c(z~) and h(z) = h(z~).
            own = [[site.z] if self.z_is_one else [] for site in level]
            for m in range(self.num_conditional):
                z = [[*own[k], *site.z_tildes][m] for k, site in enumerate(level)]
                c, h = surrogate_and_derivative(one, level, z)
                for k, site in enumerate(level):
                    relaxation, a, draw = sampled(site)
                    c_mean[k] += c[k]
                    path_mean[k] += rules.coupled_path(relaxation, a, draw._replace(z=z[k]), h[k])
        else:
            _, h = surrogate_and_derivative(one, level, [site.z for site in level])
            for m in range(self.num_conditional):
                z_tilde = [site.z_tildes[m] for site in level]
                c, h_tilde = surrogate_and_derivative(one, level, z_tilde)
                for k, site in enumerate(level):
                    c_mean[k] += c[k]
                    path_mean[k] += rules.independent_path(
                        *sampled(site), z_tilde[k], h[k], h_tilde[k]
                    )
        count = self.num_conditional
        return [(site, c_mean[k] / count, path_mean[k] / count) for k, site in enumerate(level)]

    def get_config(self) -> dict[str, Any]:
        return {
            "coupled": self.coupled,
            "num_conditional": self.num_conditional,
            **super().get_config(),
        }


@keras.saving.register_keras_serializable(package="tf_relax")
class Relax(ControlVariate):
    r"""RELAX: a control variate learned on the variance of the gradient itself.

    $$g = [f(b) - c(\tilde z)] \nabla_a \log p(b \mid a) + \nabla_a c(z) - \nabla_a c(\tilde z)$$

    Grathwohl et al. (2018), equation 8, with $b = H(z)$ and $\tilde z \sim p(z \mid b, a)$. $c$ is
    by default the objective at relaxed inputs plus a network. Unbiased for every surrogate and
    every objective, black boxes included.

    Args:
        coupled: whether $\tilde z$ shares its noise with $(z, b)$. The coupled estimator evaluates
            the surrogate once instead of twice, at practically the same variance.
        num_samples: samples $(z, b)$ per step, of which the estimate is the mean.
        num_conditional: samples of $z \mid b$ per sample, over which $c$ is averaged. Each costs
            one evaluation of $c$ alone, and for bits most of the noise is theirs.
        surrogate: what $c$ is made of: `"sum"` (the objective at relaxed samples plus a network),
            `"objective"`, `"network"`, a `tf_relax.surrogates.Surrogate` or a Keras model of z. An
            object serves the first layer that it is used for, further ones get copies.
        temperature: initial temperature $t > 0$ of `relax(z, t)`, learned; `None` takes the
            relaxation's, 0.1 for most.
        scale: initial factor of the objective at relaxed samples; learned.
        coupling: `"antithetic"` samples, of both kinds, depend on each other negatively, which
            lowers the variance of their mean: two are made of noise and its reflection, more by
            rotation, $u + k/K$ modulo 1. `"independent"` ones are each the others' baseline, with a
            weight that is learned.
        learn_temperature: whether the temperature is learned. For that alone the objective is
            differentiated twice: a fixed one makes steps cheaper, and is as good where the initial
            one is.

    Raises:
        ValueError: for fewer than one sample of either kind, an unknown surrogate, and a
            temperature that is not positive.

    Example:

    >>> Relax(num_samples=2)
    Relax(num_samples=2)
    """

    papers = ("grathwohl2018",)

    def __init__(
        self,
        coupled: bool = True,
        num_samples: int = 1,
        num_conditional: int = 1,
        surrogate: str | Surrogate = "sum",
        temperature: float | None = None,
        scale: float = 1.0,
        coupling: str = "independent",
        learn_temperature: bool = True,
    ):
        super().__init__(
            coupled,
            num_samples,
            num_conditional,
            surrogate,
            temperature,
            scale,
            coupling,
            learn_temperature,
        )


@keras.saving.register_keras_serializable(package="tf_relax")
class Rebar(ControlVariate):
    r"""REBAR: RELAX with the objective at relaxed inputs as its only surrogate.

    $$c(z) = \eta f(\mathrm{relax}(z, t))$$

    Tucker et al. (2017), equation 7, with $\eta$ (`scale`) and the temperature $t$ learned on the
    variance of the gradient. Unbiased.

    Args:
        coupled: whether $\tilde z$ shares its noise with $(z, b)$, as in the paper.
        num_samples: samples $(z, b)$ per step, of which the estimate is the mean.
        num_conditional: samples of $z \mid b$ per sample, over which $c$ is averaged. Each costs
            one evaluation of $c$ alone, and for bits most of the noise is theirs.
        temperature: initial temperature $t > 0$ of `relax(z, t)`, learned; `None` takes the
            relaxation's, 0.1 for most.
        scale: initial $\eta$; learned.
        coupling: `"antithetic"` samples, of both kinds, depend on each other negatively, which
            lowers the variance of their mean: two are made of noise and its reflection, more by
            rotation, $u + k/K$ modulo 1. `"independent"` ones are each the others' baseline, with a
            weight that is learned.
        learn_temperature: whether the temperature is learned. For that alone the objective is
            differentiated twice: a fixed one makes steps cheaper, and is as good where the initial
            one is.

    Raises:
        ValueError: for fewer than one sample of either kind, and a temperature that is not
            positive.

    Example:

    >>> Rebar(coupled=False)
    Rebar(coupled=False)
    """

    papers = ("tucker2017",)
    needs_differentiable_objective = True

    def __init__(
        self,
        coupled: bool = True,
        num_samples: int = 1,
        num_conditional: int = 1,
        temperature: float | None = None,
        scale: float = 1.0,
        coupling: str = "independent",
        learn_temperature: bool = True,
    ):
        super().__init__(
            coupled,
            num_samples,
            num_conditional,
            None,
            temperature,
            scale,
            coupling,
            learn_temperature,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("surrogate")
        return config
