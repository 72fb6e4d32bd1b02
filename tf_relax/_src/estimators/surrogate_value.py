"""The value and the derivative of a surrogate, the objective at relaxed inputs included."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_relax._src import rules, surrogates
from tf_relax._src.estimators.citations import noted
from tf_relax._src.estimators.estimator import Estimator, Pass
from tf_relax._src.estimators.state import SurrogateState
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.numbers import is_finite_number
from tf_relax._src.relaxations import Antithetic, Law
from tf_relax._src.sites import Site, ancestors, depends_on
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.surrogates import Surrogate


class SurrogateUser(Estimator):
    """Base of the estimators with a control variate ``c(z) = scale f(relax(z, t)) + r(z)``.

    Args:
        surrogate: says whether the objective is part of ``c``, and what ``r`` is: a
            `tf_relax.surrogates.Surrogate`, its name or a Keras model of z. An object serves the
            first layer that it is used for, further ones get copies. `None` is the objective alone.
        temperature: initial temperature t > 0 of `relax`, learned; `None` takes the relaxation's.
        scale: initial factor of the objective at relaxed samples; learned.
        num_samples: K samples, each with an evaluation of the objective and of ``c``. The estimate
            is their mean.
        coupling: `"independent"` samples are each the others' baseline, with a learned weight.
            `"antithetic"` ones depend on each other negatively, which lowers the variance of their
            mean; each summand is unbiased by itself, as it needs nothing but the distribution of
            its own sample. Baselines made of dependent samples would not be.
        learn_temperature: whether the temperature is learned, for which alone the objective is
            differentiated twice.

    Raises:
        ValueError: for an unknown surrogate or coupling, a temperature that is not positive and
            finite, fewer than one sample, and a single sample that is to be antithetic.
    """

    # What the others' mean is held against: what is left of f, or f itself.
    takes_surrogate_off_first = True
    num_conditional = 1

    def __init__(
        self,
        surrogate: str | Surrogate | None = "sum",
        temperature: float | None = None,
        scale: float = 1.0,
        num_samples: int = 1,
        coupling: str = "independent",
        learn_temperature: bool = True,
    ):
        self.surrogate = surrogate if surrogate is None else surrogates.checked(surrogate)
        self.temperature = check_temperature(type(self).__name__, temperature)
        if not is_finite_number(scale):
            raise ValueError(
                f"{type(self).__name__}: `scale` must be a finite number. Received: {scale!r}"
            )
        self.scale = scale
        check_count(type(self).__name__, "num_samples", num_samples)
        check_coupling(type(self).__name__, coupling, num_samples * self.num_conditional)
        self.num_samples = self.num_passes = self.num_noises = num_samples
        self.coupling = coupling
        if not isinstance(learn_temperature, bool):
            raise ValueError(
                f"{type(self).__name__}: `learn_temperature` must be True or False. Received: "
                f"{learn_temperature!r}. The temperature itself is `temperature`."
            )
        self.learn_temperature = learn_temperature
        if coupling == "antithetic":
            self.needs = (*self.needs, Antithetic)

    def couple(
        self, layer: StochasticLayer, noises: list[tf.Tensor], logits: tf.Tensor
    ) -> list[tf.Tensor]:
        return self.couple_conditional(layer, noises)

    def couple_conditional(
        self, layer: StochasticLayer, noises: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        if self.coupling == "independent":
            return noises
        law: Law = layer.relaxation.law
        return law.antithetic(noises)

    def against_others(
        self, sites: Sequence[Site], signals: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns what multiplies the scores of the samples, of which none may depend on others.

        Args:
            sites: the same site of every pass.
            signals: ``f(b_k) - c(z~_k)``, or what else there is of each.
        """
        weight = sites[0].state.baseline_weight
        if weight is None:
            return list(signals)
        others = rules.mean_of_others(signals)
        return [own - weight * rest for own, rest in zip(signals, others, strict=True)]

    def _baseline_weight(self, uses_objective: bool, relaxable: Relaxable) -> float | None:
        """Returns the first weight of the others' mean; none for samples without a baseline."""
        if self.num_samples == 1 or self.coupling == "antithetic":
            return None
        # The objective at relaxed samples leaves little of f: the others would add their noise. But
        # of a black box beside it, all is left.
        whole = uses_objective and relaxable is not Relaxable.PART
        return 0.0 if whole and self.takes_surrogate_off_first else 1.0

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> SurrogateState:
        if self.surrogate is None:
            return self._state(layer, None, True, relaxable)
        surrogate = surrogates.for_layer(self.surrogate, layer)
        if surrogate.needs_objective and not relaxable:
            raise ValueError(
                f"{self} has a surrogate, {type(surrogate).__name__}, which evaluates the "
                f"objective at relaxed samples. For {type(layer).__name__} '{layer.name}' there is "
                "none: the objective is a BlackBox, or the samples are indices. Use "
                f"{type(self).__name__}(surrogate='network')."
            )
        uses_objective = surrogate.uses_objective and bool(relaxable)
        return self._state(layer, surrogate, uses_objective, relaxable)

    def _state(
        self,
        layer: StochasticLayer,
        surrogate: Surrogate | None,
        uses_objective: bool,
        relaxable: Relaxable,
    ) -> SurrogateState:
        return SurrogateState(
            layer,
            surrogate,
            uses_objective,
            self.temperature,
            self.scale,
            self.learn_temperature,
            self._baseline_weight(uses_objective, relaxable),
        )

    def cited(self) -> dict[str, str]:
        entries = super().cited()
        if self.coupling == "independent" or not entries:
            return entries
        return noted(entries, "The antithetic coupling of its samples is that of tf\\_relax")

    def get_config(self) -> dict[str, Any]:
        return {
            "surrogate": surrogates.serialize(self.surrogate),
            "temperature": self.temperature,
            "scale": self.scale,
            "num_samples": self.num_samples,
            "coupling": self.coupling,
            "learn_temperature": self.learn_temperature,
        }


def check_count(owner: str, argument: str, value: int) -> None:
    """Raises a ValueError unless there is at least one."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{owner}: `{argument}` must be at least 1 (a whole number). Received: {value}"
        )


def check_coupling(owner: str, coupling: str, num_samples: int) -> None:
    """Raises a ValueError for an unknown coupling, and for one sample that is to have another."""
    if coupling not in ("antithetic", "independent"):
        raise ValueError(
            f"{owner}: `coupling` must be 'antithetic' or 'independent'. Received: {coupling!r}"
        )
    if coupling == "antithetic" and num_samples == 1:
        raise ValueError(
            f"{owner}: coupling='antithetic' makes samples depend on each other, and num_samples=1 "
            "makes one. Use num_samples=2 or more, with Relax and Rebar also num_conditional=2, or "
            "coupling='independent'."
        )


def check_temperature(owner: str, temperature: float | None) -> float | None:
    """Raises a ValueError unless a temperature is positive and finite, or `None`."""
    if temperature is not None and not (is_finite_number(temperature) and temperature > 0):
        raise ValueError(
            f"{owner}: `temperature` must be finite and above 0. Received: {temperature!r}"
        )
    return temperature


def surrogate_and_derivative(
    one: Pass, level: Sequence[Site], z: Sequence[tf.Tensor]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns ``c(z) = scale f(relax(z, t)) + r(z)`` and dc/dz at the sites of one level.

    Args:
        one: the pass that the sites belong to.
        level: one of its levels.
        z: one tensor per site.
    """
    objective: tf.Tensor | None = None
    h_objective: list[tf.Tensor] = []
    if one.relaxable is not Relaxable.NOTHING and any(_includes_objective(site) for site in level):
        objective, h_objective = _relaxed_objective(one, level, z)
    values, derivatives = [], []
    for k, site in enumerate(level):
        c, h = tf.zeros((1,), z[k].dtype), tf.zeros_like(z[k])
        if site.state.surrogate is not None:
            network = functools.partial(network_value, site, targets=one.targets)
            r, dr = rules.value_and_derivative(network, z[k])
            check_blind(site, r)
            c += one.sites.signal(r)
            h += dr
        if objective is not None and _includes_objective(site):
            c += site.state.scale * objective
            h += site.state.scale * h_objective[k]
        values.append(c)
        derivatives.append(h)
    return values, derivatives


def _includes_objective(site: Site) -> bool:
    return site.state.scale is not None


def network_value(site: Site, z: tf.Tensor, targets: tf.Tensor | None) -> tf.Tensor:
    """Returns ``r(z)``, `[batch]`, from z and what the surrogate declares to look at."""
    surrogate, shown = site.state.surrogate, site.layer.relaxation.shown
    z, logits = shown(site.logits, z), shown(site.logits, site.logits)
    given = {"logits": logits, "context": site.context, "targets": targets}
    if "targets" in surrogate.looks_at and targets is None:
        raise ValueError(
            f"The surrogate of {type(site.layer).__name__} '{site.name}' looks at the targets, and "
            "this step has none that are a single tensor. Pass `y` to `fit`, or leave 'targets' "
            "out of `looks_at`."
        )
    return surrogate(z, **{name: given[name] for name in surrogate.looks_at})


def _learns_a_temperature(one: Pass) -> bool:
    temperatures = [getattr(site.state, "log_temperature", None) for site in one.sites]
    return any(each is not None and each.trainable for each in temperatures)


def _relaxed_objective(
    one: Pass, level: Sequence[Site], z: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns f(relax(z, t)) and its derivative in z; the sites of a level share one replay.

    Sites whose surrogate is their network alone are relaxed with the others, but nobody asks for
    their derivative, which need not exist.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        objective = one.relaxed(level, z)
    derivatives = tape.gradient(objective, z)
    for k, site in enumerate(level):
        used = _includes_objective(site)
        if used and derivatives[k] is not None and _learns_a_temperature(one):
            _check_second_derivative(site, derivatives[k])
        if derivatives[k] is None:
            if one.relaxable is Relaxable.ALL and used:
                raise ValueError(
                    f"The objective has no derivative with respect to the sample of "
                    f"{type(site.layer).__name__} '{site.name}', so it cannot serve as its "
                    "surrogate: the sample is not used, or passes an operation without a "
                    "derivative (rounding, casting to integers, argmax). Use "
                    "Relax(surrogate='network'), or estimator='reinforce'."
                )
            derivatives[k] = tf.zeros_like(z[k])
    return objective, derivatives


def check_blind(site: Site, r: tf.Tensor) -> None:
    """Refuses a surrogate that sees the sample through anything but z."""
    if tf.executing_eagerly() or not depends_on([r], [site.output]):
        return
    raise ValueError(
        f"The surrogate {type(site.state.surrogate).__name__} of {type(site.layer).__name__} "
        f"'{site.name}' looks at the sample of that layer, or at something that the sample causes "
        "(outputs, losses, later samples). The gradient would be biased: it may look at z, and at "
        "what exists before the sample does, which it is given by `looks_at`."
    )


# Derivatives of image resizing, which TensorFlow does not differentiate again, and does not say so.
_DIFFERENTIABLE_ONCE = {"ResizeBilinearGrad", "ResizeBicubicGrad", "ScaleAndTranslateGrad"}


def _check_second_derivative(site: Site, derivative: tf.Tensor) -> None:
    if tf.executing_eagerly():
        return  # there is no graph to look at
    types = {operation.type for operation in ancestors([derivative])} & _DIFFERENTIABLE_ONCE
    if types:
        raise ValueError(
            f"The objective passes through an operation without a second derivative "
            f"({', '.join(sorted(types))}) after {type(site.layer).__name__} '{site.name}': its "
            "temperature would learn from a wrong gradient. Resize with interpolation='nearest', "
            "or use Relax(learn_temperature=False)."
        )
