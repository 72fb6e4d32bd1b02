"""One Keras optimizer that trains surrogates with their own optimizer."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from tf_relax._src import updates
from tf_relax._src.compat import moving_averages
from tf_relax._src.surrogates.variables import is_surrogate_variable


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxOptimizer(keras.optimizers.Optimizer):
    """Sends the surrogates' variables to one optimizer and all other variables to another.

    A variable belongs to a surrogate when `mark_surrogate_variables` has flagged it before the
    optimizer is built. Seen from outside (`learning_rate`, `iterations`, the learning-rate
    callbacks of Keras) the pair behaves like its main optimizer; the surrogate's is reached as
    `surrogate_optimizer`. For mixed precision wrap the pair in
    `keras.optimizers.LossScaleOptimizer`, as `compile` does by itself under `"mixed_float16"`.

    Args:
        optimizer: The main optimizer: anything `keras.optimizers.get` accepts, that is a name, a
            config dictionary or an optimizer.
        surrogate_optimizer: The optimizer of the surrogates' variables, likewise.
        name: Name of the pair.
        **kwargs: Not supported. Clipping, weight decay, moving averages, gradient accumulation
            and learning rates are set on the two optimizers.

    Raises:
        ValueError: If other arguments are given, if an optimizer cannot be interpreted, if one
            object is given for both, or if either is itself a `RelaxOptimizer`, a
            `LossScaleOptimizer` or has a `loss_scale_factor`.

    Example:

    >>> import keras
    >>> from tf_relax.surrogates import mark_surrogate_variables
    >>> from tf_relax import RelaxOptimizer
    >>> weight, phi = keras.Variable([1.0]), keras.Variable([1.0])
    >>> mark_surrogate_variables([phi])
    >>> optimizer = RelaxOptimizer(
    ...     keras.optimizers.SGD(0.25), surrogate_optimizer=keras.optimizers.SGD(0.5)
    ... )
    >>> optimizer.apply([keras.ops.ones(1), keras.ops.ones(1)], [weight, phi])
    >>> float(weight[0]), float(phi[0])
    (0.75, 0.5)
    """

    def __init__(
        self,
        optimizer: str | dict[str, Any] | keras.optimizers.Optimizer = "adam",
        surrogate_optimizer: str | dict[str, Any] | keras.optimizers.Optimizer = "adam",
        name: str = "relax_optimizer",
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise ValueError(
                f"RelaxOptimizer does not support the arguments {sorted(kwargs)}. Set them on "
                "the optimizers it combines, e.g. "
                "RelaxOptimizer(keras.optimizers.Adam(1e-3, clipnorm=1.0), "
                "surrogate_optimizer=keras.optimizers.Adam(1e-2))."
            )
        # The base class insists on a learning rate; this one is neither read nor saved.
        super().__init__(learning_rate=0.0, name=name)
        self._learned: Callable[[], Sequence[keras.Variable]] = lambda: ()
        self.optimizer = _resolve(optimizer, "optimizer")
        self.surrogate_optimizer = _resolve(surrogate_optimizer, "surrogate_optimizer")
        if self.optimizer is self.surrogate_optimizer:
            raise ValueError(
                "`optimizer` and `surrogate_optimizer` are the same object, but an optimizer "
                "cannot be shared: it keeps the state of one list of variables. Create two."
            )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the state of both optimizers, each for its share of `variables`.

        What the estimator of a model learns belongs to the model's training, and not to its
        weights: Keras, which builds optimizers with those, does not know of it.
        """
        if self.built:
            return
        known = {id(variable) for variable in variables}
        learned = self._learned()
        variables = [*variables, *(v for v in learned if id(v) not in known)]
        for optimizer, owns in self._pair():
            optimizer.build(list(filter(owns, variables)))
        super().build(variables)

    def also_train(self, learned: Callable[[], Sequence[keras.Variable]]) -> None:
        """Has the optimizer built with further variables than those that `build` is given.

        Args:
            learned: returns them, when the time comes.
        """
        self._learned = learned

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Updates variables with their gradients, each through its own optimizer.

        Args:
            grads: The gradients, in the order of the variables. As in Keras, `None` leaves a
                variable unchanged with a warning.
            trainable_variables: The variables to update: all (the default) or some of those the
                optimizer was built with. An optimizer that owns none of them makes no step. The
                first call builds the optimizer.

        Raises:
            ValueError: If there is not one gradient per variable, if all gradients are `None`,
                or if the optimizer was not built with a variable.
        """
        if len(grads) == 0:
            return
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        elif not self.built:
            self.build(list(trainable_variables))
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"Received {len(grads)} gradients for {len(trainable_variables)} variables. "
                "Without `trainable_variables` the optimizer must be built, and there must be "
                "one gradient for every variable it was built with."
            )
        if all(grad is None for grad in grads):
            raise ValueError("No gradients provided for any variable.")

        for optimizer, owns in self._pair():
            share = [(g, v) for g, v in zip(grads, trainable_variables, strict=True) if owns(v)]
            if any(grad is not None for grad, _ in share):
                updates.apply(optimizer, *zip(*share, strict=True))
            elif share:
                # Keras would raise here; but with one optimizer training, this is only odd.
                warnings.warn(
                    f"Gradients do not exist for any variable of the optimizer "
                    f"'{optimizer.name}', which makes no step: {[v.name for _, v in share]}.",
                    stacklevel=2,
                )

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, keras.Variable]]) -> Any:
        """Updates variables from (gradient, variable) pairs and returns `iterations`."""
        super().apply_gradients(grads_and_vars)
        return self.iterations

    @property
    def learning_rate(self) -> Any:
        """Learning rate of the main optimizer."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """Number of updates of the main optimizer."""
        return self.optimizer.iterations

    @property
    def variables(self) -> list[keras.Variable]:
        """State of the main optimizer, then that of the surrogate's."""
        return self.optimizer.variables + self.surrogate_optimizer.variables

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the values of `variables`."""
        split = len(self.optimizer.variables)
        self.optimizer.set_weights(weights[:split])
        self.surrogate_optimizer.set_weights(weights[split:])

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing: Keras visits both optimizers, and would save their state twice."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing: both optimizers load their own state."""

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Writes the moving averages of optimizers with `use_ema` into those of `var_list`."""
        # Keras matches averages and variables by position alone, so each optimizer has to be
        # given the very list that it was built with. Variables frozen since then are put back.
        wanted = {id(variable) for variable in var_list}
        frozen = [variable for variable in self._trainable_variables if id(variable) not in wanted]
        values = [keras.ops.copy(variable) for variable in frozen]
        for optimizer, owns in self._pair():
            if share := list(filter(owns, self._trainable_variables)):
                optimizer.finalize_variable_values(share)
        for variable, value in zip(frozen, values, strict=True):
            variable.assign(value)

    @property
    def _model_variables_moving_average(self) -> list[Any]:
        # What `keras.callbacks.SwapEMAWeights` exchanges with `_trainable_variables`. It asks for
        # an average of each: a variable without one gets a copy, and stays what it is.
        averages = moving_averages(self.optimizer) | moving_averages(self.surrogate_optimizer)
        if not averages:
            raise AttributeError("Neither optimizer has use_ema=True.")
        copies = {
            id(variable): keras.Variable(keras.ops.copy(variable), trainable=False)
            for variable in self._trainable_variables
            if id(variable) not in averages
        }
        return [(averages | copies)[id(variable)] for variable in self._trainable_variables]

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Excludes variables from the weight decay of whichever optimizer they belong to.

        Args:
            var_list: Variables to exclude.
            var_names: Words; a variable whose name contains one of them is excluded.
        """
        for optimizer, owns in self._pair():
            optimizer.exclude_from_weight_decay(list(filter(owns, var_list or [])), var_names)

    def get_config(self) -> dict[str, Any]:
        return {
            "optimizer": keras.optimizers.serialize(self.optimizer),
            "surrogate_optimizer": keras.optimizers.serialize(self.surrogate_optimizer),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> RelaxOptimizer:
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**config)

    def _pair(self) -> list[tuple[keras.optimizers.Optimizer, Callable[[Any], bool]]]:
        """Both optimizers, each with the test that tells its variables."""
        # Nothing here may be called `optimizers`: the learning-rate callbacks of Keras look for
        # that attribute, and would then drive the surrogate's learning rate too.
        return [
            (self.optimizer, lambda variable: not is_surrogate_variable(variable)),
            (self.surrogate_optimizer, is_surrogate_variable),
        ]


def _resolve(identifier: Any, argument: str) -> keras.optimizers.Optimizer:
    # Keras deserializes in place; the caller's dictionary stays as it was.
    optimizer = keras.optimizers.get(
        copy.deepcopy(identifier) if isinstance(identifier, dict) else identifier
    )
    if optimizer is None:
        raise ValueError(f"`{argument}` must be an optimizer, its name or its config; got None.")
    if isinstance(optimizer, RelaxOptimizer):
        raise ValueError(f"`{argument}` must not itself be a RelaxOptimizer.")
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if scaled or optimizer.loss_scale_factor is not None:
        raise ValueError(
            f"`{argument}` must not scale the loss, because both optimizers train on the same "
            "backward pass. Wrap the pair instead: "
            "keras.optimizers.LossScaleOptimizer(RelaxOptimizer(...))."
        )
    return optimizer


def paired(optimizer: Any) -> Any:
    """Gives a plain optimizer a copy of itself for the surrogates."""
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.inner_optimizer = paired(optimizer.inner_optimizer)
        return optimizer
    if optimizer is None or isinstance(optimizer, RelaxOptimizer):
        return optimizer
    # A name of its own keeps the paths of the copy's variables apart.
    config = {**optimizer.get_config(), "name": f"surrogate_{optimizer.name}"}
    return RelaxOptimizer(optimizer, type(optimizer).from_config(config))
