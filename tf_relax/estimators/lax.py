"""LAX and DLAX: the control variate's own score function against its own pathwise derivative."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax.estimators.estimator import (
    Estimate,
    Estimator,
    Passes,
    require_continuous,
    require_relaxation,
    score,
    squared_gradient,
    times,
)
from tf_relax.estimators.surrogate_value import check_surrogate, surrogate_and_derivative


@keras.saving.register_keras_serializable(package="tf_relax")
class Dlax(Estimator):
    r"""``g = f(b) d log p(b|a)/da - c(z) d log p(z|a)/da + dc(z)/da``, unbiased.

    Grathwohl et al. (2018), equation 7: LAX for discrete b. It needs neither a sample of ``z | b``
    nor, in relaxations without a tractable ``p(b)``, its probability; where both exist,
    `Relax` has less variance. ``c`` is the surrogate of the layer.

    Example:

    >>> Dlax().unbiased
    True
    """

    def check(self, layer: Any) -> None:
        require_relaxation(self, layer)  # for continuous samples it is LAX

    def uses_objective(self, layer: Any) -> bool:
        """Returns whether ``c`` contains ``scale f(relax(z, t))``."""
        return layer.surrogate.uses_objective

    def uses_network(self, layer: Any) -> bool:
        """Returns whether ``c`` contains the layer's ``r(z)``."""
        return True

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        check_surrogate(layer, relaxable)
        scale = [layer.scale] if not layer.relaxation.discrete else layer.objective_variables
        objective = scale if relaxable and self.uses_objective(layer) else []
        return [*objective, *layer.surrogate.trainable_variables]

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = {}
        for level in one.sites.levels():
            c, h = surrogate_and_derivative(self, one, level, [site.z for site in level])
            for k, site in enumerate(level):
                relaxation, a, draw = site.layer.relaxation, site.logits, site.draw
                relaxed_score = relaxation.relaxed_score(a, draw)
                gradients[site] = times(one.f, score(site)) - times(c[k], relaxed_score)
                gradients[site] += relaxation.vjp(a, draw, h[k])
        g = [[gradients[site] for site in one.sites]]
        return Estimate(g, surrogate_loss=squared_gradient(g))


@keras.saving.register_keras_serializable(package="tf_relax")
class Lax(Dlax):
    r"""``g = [f(b) - c(b)] d log p(b|a)/da + dc(b)/da``, for continuous b; unbiased.

    Grathwohl et al. (2018), equation 6, with ``c`` the surrogate of the layer. With the objective
    in the surrogate and a scale of 1 it starts from the reparameterised gradient; with
    `surrogate="network"` it takes any black box.

    Example:

    >>> Lax().unbiased
    True
    """

    def check(self, layer: Any) -> None:
        require_continuous(self, layer)
