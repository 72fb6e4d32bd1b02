"""A Keras model whose stochastic layers train with a gradient estimator."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src import estimators
from tf_relax._src.compat import (
    bind_build,
    finish_clones,
    first_part,
    loss_tracker,
)
from tf_relax._src.estimators import Estimator
from tf_relax._src.losses import BlackBox
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.training.batch import batch_size
from tf_relax._src.training.choice import choose
from tf_relax._src.training.differentiation import (
    Differentiation,
    differentiate,
    differentiate_compiled,
)
from tf_relax._src.training.estimated import Estimated
from tf_relax._src.training.estimation import Estimation, check_objective
from tf_relax._src.training.estimator_state import EstimatorState
from tf_relax._src.training.export import export_saved_model
from tf_relax._src.training.relax_optimizer import RelaxOptimizer, paired
from tf_relax._src.training.replicas import as_logs, check_strategy, compiles_by_replica
from tf_relax._src.training.saved import Saved
from tf_relax._src.training.styles import style_of, variant


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxModel(Estimated, Saved):
    r"""A `keras.Model` that trains through stochastic layers.

    Built functionally, `RelaxModel(inputs, outputs)`, from a list of layers, `RelaxModel([...])`,
    or by subclassing. The forward pass is the ordinary one; `train_step` replaces the derivative of
    every hard sample with an estimate $g$ of $\nabla_a \mathbb{E}[f]$, $a$ the logits, and
    backpropagates

    $$\bar f + \sum \langle \mathrm{stop\_gradient}(g), a \rangle$$

    once through the deterministic weights, $\bar f$ being the mean of the objective.

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
    jit_compile: Any  # a property of Keras's

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # A subclass with a constructor of its own says in `__init__` what it is.
        own = cls.__init__ is not RelaxModel.__init__
        style = None if own else style_of(args, kwargs)
        if style is not None and cls._style is None:
            return super().__new__(variant(cls, style))
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        style = style_of(args, kwargs)
        if style is None:
            super().__init__(*args, **kwargs)
            return
        if self._style is None:
            # A subclass with a constructor of its own that builds itself functionally.
            self.__class__ = variant(type(self), style)
            bind_build(self)
        style.__init__(self, *args, **kwargs)

    def __reduce__(self) -> Any:
        # Pickle finds a class by its name, and by that name a variant is the class it varies.
        load, arguments = super().__reduce__()
        return getattr(RelaxModel, load.__name__), arguments

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
        estimator: str | Estimator | Mapping[str, str | Estimator] = "auto",
        importance_samples: int | None = None,
        batch_coupled: bool | None = None,
        **kwargs: Any,
    ) -> None:
        r"""Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: a `tf_relax.RelaxOptimizer`, or any Keras optimizer, which then gets a copy
                of itself for the surrogates. `None` for a model that is not trained.
            loss: any loss with per-example values.
            *args: further arguments of `keras.Model.compile`.
            estimator: gradient estimator, by name or as an object of `tf_relax.estimators`, or a
                mapping from the names of the stochastic layers to one for each. `"auto"` chooses by
                what the layers draw and whether the loss is differentiable, as soon as the model is
                built; `model.estimator` is the choice.
            importance_samples: K, to train on minus the importance-weighted bound with K samples,
                $-\log \frac{1}{K} \sum_k p(y, b_k) / q(b_k \mid x)$ (Burda et al. 2016, equation
                8), instead of minus the ELBO. The loss has to be a negative log-likelihood in nats,
                and a layer has to have a prior. `evaluate` still reports minus the ELBO.
            batch_coupled: whether the samples of one example reach the objective of another, as
                they do through a BatchNormalization after a stochastic layer. An unbiased gradient
                must then hold every example accountable for the whole batch, at the price of a
                higher variance. `None` detects layers with batch statistics, and
                `keras.losses.Circle`. `"auto"` chooses before anything has run and takes any weight
                that no gradient trains for such a statistic: `False` says that it is none, but a
                setting that a callback changes, say.
            **kwargs: further arguments of `keras.Model.compile`.

        Raises:
            ValueError: for an unknown estimator, for losses that it cannot work with, and under
                `tf.distribute.ParameterServerStrategy`.
        """
        check_strategy(self.name, self.distribute_strategy, kwargs.get("steps_per_execution"))
        losses = [keras_loss for keras_loss in keras.tree.flatten(loss) if keras_loss is not None]
        black_boxes = [keras_loss for keras_loss in losses if isinstance(keras_loss, BlackBox)]
        if black_boxes:
            if kwargs.get("jit_compile") is True:
                raise ValueError(
                    f"Loss '{black_boxes[0].name}' is a BlackBox and runs NumPy code, which XLA "
                    "cannot compile. Use jit_compile=False."
                )
            kwargs["jit_compile"] = False
        asked_for = estimators.get(estimator)
        chosen = choose(self, asked_for, loss, importance_samples, batch_coupled)
        check_objective(chosen, importance_samples, black_boxes)
        if self.stochastic_layers:
            chosen.check_layers(self.stochastic_layers)
        relaxable = Relaxable.of(loss)
        known = self._estimation
        state = EstimatorState()
        if known is not None and known.is_for(chosen, relaxable):
            state = known.state  # as it has been learned
        with self.distribute_strategy.scope():  # as Keras makes what it compiles
            state.build_for(self.stochastic_layers, chosen, relaxable)
            optimizer = paired(optimizer)
        super().compile(optimizer, loss, *args, **kwargs)
        self._compiles_by_replica = compiles_by_replica(self.distribute_strategy, self.jit_compile)
        if self._compiles_by_replica:
            self.jit_compile = False  # around the programs of the replicas
        self.importance_samples = importance_samples
        self.batch_coupled = batch_coupled
        self._estimate_with(Estimation(chosen, state, relaxable))
        pair = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if isinstance(pair, RelaxOptimizer):
            model = weakref.ref(self)  # an optimizer may outlive its model
            pair.also_train(lambda: _learned_by(model()))

    def get_state_tree(self, value_format: str = "backend_tensor", **kwargs: Any) -> dict[str, Any]:
        """Returns the variables as `keras.Model.get_state_tree` does, with `estimator_variables`.

        Args:
            value_format: `"backend_tensor"` or `"numpy_array"`, where Keras knows both.
            **kwargs: further arguments of Keras's.
        """
        if value_format != "backend_tensor":  # which old versions of Keras do not know
            kwargs["value_format"] = value_format
        tree = super().get_state_tree(**kwargs)
        state = self.estimator_state
        if state is not None:
            kind = np.asarray if value_format == "numpy_array" else tf.convert_to_tensor
            tree["estimator_variables"] = {
                str(k): kind(v.value) for k, v in enumerate(state.variables)
            }
        return tree

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Assigns what `get_state_tree` has returned."""
        rest = dict(state_tree)
        learned = rest.pop("estimator_variables", {})
        super().set_state_tree(rest)
        state = self.estimator_state
        variables = [] if state is None else state.variables
        for key, value in learned.items():
            variables[int(key)].assign(value)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if not self.compiled or self.estimator is None:
            return config
        return {
            **config,
            "estimator": estimators.serialize(self.estimator),
            "importance_samples": self.importance_samples,
            "batch_coupled": self.batch_coupled,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trained_variables)

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """The variables that a step updates: the model's own, and what its estimator learns."""
        state = self.estimator_state
        return [*self.trainable_variables, *([] if state is None else state.trainable_variables)]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras takes the mean of the parts of a batch for one, which are not always of one size,
        # and on several machines are none of one process.
        strategy = self.distribute_strategy
        if iterator is not None and strategy.num_replicas_in_sync > 1:
            iterator, data_batch = None, first_part(iterator, strategy)
        super()._maybe_symbolic_build(iterator, data_batch)

    def train_step(self, data: Any) -> dict[str, Any]:
        if self.optimizer is None:
            raise ValueError(
                f"RelaxModel '{self.name}' was compiled with optimizer=None, which leaves nothing "
                "to train it with. Compile it with an optimizer, for example 'adam'."
            )
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        run = differentiate_compiled if self._compiles_by_replica else type(self).differentiate
        step = run(self, x, y, sample_weight)
        if not step.variables:
            warnings.warn(
                f"RelaxModel '{self.name}' has no trainable weights, so nothing is trained.",
                stacklevel=2,
            )
        if not self.optimizer.built:
            self.optimizer.build(self.trained_variables)
        self.optimizer.apply(step.gradients, step.variables)
        loss_tracker(self).update_state(step.loss, sample_weight=batch_size(x))
        logs = self.compute_metrics(x, y, step.y_pred, sample_weight=sample_weight)
        return as_logs(logs)

    def test_step(self, data: Any) -> dict[str, Any]:
        return as_logs(super().test_step(data))

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: Any = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Exports the model as `keras.Model.export` does, and a SavedModel with four endpoints.

        `serve(inputs)` draws anew at every call and in every process; `seeded(inputs, seeds)` takes
        a seed for each example, an int64, and draws the same for it again, whatever the batch;
        `mode(inputs)` runs every stochastic layer at its mode; and `probabilities(inputs)` returns
        the mean of each layer's samples by its name, given the modes of those before it.

        Args:
            filepath: where to.
            format: `"tf_saved_model"`. Runtimes other than TensorFlow take
                `tf_relax.for_inference(model)`, a plain Keras model.
            verbose: as of `keras.Model.export`.
            input_signature: likewise.
            **kwargs: of other formats.

        Raises:
            ValueError: for another format, and for layers that run Python code.
            TypeError: for arguments of other formats.
        """
        if format != "tf_saved_model":
            raise ValueError(
                f"RelaxModel '{self.name}' is exported as 'tf_saved_model'. For {format!r} make a "
                f"plain Keras model of it: tf_relax.for_inference(model).export({filepath!r}, "
                f"format={format!r})."
            )
        if kwargs:
            raise TypeError(
                f"RelaxModel '{self.name}': `export` to a SavedModel has no {sorted(kwargs)}."
            )
        export_saved_model(self, filepath, verbose, input_signature)

    def differentiate(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        noise: Any = None,
        conditional_noise: Any = None,
    ) -> Differentiation:
        r"""Runs the model once in training mode and estimates the gradient of every variable.

        Nothing is applied but the state that a forward pass moves (seeds, batch statistics).

        Args:
            x: inputs.
            y: targets.
            sample_weight: weights of the examples, or `None`.
            noise: one tensor per site instead of fresh noise, in the order of the calls.
            conditional_noise: the same for $\tilde z$, where the estimator draws it.

        Returns:
            A `tf_relax.training.Differentiation`.

        Raises:
            ValueError: if the model has no stochastic layer, or the loss no per-example values.
            RuntimeError: if a stochastic layer of the model was not recorded.
        """
        return differentiate(self, x, y, sample_weight, noise, conditional_noise)


def _learned_by(model: RelaxModel | None) -> list[keras.Variable]:
    state = None if model is None else model.estimator_state
    return [] if state is None else state.trainable_variables


def _restore_class(model: RelaxModel, clone: keras.Model) -> None:
    # A constructor of one's own may set attributes that a clone does not have.
    own = type(model).__init__ is not RelaxModel.__init__
    varied = RelaxModel if own else type(model).__bases__[0]
    clone.__class__ = variant(varied, type(clone))


finish_clones(RelaxModel, _restore_class)
