"""What estimators need of the distribution of a layer, and what to use where it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_relax._src.relaxations import (
    Antithetic,
    BinaryUnits,
    Categorical,
    Conditional,
    Continuous,
    Counts,
    Discrete,
    Enumerable,
    KnownMean,
    MeanOfLogits,
    Rejection,
    Relaxed,
    Sticks,
)
from tf_relax._src.sites.layer import StochasticLayer

if TYPE_CHECKING:
    from tf_relax._src.estimators.estimator import Estimator

# What is said of a layer without it; `{other}` is the quietest unbiased estimator that it has.
_MISSING: dict[type, str] = {
    Discrete: "estimates gradients for discrete samples, and {layer} draws continuous ones. Use "
    "'lax', 'reparameterization' or 'reinforce'.",
    Continuous: "differentiates the sample itself, and {layer} draws discrete ones. Use {other}, "
    "or 'leave_one_out'.",
    BinaryUnits: "is defined for independent binary units, which {layer} does not draw. Use "
    "'relax' or 'leave_one_out' for other discrete layers, 'lax' or 'reinforce' for continuous "
    "ones.",
    Conditional: "draws z given b, which is not known for {layer}. Use {other} or 'leave_one_out'.",
    Relaxed: "needs a relaxed sample with a derivative, which {layer} does not have. Use "
    "'reinforce', 'leave_one_out' or 'nvil'.",
    Antithetic: "makes samples of noise that repels other noise, and that of {layer} has no known "
    "distribution to do so in. Use coupling='independent'.",
    KnownMean: "needs the mean of the samples, which is not known for {layer}. Use {other} or "
    "'leave_one_out'.",
    MeanOfLogits: "is defined for units and categories with logits of their own, which {layer} "
    "does not have. Use 'relax', or 'gumbel_straight_through'.",
    Rejection: "is for samples made by acceptance and rejection, and {layer} does not draw such. "
    "Use 'reinforce' or another estimator, or RelaxSample(..., sampler='rejection').",
    Categorical: "compares the categories of choices by Gumbel-argmax, and {layer} makes none. Use "
    "{other} or 'leave_one_out', or RelaxCategorical().",
    Sticks: "walks through a tree of binary choices, and {layer} does not draw by one. Use {other} "
    "or 'leave_one_out', or RelaxCategorical(method='stick_breaking').",
    Counts: "compares a count with a larger one, and {layer} does not draw counts. Use {other} or "
    "'leave_one_out'.",
    Enumerable: "enumerates all outcomes, and those of {layer} cannot be listed. Use 'relax' or "
    "'leave_one_out'.",
}


def check_needs(estimator: Estimator, layer: StochasticLayer) -> None:
    """Raises a ValueError that names both unless a layer has all that an estimator needs."""
    relaxation = layer.relaxation
    for need in estimator.needs:
        if isinstance(relaxation, need):
            continue
        other = "'reinforce'"
        if isinstance(relaxation, Relaxed):
            other = "'relax'" if isinstance(relaxation, Conditional) else "'dlax'"
        text = _MISSING.get(need, f"needs {need.__name__}, which {{layer}} does not offer.")
        label = f"{type(layer).__name__} '{layer.name}'"
        raise ValueError(f"{estimator} {text.format(layer=label, other=other)}")
