"""What a compiled model shows to a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras

from tf_relax._src.estimators import Estimator
from tf_relax._src.layers import Stochastic
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.training.estimator_state import EstimatorState


class CompiledModel(Protocol):
    """A `RelaxModel` that has been compiled.

    Attributes:
        name: its name.
        built: whether it has its variables.
        compiled: whether it is one.
        loss: that it was compiled with.
        layers: those that are not inside of others.
        optimizer: of the model and what its estimator learns, or `None`.
        weights: its own.
        variables: the same, and seeds.
        trainable_variables: those of them that train.
        trained_variables: those, and what its estimator learns.
        metrics_variables: of its metrics.
        stochastic_layers: however deeply nested.
        importance_samples: of the objective, or `None` for a mean over samples.
        batch_coupled: whether examples reach each other's objective; `None` to find out.
        jit_compile: whether XLA compiles its steps.
        run_eagerly: whether its steps are no graphs.
        distribute_strategy: that it was made under.
    """

    name: str
    built: bool
    compiled: bool
    loss: Any
    layers: list[keras.Layer]
    optimizer: Any
    weights: list[keras.Variable]
    variables: list[keras.Variable]
    trainable_variables: list[keras.Variable]
    metrics_variables: list[keras.Variable]
    importance_samples: int | None
    batch_coupled: bool | None
    jit_compile: Any
    run_eagerly: bool
    distribute_strategy: Any

    @property
    def stochastic_layers(self) -> Sequence[Stochastic]: ...

    @property
    def trained_variables(self) -> list[keras.Variable]: ...

    @property
    def estimator(self) -> Estimator:
        """The gradient estimator."""
        ...

    @property
    def estimator_state(self) -> EstimatorState:
        """What it has learned."""
        ...

    @property
    def relaxable(self) -> Relaxable:
        """How much of the objective can be evaluated at relaxed samples."""
        ...

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def using(self, estimator: Any, state: EstimatorState | None = None) -> Any:
        """Replaces the estimator inside a `with` block."""
        ...

    def differentiate(self, x: Any, y: Any = None) -> Any:
        """Estimates the gradient of every variable."""
        ...
