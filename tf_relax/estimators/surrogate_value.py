"""The value and the derivative of a surrogate, the objective at relaxed inputs included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf

from tf_relax.estimators.estimator import Pass
from tf_relax.sites import Site, ancestors, depends_on


class SurrogateUser(Protocol):
    """An estimator that says what its ``c`` is made of."""

    def uses_objective(self, layer: Any) -> bool:
        """Returns whether ``c`` contains ``scale f(relax(z, t))``."""
        ...

    def uses_network(self, layer: Any) -> bool:
        """Returns whether ``c`` contains the layer's ``r(z)``."""
        ...


def surrogate_and_derivative(
    user: SurrogateUser, one: Pass, level: Sequence[Site], z: Sequence[tf.Tensor]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns ``c(z) = scale f(relax(z, t)) + r(z)`` and dc/dz at the sites of one level.

    Args:
        user: says which of the two parts c has.
        one: the pass that the sites belong to.
        level: one of its levels.
        z: one tensor per site.
    """
    objective: tf.Tensor | None = None
    h_objective: list[tf.Tensor] = []
    if one.relaxable and any(_includes_objective(user, site) for site in level):
        objective, h_objective = _relaxed_objective(user, one, level, z)
    values, derivatives = [], []
    for k, site in enumerate(level):
        c, h = tf.zeros((1,), z[k].dtype), tf.zeros_like(z[k])
        if user.uses_network(site.layer):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z[k])
                r = site.layer.surrogate_value(z[k], site.logits, site.context, one.targets)
            check_blind(site, r)
            c += one.sites.signal(r)
            h += tape.gradient(r, z[k], unconnected_gradients="zero")
        if objective is not None and _includes_objective(user, site):
            c += site.layer.scale * objective
            h += site.layer.scale * h_objective[k]
        values.append(c)
        derivatives.append(h)
    return values, derivatives


def _includes_objective(user: SurrogateUser, site: Site) -> bool:
    return site.layer.relaxable and user.uses_objective(site.layer)


def _relaxed_objective(
    user: SurrogateUser, one: Pass, level: Sequence[Site], z: Sequence[tf.Tensor]
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
        used = _includes_objective(user, site)
        if used and derivatives[k] is not None:
            _check_second_derivative(site, derivatives[k])
        if derivatives[k] is None:
            if one.complete and used:
                raise ValueError(
                    f"The objective has no derivative with respect to the sample of "
                    f"{type(site.layer).__name__} '{site.name}', so it cannot serve as its "
                    "surrogate: the sample is not used, or passes an operation without a "
                    "derivative (rounding, casting to integers, argmax). Use "
                    "`surrogate='network'` in the layer, or estimator='reinforce'."
                )
            derivatives[k] = tf.zeros_like(z[k])
    return objective, derivatives


def check_surrogate(layer: Any, relaxable: bool) -> None:
    """Raises a ValueError for a surrogate that needs the objective where there is none to relax."""
    if layer.surrogate.needs_objective and not relaxable:
        raise ValueError(
            f"{type(layer).__name__} '{layer.name}' has the surrogate "
            f"{type(layer.surrogate).__name__}, which evaluates the objective at relaxed "
            "samples, and the objective is a BlackBox, or the samples are indices. Use "
            "`surrogate='network'` in the layer."
        )


def check_blind(site: Site, r: tf.Tensor) -> None:
    """Refuses a surrogate that sees the sample through anything but z."""
    if tf.executing_eagerly() or not depends_on([r], [site.output]):
        return
    raise ValueError(
        f"The surrogate {type(site.layer.surrogate).__name__} of {type(site.layer).__name__} "
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
            "or use `surrogate='network'` in the layer."
        )
