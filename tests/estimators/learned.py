"""Values that are not zero for everything that an estimator may have learned."""

from __future__ import annotations

import numpy as np

import tf_relax


def set_learned(model: tf_relax.RelaxModel, integers: bool = False, spread: float = 0.5) -> None:
    """Sets surrogates, factors, baselines and priors, always to the same values.

    Args:
        model: whose stochastic layers to set.
        integers: whether the surrogate network gets weights of +-1, as quadrature needs it.
        spread: standard deviation of the weights otherwise.
    """
    rng = np.random.default_rng(0)
    for layer in model.stochastic_layers:
        for variable in layer.surrogate.trainable_variables:
            shape = variable.shape
            value = rng.choice([-1, 1], shape) if integers else spread * rng.standard_normal(shape)
            variable.assign(value)
        for variable in layer.stein.trainable_variables:
            variable.assign(rng.standard_normal(variable.shape))
        layer.linear_scale.assign(-0.7)
        if layer.prior == "learned":
            layer._prior_variable.assign(rng.standard_normal(layer._prior_variable.shape))
    set_statistics(model)


def set_statistics(model: tf_relax.RelaxModel) -> None:
    """Sets the running statistics, which every step moves."""
    for layer in model.stochastic_layers:
        layer.baseline.assign(0.4)
        layer.baseline_variance.assign(2.25)
