"""What an estimator learns for one stochastic layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.surrogates import Surrogate


class State(keras.layers.Layer):
    """What an estimator learns for one stochastic layer: by itself, nothing.

    The gradient of the estimator's `surrogate_loss` trains all trainable variables of a state;
    others take the values of its `updates`.

    Args:
        layer: the stochastic layer, built.
    """

    def __init__(self, layer: StochasticLayer):
        # Not an attribute: Keras would take the layer for a part of the state.
        super().__init__(name=layer.name, dtype=layer.noise_dtype, autocast=False)

    def learned(self, name: str, value: float) -> keras.Variable:
        """Adds a trainable number."""
        return self._number(name, value, trainable=True)

    def statistic(self, name: str, value: float) -> keras.Variable:
        """Adds a number that no optimizer touches."""
        return self._number(name, value, trainable=False)

    def _number(self, name: str, value: float, trainable: bool) -> keras.Variable:
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            trainable=trainable,
            autocast=False,
            name=name,
        )


class SurrogateState(State):
    """The parts of ``c(z) = scale f(relax(z, t)) + r(z)``.

    Args:
        layer: the stochastic layer, built.
        surrogate: ``r``, or `None` for a ``c`` without.
        uses_objective: whether the objective at relaxed samples is part of ``c``.
        temperature: initial temperature t of `relax`; `None` takes the relaxation's.
        scale: initial factor of the objective.
        learn_temperature: whether the temperature is learned.
        baseline_weight: first weight of the other samples' mean; `None` for no such baseline.

    Attributes:
        surrogate: ``r`` or `None`.
        scale: factor of the objective at relaxed samples, or `None` where that is no part of ``c``.
        log_temperature: logarithm of t, so that t stays positive; `None` where there is none.
        baseline_weight: of the other samples' mean, `None` where there is none.
    """

    baseline_weight: keras.Variable | None = None
    scale: keras.Variable | None = None
    log_temperature: keras.Variable | None = None

    def __init__(
        self,
        layer: StochasticLayer,
        surrogate: Surrogate | None,
        uses_objective: bool,
        temperature: float | None,
        scale: float,
        learn_temperature: bool = True,
        baseline_weight: float | None = None,
    ):
        super().__init__(layer)
        self.surrogate = surrogate
        self._shapes = layer.shapes
        self._learn_temperature = learn_temperature
        self._initial_weight = baseline_weight
        self._initial_scale = scale if uses_objective else None
        initial = getattr(layer.relaxation, "initial_temperature", None)
        if temperature is not None and initial is not None:
            initial = temperature
        self._initial_temperature = initial if uses_objective else None

    def build(self, input_shape: Any = None) -> None:
        if self._initial_temperature is not None:
            adds = self.learned if self._learn_temperature else self.statistic
            self.log_temperature = adds("log_temperature", float(np.log(self._initial_temperature)))
        if self._initial_scale is not None:
            self.scale = self.learned("scale", self._initial_scale)
        if self._initial_weight is not None:
            self.baseline_weight = self.learned("baseline_weight", self._initial_weight)
        if self.surrogate is not None and not self.surrogate.built:
            self.surrogate.build(*self._shapes)

    @property
    def temperature(self) -> tf.Tensor | None:
        """Temperature t of `relax(z, t)`, or `None`."""
        return None if self.log_temperature is None else tf.exp(self.log_temperature.value)


class BaselineState(State):
    """What a baseline remembers of the objective, and the network that predicts it.

    Args:
        layer: the stochastic layer, built.
        surrogate: the network, or `None`.
        moments: how many running moments of the objective to keep: the mean, and the variance.

    Attributes:
        surrogate: the network or `None`.
        mean: running mean of the objective.
        variance: its running variance.
    """

    def __init__(
        self, layer: StochasticLayer, surrogate: Surrogate | None = None, moments: int = 0
    ):
        super().__init__(layer)
        self.surrogate = surrogate
        self._shapes = layer.shapes
        self._moments = moments

    def build(self, input_shape: Any = None) -> None:
        if self._moments > 0:
            self.mean = self.statistic("mean", 0.0)
        if self._moments > 1:
            self.variance = self.statistic("variance", 1.0)
        if self.surrogate is not None and not self.surrogate.built:
            self.surrogate.build(*self._shapes)
