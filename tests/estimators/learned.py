"""Values that are not zero for everything that an estimator may have learned."""

from __future__ import annotations

import numpy as np

import tf_relax
from tf_relax.estimators import Estimator, PerLayer


def objective_and_network(*units: int) -> tf_relax.surrogates.Surrogate:
    """The objective plus a network with hidden layers of these sizes."""
    network = tf_relax.surrogates.Network(units, "tanh")
    return tf_relax.surrogates.Sum([tf_relax.surrogates.Objective(), network])


def taught(estimator: Estimator | str, surrogate=None, temperature=None, scale=1.0) -> Estimator:
    """An estimator with a surrogate, a temperature and a scale, where it learns such."""
    estimator = tf_relax.estimators.get(estimator)
    if isinstance(estimator, PerLayer):
        parts = estimator.estimators.items()
        return PerLayer({k: taught(part, surrogate, temperature, scale) for k, part in parts})
    config = estimator.get_config()
    if config.get("surrogate") is not None and surrogate is not None:
        config["surrogate"] = surrogate
    if "scale" in config:
        config |= {"temperature": temperature, "scale": scale}
    return type(estimator).from_config(config)


def set_learned(model: tf_relax.RelaxModel, integers: bool = False, spread: float = 0.5) -> None:
    """Sets surrogates, factors, baselines and priors, always to the same values.

    Args:
        model: a compiled model, whose stochastic layers to set.
        integers: whether the surrogate network gets weights of +-1, as quadrature needs it.
        spread: standard deviation of the weights otherwise.
    """
    rng = np.random.default_rng(0)
    for layer, state in model.estimator_state.by_layer.items():
        surrogate = getattr(state, "surrogate", None)
        for variable in [] if surrogate is None else surrogate.trainable_variables:
            shape = variable.shape
            value = rng.choice([-1, 1], shape) if integers else spread * rng.standard_normal(shape)
            variable.assign(value)
        if isinstance(state, tf_relax.surrogates.Stein):
            for variable in state.trainable_variables:
                variable.assign(rng.standard_normal(variable.shape))
        if getattr(state, "baseline_weight", None) is not None:
            state.baseline_weight.assign(0.8)
        if hasattr(state, "alpha"):
            state.alpha.assign(-0.7)
        if isinstance(layer.prior, str) and layer.prior == "learned":
            # By shape alone: every estimator sees the same prior.
            fixed = np.random.default_rng(1)
            layer._prior_variable.assign(fixed.standard_normal(layer._prior_variable.shape))
    set_statistics(model)


def set_statistics(model: tf_relax.RelaxModel) -> None:
    """Sets the running statistics, which every step moves."""
    for state in model.estimator_state.by_layer.values():
        if hasattr(state, "mean"):
            state.mean.assign(0.4)
        if hasattr(state, "variance"):
            state.variance.assign(2.25)
