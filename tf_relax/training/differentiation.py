"""One recorded pass turned into gradients of every variable of a model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax.compat import global_seed_state, sublayers
from tf_relax.estimators import Estimate
from tf_relax.sites import Record, Replay, Site, Sites, depends_on
from tf_relax.surrogates import is_surrogate_variable
from tf_relax.training.objective import Objective, per_example_objective


class Differentiation(NamedTuple):
    """One step's worth of gradients.

    Attributes:
        objective: loss and per-example objective of the recorded pass.
        y_pred: outputs of the recorded pass.
        sites: the recorded pass itself.
        estimate: gradients with respect to the logits, and the loss of the surrogates.
        variables: the variables that are trained.
        gradients: their gradients, in the same order.
    """

    objective: Objective
    y_pred: Any
    sites: Sites
    estimate: Estimate
    variables: list[keras.Variable]
    gradients: list[tf.Tensor | None]


def differentiate(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    noise: Any = None,
    conditional_noise: Any = None,
) -> Differentiation:
    """Runs a compiled `RelaxModel` once and estimates the gradient of every variable.

    The arguments are those of `RelaxModel.differentiate`.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        # Keras gives every replica the same seeds, so their samples would be copies.
        raise RuntimeError(
            f"RelaxModel '{model.name}' does not train on {replicas} replicas yet. Train it "
            "outside of the distribution strategy."
        )
    _build_symbolically(model, x)
    estimator = model.estimator
    tape = tf.GradientTape(persistent=tf.executing_eagerly())

    def output(site: Site) -> tf.Tensor:
        sample = estimator.output(site)
        tape.watch(sample)  # only to ask what depends on it
        return sample

    record = Record(
        output=output,
        conditional=estimator.needs_conditional,
        noise=noise,
        conditional_noise=conditional_noise,
        relaxed=estimator.relaxes_samples,
        always_samples=True,
    )
    # Both the recorded pass and its replays start from the same state and change none of it:
    # dropout masks repeat, batch statistics do not. What the recorded pass changed comes last.
    scope = keras.StatelessScope(collect_losses=True)
    with tape, scope, record as sites:
        y_pred = _forward(model, x)
        objective = per_example_objective(model, x, y, y_pred, sample_weight)
    _check_recorded(model, sites)
    state = _new_state(model, scope)
    if estimator.unbiased:  # the others never claimed to see what this protects
        _check_coupling(model, sites, objective, state, tape)

    # g = d E[f]/d logits, and the gradient of its variance in the surrogates.
    f = sites.signal(tf.stop_gradient(tf.cast(objective.f, sites[0].logits.dtype)))
    surrogate_variables = _surrogate_variables(model)
    with tf.GradientTape(watch_accessed_variables=False) as surrogate_tape:
        surrogate_tape.watch([v.value for v in surrogate_variables])
        replay = _ModelReplay(model, sites, x, y, sample_weight)
        estimate = estimator.estimate(sites, f, replay)
    surrogate_gradients = _surrogate_gradients(
        model, surrogate_tape, estimate.surrogate_loss, surrogate_variables
    )
    model_variables = [v for v in model.trainable_variables if not is_surrogate_variable(v)]
    model_gradients = _model_gradients(model, tape, objective, sites, estimate, model_variables)
    state += estimate.updates
    gradients, values = _after_all(
        [*model_gradients, *surrogate_gradients], [value for _, value in state]
    )
    for (variable, _), value in zip(state, values, strict=True):
        variable.assign(value)
    variables = [*model_variables, *surrogate_variables]
    return Differentiation(objective, y_pred, sites, estimate, variables, gradients)


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


class _ModelReplay:
    """The objective of a model as a function of the relaxed samples of one level of sites."""

    def __init__(self, model: Any, sites: Sites, x: Any, y: Any, sample_weight: Any):
        self.relaxable = model.relaxable
        self.complete = model.complete
        self._model = model
        self._sites = sites
        self._data = x, y, sample_weight

    def __call__(self, level: Sequence[Site], z: Sequence[tf.Tensor]) -> tf.Tensor:
        x, y, sample_weight = self._data
        with keras.StatelessScope(collect_losses=True), Replay(self._sites, level, z):
            y_pred = _forward(self._model, x)
            objective = per_example_objective(self._model, x, y, y_pred, sample_weight)
        return self._sites.signal(tf.cast(objective.f, z[0].dtype))


def _forward(model: Any, x: Any) -> Any:
    if "training" in inspect.signature(model.call).parameters:
        return model(x, training=True)
    return model(x)


def _build_symbolically(model: Any, x: Any) -> None:
    # Replays need every variable to exist before the recorded pass starts.
    if all(layer.built for layer in [model, *sublayers(model)]):
        return
    symbolic = keras.tree.map_structure(
        lambda t: keras.KerasTensor(t.shape, keras.backend.standardize_dtype(t.dtype)), x
    )
    _forward(model, symbolic)


def _model_gradients(
    model: Any,
    tape: tf.GradientTape,
    objective: Objective,
    sites: Sites,
    estimate: Estimate,
    variables: list[keras.Variable],
) -> list[tf.Tensor | None]:
    """Backpropagates mean f + sum <g, logits> once through the deterministic weights."""
    scale = model.optimizer.scale_loss(tf.ones((), objective.loss.dtype))
    targets, seeds = [objective.loss], [scale]
    if estimate.gradients is not None:
        for site, g in zip(sites, estimate.gradients, strict=True):
            batch = tf.cast(tf.shape(g)[0], g.dtype)
            targets.append(site.logits)
            seeds.append(tf.stop_gradient(g) * tf.cast(scale, g.dtype) / batch)
    return tape.gradient(targets, [v.value for v in variables], output_gradients=seeds)


def _surrogate_variables(model: Any) -> list[keras.Variable]:
    wanted = {
        id(variable)
        for layer in model.stochastic_layers
        for variable in model.estimator.surrogate_variables(layer, model.relaxable)
    }
    return [v for v in model.trainable_variables if id(v) in wanted]


def _surrogate_gradients(
    model: Any, tape: tf.GradientTape, loss: tf.Tensor | None, variables: list[keras.Variable]
) -> list[tf.Tensor | None]:
    if loss is None or not variables:
        return []
    gradients = tape.gradient(loss, [v.value for v in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        if gradient is None and model.complete:
            raise ValueError(
                f"The surrogate variable '{variable.path}' of model '{model.name}' has no "
                "gradient: the surrogate does not use it, or an operation between it and the "
                "objective has no second derivative. Remove the variable, set trainable=False on "
                "it, or use `surrogate='network'` in the layer."
            )
    scale = model.optimizer.scale_loss(tf.ones((), loss.dtype))
    return [None if g is None else g * tf.cast(scale, g.dtype) for g in gradients]


def _new_state(model: Any, scope: keras.StatelessScope) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Returns the variables that the recorded pass changed, with their new values."""
    variables = [*model.variables, *model.metrics_variables, global_seed_state()]
    values = ((v, scope.get_current_value(v)) for v in {id(v): v for v in variables}.values())
    return [(variable, value) for variable, value in values if value is not None]


def _check_recorded(model: Any, sites: Sites) -> None:
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
    model: Any,
    sites: Sites,
    objective: Objective,
    state: list[tuple[keras.Variable, tf.Tensor]],
    tape: tf.GradientTape,
) -> None:
    """Finds what per-example values cannot express: batch statistics and shared losses."""
    outputs = [site.output for site in sites]

    def depends(target: tf.Tensor) -> bool:
        if tf.executing_eagerly():
            return any(g is not None for g in tape.gradient(target, outputs))
        return depends_on([target], outputs)

    if model.batch_coupled is None:
        # Weights that a forward pass moves are statistics of the batch; seeds and metrics are no
        # weights.
        weights = {id(weight) for weight in model.weights}
        sites.batch_coupled = any(depends(value) for v, value in state if id(v) in weights)
    else:
        sites.batch_coupled = model.batch_coupled
    for term in objective.shared:
        if depends(term):
            raise ValueError(
                f"RelaxModel '{model.name}': a scalar `add_loss` term depends on a stochastic "
                "sample. Its gradient cannot be estimated, as it says nothing about single "
                "examples: pass `add_loss` one value per example, divided by the batch size."
            )
