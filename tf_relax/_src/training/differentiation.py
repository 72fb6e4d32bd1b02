"""One recorded pass turned into gradients of every variable of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import sublayers
from tf_relax._src.estimators import Estimate, Passes
from tf_relax._src.layers import ConditionalPrior
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.sites import Sites, ancestors, depends_on
from tf_relax._src.training.batch import as_dense, symbolic
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.estimator_state import EstimatorState
from tf_relax._src.training.objective import LossParts, mixes_examples
from tf_relax._src.training.passes import ModelPass, Step, forward


class Differentiation(NamedTuple):
    """One step's worth of gradients.

    Attributes:
        loss: scalar, what Keras calls the loss.
        y_pred: outputs of the recorded pass.
        sites: the recorded pass itself.
        estimate: gradients with respect to the logits, and the loss of the surrogates.
        variables: the variables that are trained.
        gradients: their gradients, in the same order; `tf.IndexedSlices` where rows are looked up.
        logit_gradients: per site, the estimate of ``d E[f_i] / d logits_i`` of every example, all
            passes and all parts of the objective included, shaped like the logits. They are those
            that the layer itself was given: what else is computed from the same tensor (the
            entropy in a `ConditionalPrior`) counts in the gradients of the variables alone.
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
    _check_layers(model)
    estimator = model.estimator
    step = Step(model, (x, y, sample_weight))
    first = step.record(noise, conditional_noise)
    sites = first.sites
    _check_recorded(model, sites)
    state = step.moved()
    if estimator.unbiased:  # the others never claimed to see what this protects
        _check_coupling(model, sites, first.parts, state, step.tape)
    if estimator.needs_deterministic_objective:
        _check_deterministic(model, state, first)
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
    loss = step.replicas.if_any(_nan_unless_finite(loss, estimate))
    state += [(variable, step.replicas.mean(value)) for variable, value in estimate.updates]
    gradients, values = _after_all(
        [step.replicas.share(g) for g in [*model_gradients, *surrogate_gradients]],
        [value for _, value in state],
    )
    for (variable, _), value in zip(state, values, strict=True):
        variable.assign(value)
    return Differentiation(
        loss=loss,
        y_pred=first.y_pred,
        sites=sites,
        estimate=estimate,
        variables=[*model_variables, *surrogate_variables],
        gradients=gradients,
        logit_gradients=logit_gradients,
        evaluations=step.evaluations,
    )


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
                "Relax(surrogate='network'), or set trainable=False on the variable."
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


def _check_layers(model: CompiledModel) -> None:
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


def _check_deterministic(
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


def _check_recorded(model: CompiledModel, sites: Sites) -> None:
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


def _check_coupling(
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
        sites.batch_coupled = statistics or mixes_examples(model)
    else:
        sites.batch_coupled = model.batch_coupled
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
