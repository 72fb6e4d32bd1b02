"""A Keras model whose stochastic layers train with a gradient estimator."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax import estimators
from tf_relax.compat import global_seed_state, loss_tracker, sublayers
from tf_relax.estimators import Estimate, Estimator
from tf_relax.layers import Stochastic
from tf_relax.losses import BlackBox
from tf_relax.sites import Record, Replay, Site, Sites, depends_on
from tf_relax.surrogates import is_surrogate_variable
from tf_relax.training.objective import Objective, check_losses, per_example_objective
from tf_relax.training.relax_optimizer import RelaxOptimizer
from tf_relax.training.styles import style_of, variant


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


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxModel(keras.Model):
    r"""A `keras.Model` that trains through stochastic layers.

    Built functionally, `RelaxModel(inputs, outputs)`, from a list of layers, `RelaxModel([...])`, or
    by subclassing. The forward pass is the ordinary one; `train_step` replaces the derivative of
    every hard sample with an estimate ``g`` of ``d E[f] / d logits`` and backpropagates
    ``mean f + sum <stop_gradient(g), logits>`` once through the deterministic weights.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> inputs = keras.Input((8,))
    >>> code = tf_relax.layers.RelaxBernoulli(prior="learned")(keras.layers.Dense(4)(inputs))
    >>> outputs = keras.layers.Dense(8)(code)
    >>> model = tf_relax.RelaxModel(inputs, outputs)
    >>> model.compile("adam", loss=tf_relax.losses.BernoulliNLL(), estimator="relax")
    >>> history = model.fit(np.ones((16, 8)), np.ones((16, 8)), verbose=0)
    """

    _style: type[keras.Model] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        style = style_of(args, kwargs)
        if style is not None and cls._style is None:
            return variant(cls, style).__new__(variant(cls, style))
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        style = style_of(args, kwargs)
        if style is None:
            super().__init__(*args, **kwargs)
            return
        if self._style is None:
            # A subclass with a constructor of its own that builds itself functionally.
            self.__class__ = variant(type(self), style)
        style.__init__(self, *args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RelaxModel:
        if cls._style is None and "layers" in config and "input_layers" not in config:
            return variant(cls, keras.Sequential).from_config(config, custom_objects)
        return super().from_config(config, custom_objects)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *args: Any,
        estimator: str | Estimator = "relax",
        batch_coupled: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: a `tf_relax.RelaxOptimizer`, or any Keras optimizer, which then gets a copy
                of itself for the surrogates.
            loss: any loss with per-example values.
            *args: further arguments of `keras.Model.compile`.
            estimator: gradient estimator, by name or as an object of `tf_relax.estimators`.
            batch_coupled: whether the samples of one example reach the objective of another, as
                they do through a BatchNormalization after a stochastic layer. An unbiased gradient
                must then hold every example accountable for the whole batch, at the price of a
                higher variance. `None` detects layers with batch statistics.
            **kwargs: further arguments of `keras.Model.compile`.

        Raises:
            ValueError: for an unknown estimator, and for losses that it cannot work with.
        """
        self.estimator = estimators.get(estimator)
        self.batch_coupled = batch_coupled
        losses = [keras_loss for keras_loss in keras.tree.flatten(loss) if keras_loss is not None]
        black_boxes = [keras_loss for keras_loss in losses if isinstance(keras_loss, BlackBox)]
        if black_boxes:
            name = black_boxes[0].name
            if self.estimator.needs_differentiable_objective:
                raise ValueError(
                    f"Estimator {self.estimator} differentiates the objective, and loss '{name}' "
                    "is a BlackBox. Use estimator='relax' (with a surrogate network) or 'reinforce'."
                )
            if kwargs.get("jit_compile") is True:
                raise ValueError(
                    f"Loss '{name}' is a BlackBox and runs NumPy code, which XLA cannot compile. "
                    "Use jit_compile=False."
                )
            kwargs["jit_compile"] = False
        self._relaxable = len(black_boxes) < len(losses) or not losses
        self._complete = not black_boxes
        self._losses_checked = False
        super().compile(_wrap(optimizer), loss, *args, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return {
            **config,
            "estimator": estimators.serialize(self.estimator),
            "batch_coupled": self.batch_coupled,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def stochastic_layers(self) -> list[Stochastic]:
        """All stochastic layers of the model, however deeply nested."""
        return [layer for layer in sublayers(self) if isinstance(layer, Stochastic)]

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        step = self.differentiate(x, y, sample_weight)
        self.optimizer.apply(step.gradients, step.variables)
        batch = tf.shape(keras.tree.flatten(x)[0])[0]
        loss_tracker(self).update_state(step.objective.loss, sample_weight=batch)
        return self.compute_metrics(x, y, step.y_pred, sample_weight=sample_weight)

    def differentiate(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        noise: Any = None,
        conditional_noise: Any = None,
    ) -> Differentiation:
        """Runs the model once in training mode and estimates the gradient of every variable.

        Nothing is applied but the state that a forward pass moves (seeds, batch statistics).

        Args:
            x: inputs.
            y: targets.
            sample_weight: weights of the examples, or `None`.
            noise: one tensor per site instead of fresh noise, in the order of the calls.
            conditional_noise: the same for z~, where the estimator draws it.

        Returns:
            A `Differentiation`.

        Raises:
            ValueError: if the model has no stochastic layer, or the loss no per-example values.
            RuntimeError: if a stochastic layer of the model was not recorded.
        """
        self._build_symbolically(x)
        estimator = self.estimator
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
        # dropout masks repeat, batch statistics do not. The recorded pass's changes come last.
        scope = keras.StatelessScope(collect_losses=True)
        with tape, scope, record as sites:
            y_pred = self._forward(x)
            self._check_losses(y, y_pred)
            objective = per_example_objective(self, x, y, y_pred, sample_weight)
        self._check_recorded(sites)
        state = self._new_state(scope)
        if estimator.unbiased:  # the others never claimed to see what these checks protect
            self._check_coupling(sites, objective, state, tape)
        dtype = sites[0].logits.dtype
        f = sites.signal(tf.stop_gradient(tf.cast(objective.f, dtype)))
        surrogate_variables = self._surrogate_variables()
        with tf.GradientTape(watch_accessed_variables=False) as surrogate_tape:
            surrogate_tape.watch([v.value for v in surrogate_variables])
            replay = _ModelReplay(self, sites, x, y, sample_weight)
            estimate = estimator.estimate(sites, f, replay)
        surrogate_gradients = self._surrogate_gradients(
            surrogate_tape, estimate.surrogate_loss, surrogate_variables
        )
        model_variables = [v for v in self.trainable_variables if not is_surrogate_variable(v)]
        model_gradients = self._model_gradients(tape, objective, sites, estimate, model_variables)
        for variable, value in state:
            variable.assign(value)
        return Differentiation(
            objective,
            y_pred,
            sites,
            estimate,
            [*model_variables, *surrogate_variables],
            [*model_gradients, *surrogate_gradients],
        )

    def _model_gradients(
        self,
        tape: tf.GradientTape,
        objective: Objective,
        sites: Sites,
        estimate: Estimate,
        variables: list[keras.Variable],
    ) -> list[tf.Tensor | None]:
        """Backpropagates mean f + sum <g, logits> once through the deterministic weights."""
        scale = self.optimizer.scale_loss(tf.ones((), objective.loss.dtype))
        targets, seeds = [objective.loss], [scale]
        if estimate.gradients is not None:
            for site, g in zip(sites, estimate.gradients, strict=True):
                batch = tf.cast(tf.shape(g)[0], g.dtype)
                targets.append(site.logits)
                seeds.append(tf.stop_gradient(g) * tf.cast(scale, g.dtype) / batch)
        return tape.gradient(targets, [v.value for v in variables], output_gradients=seeds)

    def _surrogate_variables(self) -> list[keras.Variable]:
        wanted = {
            id(variable)
            for layer in self.stochastic_layers
            for variable in self.estimator.surrogate_variables(layer, self._relaxable)
        }
        return [v for v in self.trainable_variables if id(v) in wanted]

    def _surrogate_gradients(
        self, tape: tf.GradientTape, loss: tf.Tensor | None, variables: list[keras.Variable]
    ) -> list[tf.Tensor]:
        if loss is None or not variables:
            return []
        gradients = tape.gradient(loss, [v.value for v in variables])
        for variable, gradient in zip(variables, gradients, strict=True):
            if gradient is None and self._complete:
                raise ValueError(
                    f"The surrogate variable '{variable.path}' has no gradient: the surrogate does "
                    "not use it, or an operation between it and the objective has no second "
                    "derivative (image resizing is one). Set trainable=False on it, or use "
                    "`surrogate='network'` in the layer."
                )
        scale = self.optimizer.scale_loss(tf.ones((), loss.dtype))
        return [None if g is None else g * tf.cast(scale, g.dtype) for g in gradients]

    def _build_symbolically(self, x: Any) -> None:
        # Replays need every variable to exist before the recorded pass starts.
        if all(layer.built for layer in [self, *sublayers(self)]):
            return
        symbolic = keras.tree.map_structure(
            lambda t: keras.KerasTensor(t.shape, keras.backend.standardize_dtype(t.dtype)), x
        )
        self._forward(symbolic)

    def _forward(self, x: Any) -> Any:
        if "training" in inspect.signature(self.call).parameters:
            return self(x, training=True)
        return self(x)

    def _check_losses(self, y: Any, y_pred: Any) -> None:
        if not self._losses_checked and self.loss is not None:
            check_losses(keras.tree.flatten(self.loss), y, y_pred)
        self._losses_checked = True

    def _new_state(self, scope: keras.StatelessScope) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns the variables that the recorded pass changed, with their new values."""
        variables = [*self.variables, *self.metrics_variables, global_seed_state()]
        values = ((v, scope.get_current_value(v)) for v in {id(v): v for v in variables}.values())
        return [(variable, value) for variable, value in values if value is not None]

    def _check_recorded(self, sites: Sites) -> None:
        layers = self.stochastic_layers
        if not layers:
            raise ValueError(
                f"RelaxModel '{self.name}' has no stochastic layer, so there is no gradient to "
                "estimate. Add a tf_relax.layers.RelaxBernoulli, or use keras.Model."
            )
        recorded = {id(site.layer) for site in sites}
        for layer in layers:
            if id(layer) not in recorded:
                raise RuntimeError(
                    f"{type(layer).__name__} '{layer.name}' was not recorded in the forward pass of "
                    f"RelaxModel '{self.name}'. It was not called, or it was called inside a "
                    "tf.function that had been traced before: remove the inner tf.function, or "
                    "leave layers that are not used out of the model."
                )

    def _check_coupling(
        self, sites: Sites, objective: Objective, state: Any, tape: tf.GradientTape
    ) -> None:
        """Finds what the per-example objective cannot express: batch statistics, shared losses."""
        outputs = [site.output for site in sites]

        def depends(target: tf.Tensor) -> bool:
            if tf.executing_eagerly():
                return any(g is not None for g in tape.gradient(target, outputs))
            return depends_on([target], outputs)

        if self.batch_coupled is None:
            # Weights that a forward pass moves are statistics of the batch; seeds and metrics are
            # no weights.
            weights = {id(weight) for weight in self.weights}
            statistics = [value for v, value in state if id(v) in weights]
            sites.batch_coupled = any(depends(value) for value in statistics)
        else:
            sites.batch_coupled = self.batch_coupled
        for term in objective.shared:
            if depends(term):
                raise ValueError(
                    f"RelaxModel '{self.name}': a scalar `add_loss` term depends on a stochastic "
                    "sample. Its gradient cannot be estimated, as it says nothing about single "
                    "examples: pass `add_loss` one value per example, divided by the batch size."
                )


class _ModelReplay:
    """The objective of a model as a function of the relaxed samples of one level of sites."""

    def __init__(self, model: RelaxModel, sites: Sites, x: Any, y: Any, sample_weight: Any):
        self.relaxable = model._relaxable
        self.complete = model._complete
        self._model = model
        self._sites = sites
        self._data = x, y, sample_weight

    def __call__(self, level: list[Site], z: list[tf.Tensor]) -> tf.Tensor:
        model, sites = self._model, self._sites
        x, y, sample_weight = self._data
        levels = sites.levels()
        before = [site for earlier in levels[: levels.index(level)] for site in earlier]
        with keras.StatelessScope(collect_losses=True), Replay(sites, before, level, z):
            y_pred = model._forward(x)
            objective = per_example_objective(model, x, y, y_pred, sample_weight)
        return sites.signal(tf.cast(objective.f, z[0].dtype))


def _wrap(optimizer: Any) -> Any:
    """Gives a plain optimizer a copy of itself for the surrogates."""
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.inner_optimizer = _wrap(optimizer.inner_optimizer)
        return optimizer
    if optimizer is None or isinstance(optimizer, RelaxOptimizer):
        return optimizer
    return RelaxOptimizer(optimizer, type(optimizer).from_config(optimizer.get_config()))
