"""One recorded pass turned into gradients of every variable of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src.compat import sublayers
from tf_relax._src.estimators import Estimate, Passes
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.sites import Sites
from tf_relax._src.training.batch import as_dense, batch_size, symbolic
from tf_relax._src.training.checks import (
    check_coupling,
    check_deterministic,
    check_layers,
    check_recorded,
)
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.estimator_state import EstimatorState
from tf_relax._src.training.passes import ModelPass, Step, forward
from tf_relax._src.training.replicas import Replicas


class Differentiation(NamedTuple):
    r"""One step's worth of gradients.

    Attributes:
        loss: scalar, what Keras calls the loss.
        y_pred: outputs of the recorded pass.
        sites: the recorded pass itself.
        estimate: gradients with respect to the logits, and the loss of the surrogates.
        variables: the variables that are trained.
        gradients: their gradients, in the same order; `tf.IndexedSlices` where rows are looked up.
        logit_gradients: per site, the estimate of $\nabla_a \mathbb{E}[f_i]$ of every example, all
            passes and all parts of the objective included, shaped like the logits. They are those
            that the layer itself was given: what else is computed from the same tensor (the entropy
            in a `ConditionalPrior`) counts in the gradients of the variables alone.
        evaluations: how often the objective was evaluated, at hard and at relaxed samples.
    """

    loss: tf.Tensor
    y_pred: Any
    sites: Sites
    estimate: Estimate
    variables: list[keras.Variable]
    gradients: list[tf.Tensor | None]
    logit_gradients: list[tf.Tensor]
    evaluations: int


def differentiate(
    model: CompiledModel,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    noise: Any = None,
    conditional_noise: Any = None,
) -> Differentiation:
    """Runs a compiled `RelaxModel` once and estimates the gradient of every variable.

    The arguments are those of `RelaxModel.differentiate`.
    """
    if not model.compiled:
        raise ValueError(
            f"RelaxModel '{model.name}' is not compiled, so there is no objective and no estimator "
            "to differentiate with: call `compile(optimizer, loss=...)` first."
        )
    build_symbolically(model, x)
    step = Step(model, (x, y, sample_weight))
    return _written(step.replicas, *_estimated(step, noise, conditional_noise))


def differentiate_compiled(
    model: CompiledModel, x: Any, y: Any = None, sample_weight: Any = None
) -> Differentiation:
    """Does what `differentiate` does, in an XLA program of each replica of a strategy.

    XLA compiles for one device. So it is given what a replica computes by itself, which reads
    variables and writes none; what replicas add up, and what is written, stays around it. Sites,
    the estimate and the gradients in the logits remain inside of the program.
    """
    build_symbolically(model, x)
    replicas = Replicas(batch_size(x))
    traced: list[tuple[Differentiation, _Moved]] = []

    @tf.function(jit_compile=True, autograph=False)
    def program(*data: Any) -> Any:
        found, moved = _estimated(Step(model, data, replicas))
        traced.append((found, moved))
        return found.loss, found.y_pred, found.gradients, moved.values, moved.parts

    loss, y_pred, gradients, values, parts = program(x, y, sample_weight)
    found, moved = traced[0]
    found = found._replace(
        loss=loss, y_pred=y_pred, gradients=gradients, sites=Sites(), logit_gradients=[]
    )
    return _written(replicas, found, moved._replace(values=values, parts=parts))


class _Moved(NamedTuple):
    """What a step writes besides the weights that it trains.

    Attributes:
        variables: seeds and batch statistics.
        values: of them.
        averaged: variables that hold means over examples.
        parts: those means, over the examples of this replica.
    """

    variables: list[keras.Variable]
    values: list[tf.Tensor]
    averaged: list[keras.Variable]
    parts: list[tf.Tensor]


def _estimated(
    step: Step, noise: Any = None, conditional_noise: Any = None
) -> tuple[Differentiation, _Moved]:
    """Estimates gradients of the mean over the examples of a replica; changes nothing."""
    model, estimator = step.model, step.estimator
    check_layers(model)
    first = step.record(noise, conditional_noise)
    sites = first.sites
    check_recorded(model, sites)
    state = step.moved()
    if estimator.unbiased:  # the others never claimed to see what this protects
        check_coupling(model, sites, first.parts, state, step.tape)
    if estimator.needs_deterministic_objective:
        check_deterministic(model, state, first)
    passes = step.passes(first)

    # g = d E[f]/d logits, and the gradient of its variance in the surrogates.
    surrogate_variables = model.estimator_state.trainable_variables
    penalties = _Penalties(model.estimator_state)
    with tf.GradientTape(watch_accessed_variables=False) as surrogate_tape:
        surrogate_tape.watch([v.value for v in surrogate_variables])
        estimate = estimator.estimate(passes)
        surrogate_loss = penalties.added_to(estimate.surrogate_loss)
    surrogate_gradients = _surrogate_gradients(
        model, surrogate_tape, surrogate_loss, surrogate_variables
    )
    model.estimator_state.check_complete()
    model_variables = model.trainable_variables
    loss, model_gradients, logit_gradients = _model_gradients(
        first, passes, estimate, model_variables
    )
    found = Differentiation(
        loss=step.replicas.if_any(_nan_unless_finite(loss, estimate)),
        y_pred=first.y_pred,
        sites=sites,
        estimate=estimate,
        variables=[*model_variables, *surrogate_variables],
        gradients=[*model_gradients, *surrogate_gradients],
        logit_gradients=logit_gradients,
        evaluations=step.evaluations,
    )
    moved = _Moved(
        variables=[variable for variable, _ in state],
        values=[value for _, value in state],
        averaged=[variable for variable, _ in estimate.updates],
        parts=[value for _, value in estimate.updates],
    )
    return found, moved


def _written(replicas: Replicas, found: Differentiation, moved: _Moved) -> Differentiation:
    """Writes what the step moves; returns what this replica adds to the gradients of the batch."""
    gradients, values = _after_all(
        [replicas.share(g) for g in found.gradients],
        [*moved.values, *(replicas.mean(part) for part in moved.parts)],
    )
    for variable, value in zip([*moved.variables, *moved.averaged], values, strict=True):
        variable.assign(value)
    return found._replace(gradients=gradients)


def _nan_unless_finite(loss: tf.Tensor, estimate: Estimate) -> tf.Tensor:
    """Returns a loss that is NaN where the gradient is: what watches one may miss the other."""
    gradients = [g for one in estimate.gradients or () for g in one if g is not None]
    if not gradients:
        return loss
    finite = [tf.reduce_all(tf.math.is_finite(g)) for g in gradients]
    return tf.where(tf.reduce_all(finite), loss, tf.constant(float("nan"), loss.dtype))


def _after_all(
    gradients: list[tf.Tensor | None], values: list[tf.Tensor]
) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Returns what will be written, none of which exists before all gradients do.

    The replays read variables that the step writes. TensorFlow's graph optimizer can lose that
    order in the body of a loop (`steps_per_execution`), so it has to follow from the tensors.
    """
    with tf.control_dependencies([g for g in gradients if g is not None]):
        gradients = [None if g is None else tf.identity(g) for g in gradients]
        return gradients, [tf.identity(value) for value in values]


def build_symbolically(model: CompiledModel, x: Any) -> None:
    """Creates every variable of a model without running it."""
    # Replays need every variable to exist before the recorded pass starts.
    if all(layer.built for layer in [model, *sublayers(model)]):
        return
    forward(model, symbolic(x))


def _model_gradients(
    first: ModelPass, passes: Passes, estimate: Estimate, variables: list[keras.Variable]
) -> tuple[tf.Tensor, list[tf.Tensor | None], list[tf.Tensor]]:
    """Backpropagates mean f + sum <g, logits> once through the deterministic weights.

    Returns:
        The loss, its estimated gradients in the variables, and those in the logits of every site.
    """
    step, loss = first.step, first.parts.loss
    if len(passes) > 1 or estimate.objectives is not None:
        objectives = estimate.objectives or [(1.0, passes.objective)]
        with step.tape:
            means = [tf.reduce_mean(_as(f.dtype, w) * f) for w, f in objectives]
            loss = tf.add_n([tf.cast(term, loss.dtype) for term in [*means, *first.parts.shared]])
    scale = _loss_scale(step.model, loss.dtype)
    targets, seeds = [loss], [scale]
    sampled = passes if estimate.passes is None else estimate.passes
    if estimate.gradients is not None:
        for one, gradients in zip(sampled, estimate.gradients, strict=True):
            for site, g in zip(one.sites, gradients, strict=True):
                if g is None:
                    continue
                batch = tf.cast(tf.shape(g)[0], g.dtype)
                targets.append(site.logits)
                seeds.append(tf.stop_gradient(g) * tf.cast(scale, g.dtype) / batch)
    sources = [v.value for v in variables]
    # Passes share the logits of their first level: one gradient per tensor, not per pass.
    logits = list({id(site.logits): site.logits for one in sampled for site in one.sites}.values())
    gradients = step.tape.gradient(targets, [*sources, *logits], output_gradients=seeds)
    by_logits = dict(zip(map(id, logits), gradients[len(sources) :], strict=True))
    shares = zip(
        *[[by_logits[id(site.logits)] for site in one.sites] for one in sampled], strict=True
    )
    logit_gradients = []
    for site, share in zip(passes[0].sites, shares, strict=True):
        distinct = {id(g): g for g in share if g is not None}
        parts = [as_dense(g, site.logits) for g in distinct.values()]
        total = tf.add_n(parts) if parts else tf.zeros_like(site.logits)
        batch = tf.cast(tf.shape(total)[0], total.dtype)
        logit_gradients.append(total * batch / tf.cast(scale, total.dtype))
    return loss, gradients[: len(sources)], logit_gradients


def _as(dtype: tf.DType, weight: Any) -> tf.Tensor:
    # Not a cast: TensorFlow takes a Python number for a float32 first, and 1/3 stays what it was.
    return tf.cast(weight, dtype) if tf.is_tensor(weight) else tf.constant(weight, dtype)


def _surrogate_gradients(
    model: CompiledModel,
    tape: tf.GradientTape,
    loss: tf.Tensor | None,
    variables: list[keras.Variable],
) -> list[tf.Tensor | None]:
    if not variables:
        return []
    if loss is None:
        raise ValueError(
            f"{model.estimator} learns {[v.path for v in variables]} for RelaxModel "
            f"'{model.name}', and its estimate has no `surrogate_loss`, whose gradient trains them."
        )
    gradients = tape.gradient(loss, [v.value for v in variables])
    states = model.estimator_state.by_layer.values()
    of_objective = {
        id(getattr(state, name, None)) for state in states for name in ("log_temperature", "scale")
    }
    for variable, gradient in zip(variables, gradients, strict=True):
        if gradient is None and model.relaxable is Relaxable.ALL:
            reason = (
                "an operation between it and the objective has no second derivative. Use "
                "Relax(learn_temperature=False), or Relax(surrogate='network')."
                if id(variable) in of_objective
                else "the surrogate does not use it, or only through an operation without a "
                "second derivative. Remove the variable, or set trainable=False on it."
            )
            raise ValueError(
                f"The surrogate variable '{variable.path}' of model '{model.name}' has no "
                f"gradient: {reason}"
            )
    scale = _loss_scale(model, loss.dtype)
    pairs = zip(gradients, variables, strict=True)
    return [None if g is None else as_dense(g, v) * tf.cast(scale, g.dtype) for g, v in pairs]


class _Penalties:
    """What the layers inside of surrogates add to the loss: regularizers of weights and outputs.

    They belong to what trains the surrogates, ``Var(g)``. Outputs count as Keras has them count,
    those of the latest call.

    Args:
        state: what the estimator learns, before it is called.
    """

    def __init__(self, state: EstimatorState):
        self._state = state
        self._earlier = state.losses  # of other steps, if any

    def added_to(self, loss: tf.Tensor | None) -> tf.Tensor | None:
        """Returns the loss of the surrogates with what their layers added since."""
        earlier = {id(term) for term in self._earlier}
        new = [tf.reduce_sum(term) for term in self._state.losses if id(term) not in earlier]
        if loss is None or not new:
            return loss
        return tf.add_n([loss, *(tf.cast(term, loss.dtype) for term in new)])


def _loss_scale(model: CompiledModel, dtype: tf.DType) -> tf.Tensor:
    """Returns the factor by which the optimizer, if there is one, wants gradients to be larger."""
    one = tf.ones((), dtype)
    return one if model.optimizer is None else model.optimizer.scale_loss(one)
