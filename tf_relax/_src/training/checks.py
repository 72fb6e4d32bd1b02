"""What has to hold of a model, and of its recorded pass, for an estimate to mean anything."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import sublayers
from tf_relax._src.layers import ConditionalPrior
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.sites import Sites, ancestors, depends_on
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.objective import LossParts, mixes_examples
from tf_relax._src.training.passes import ModelPass


def check_layers(model: CompiledModel) -> None:
    layers = model.stochastic_layers
    model.estimator.check_layers(layers)
    for layer in layers:
        estimator = model.estimator.part(layer)
        estimator.check(layer)
        if estimator.needs_differentiable_objective and not layer.relaxable:
            raise ValueError(
                f"{estimator} differentiates the objective in the sample, and "
                f"{type(layer).__name__} '{layer.name}' returns indices. Let it return one-hot "
                "vectors, or use 'relax', whose surrogate network then stands alone."
            )
    if model.importance_samples is not None and not has_prior(model):
        raise ValueError(
            f"RelaxModel '{model.name}' is compiled with importance_samples="
            f"{model.importance_samples}, and has no prior: there is no likelihood to bound. "
            "Give its stochastic layers one, for example RelaxBernoulli(prior='learned')."
        )


def has_prior(model: CompiledModel) -> bool:
    """Returns whether the samples of any layer are held against a prior."""
    return any(
        isinstance(layer, ConditionalPrior) or getattr(layer, "prior", None) is not None
        for layer in sublayers(model)
    )


def check_deterministic(
    model: CompiledModel, state: list[tuple[keras.Variable, tf.Tensor]], first: ModelPass
) -> None:
    """Raises if anything but the stochastic layers draws random numbers."""
    # What a pass changes is weights (batch statistics) or seeds; metrics are not part of it.
    own = {id(layer.seed_generator.state) for layer in model.stochastic_layers}
    others = own | {id(v) for v in [*model.weights, *model.metrics_variables]}
    random = [variable.path for variable, _ in state if id(variable) not in others]
    known = all(site.b.shape[1:].is_fully_defined() for site in first.sites)
    if known and not tf.executing_eagerly():
        drawn = [site.layer.relaxation.outcome(site.draw) for site in first.sites]
        outcome = first.forced([np.zeros(b.shape[1:]) for b in drawn]).objective
        first.step.evaluations -= 1  # only looked at: nothing fetches it from the graph
        types = {operation.type for operation in ancestors([outcome])}
        random += sorted(name for name in types if "Random" in name)
    if random:
        raise ValueError(
            f"{model.estimator} needs a deterministic objective, and RelaxModel '{model.name}' "
            f"draws random numbers outside of its stochastic layers ({', '.join(random)}): remove "
            "dropout and noise, or use 'relax'."
        )
    if model.relaxable is not Relaxable.ALL:
        drawn = [site.layer.relaxation.outcome(site.draw) for site in first.sites]
        same = first.forced(drawn).objective
        check = tf.debugging.assert_near(
            first.objective,
            same,
            message=(
                f"{model.estimator} needs a deterministic objective, and the BlackBox loss of "
                f"RelaxModel '{model.name}' returned two values for the same samples."
            ),
        )
        with tf.control_dependencies([] if check is None else [check]):
            first.objective = tf.identity(first.objective)


def check_recorded(model: CompiledModel, sites: Sites) -> None:
    layers = model.stochastic_layers
    if not layers:
        raise ValueError(
            f"RelaxModel '{model.name}' has no stochastic layer, so there is no gradient to "
            "estimate. Add a tf_relax.layers.RelaxBernoulli, or use keras.Model."
        )
    recorded = {id(site.layer) for site in sites}
    for layer in layers:
        if id(layer) not in recorded:
            raise RuntimeError(
                f"{type(layer).__name__} '{layer.name}' was not recorded in the forward pass of "
                f"RelaxModel '{model.name}'. It was not called, or it was called inside a "
                "tf.function that had been traced before: remove the inner tf.function, or leave "
                "layers that are not used out of the model."
            )


def check_coupling(
    model: CompiledModel,
    sites: Sites,
    objective: LossParts,
    state: list[tuple[keras.Variable, tf.Tensor]],
    tape: tf.GradientTape,
) -> None:
    """Finds what per-example values cannot express: batch statistics and shared losses."""
    outputs: list[Any] = [site.output for site in sites]
    if tf.executing_eagerly():
        outputs = [output for output in outputs if output.dtype.is_floating]  # not indices

    def depends(target: tf.Tensor) -> bool:
        if tf.executing_eagerly():
            return any(g is not None for g in tape.gradient(target, outputs))
        return depends_on([target], outputs)

    if model.batch_coupled is None:
        # Weights that a forward pass moves are statistics of the batch; seeds and metrics are no
        # weights.
        weights = {id(weight) for weight in model.weights}
        statistics = any(depends(value) for v, value in state if id(v) in weights)
        sites.batch_coupled = statistics or mixes_examples(model.loss)
    else:
        sites.batch_coupled = model.batch_coupled
    if sites.batch_coupled:
        _check_separate(model, sites)
    synchronized = [
        layer.name for layer in sublayers(model) if getattr(layer, "synchronized", False) is True
    ]
    if (
        sites.batch_coupled
        and synchronized
        and tf.distribute.get_strategy().num_replicas_in_sync > 1
    ):
        raise ValueError(
            f"RelaxModel '{model.name}' shares batch statistics of samples among replicas "
            f"('{synchronized[0]}' has synchronized=True), so that the objective of one replica "
            "depends on samples of another, which its gradient does not see. Use "
            "synchronized=False."
        )
    for term in objective.shared:
        if depends(term):
            raise ValueError(
                f"RelaxModel '{model.name}': a scalar `add_loss` term depends on a stochastic "
                "sample. Its gradient cannot be estimated, as it says nothing about single "
                "examples: pass `add_loss` one value per example, divided by the batch size."
            )


def _check_separate(model: CompiledModel, sites: Sites) -> None:
    """Raises for estimators that are biased where examples depend on each other's samples."""
    for site in sites:
        part = model.estimator.part(site.layer)
        if part.needs_separate_examples:
            raise ValueError(
                f"{part} compares samples of one example, and batch statistics of samples of "
                f"{type(site.layer).__name__} '{site.name}' make the examples of RelaxModel "
                f"'{model.name}' depend on each other's. Use 'relax' or 'leave_one_out'."
            )
