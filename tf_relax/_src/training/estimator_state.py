"""What the estimator of a compiled model learns, layer by layer."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.estimators import Estimator
from tf_relax._src.layers import Stochastic
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.surrogates import mark_surrogate_variables

_SIGNATURE = "signature"


class EstimatorState(keras.layers.Layer):
    """The states of an estimator: temperatures, surrogates, baselines, one of each layer's own.

    A compiled model holds it as it holds its optimizer: it is no part of the model's weights, and
    is saved with them. Files of weights go from one estimator to another: a state that does not
    belong to this one is passed over.

    Example:

    >>> import keras, tf_relax
    >>> layers = [keras.layers.Dense(4), tf_relax.layers.RelaxBernoulli(name="code")]
    >>> model = tf_relax.RelaxModel([keras.Input((8,)), *layers])
    >>> model.compile("adam", loss="mse", estimator="relax")
    >>> state = model.estimator_state["code"]
    >>> round(float(state.temperature), 2), float(state.scale.value)
    (0.1, 1.0)
    """

    def __init__(self) -> None:
        super().__init__(name="estimator_state")
        self._hidden = _Hidden()
        self.built = True

    @property
    def by_layer(self) -> Mapping[keras.Layer, keras.Layer]:
        """The states by stochastic layer."""
        return types.MappingProxyType(self._hidden.states)  # Keras would look into a dict

    def __getitem__(self, name: str) -> keras.Layer:
        """Returns the state of the stochastic layer of a name."""
        for layer, state in self.by_layer.items():
            if layer.name == name:
                return state
        names = [layer.name for layer in self.by_layer]
        raise KeyError(f"There is a state for the layers {names}, and none for {name!r}.")

    def build_for(
        self, layers: Iterable[Stochastic], estimator: Estimator, relaxable: Relaxable
    ) -> None:
        """Makes the states of those built layers that have none yet.

        Args:
            layers: stochastic layers.
            estimator: says what it learns for each.
            relaxable: how much of the objective can be evaluated at relaxed samples.
        """
        for layer in layers:
            if layer in self.by_layer or not layer.built:
                continue
            of_layer = relaxable if layer.relaxable else Relaxable.NOTHING
            state = estimator.part(layer).build(layer, of_layer)
            if not state.built:
                state.build(None)
            mark_surrogate_variables(state.variables)
            self._hidden.states[layer] = state
            self._hidden.sizes[layer] = len(state.variables)

    def check_complete(self) -> None:
        """Raises a ValueError if a state has made variables since it was built."""
        for layer, state in self.by_layer.items():
            late = [v.path for v in state.variables[self._hidden.sizes[layer] :]]
            if late:
                raise ValueError(
                    f"{type(state).__name__}, the state of an estimator for "
                    f"{type(layer).__name__} '{layer.name}', made the variables {late} after it "
                    "was built, when nothing trains them any more. Make them in its `build`."
                )

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of the states, the states of seed generators among them."""
        return [v for state in self.by_layer.values() for v in state.variables]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the gradient of the surrogates trains, but for layers that are frozen."""
        return [
            v
            for layer, state in self.by_layer.items()
            if layer.trainable
            for v in state.trainable_variables
        ]

    @property
    def losses(self) -> list[tf.Tensor]:
        """What the layers inside of the states add to their loss."""
        return [term for state in self.by_layer.values() for term in state.losses]

    def _signatures(self) -> list[list[Any]]:
        """Returns, per layer, what tells whether saved values belong to it."""
        return [
            [type(state).__name__, [[v.name, list(v.shape)] for v in state.variables]]
            for state in self.by_layer.values()
        ]

    def save_own_variables(self, store: Any) -> None:
        text = json.dumps(self._signatures()).encode()
        store[_SIGNATURE] = np.frombuffer(text, np.uint8)
        for i, state in enumerate(self.by_layer.values()):
            for j, variable in enumerate(state.variables):
                store[f"{i}_{j}"] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        if _SIGNATURE not in store.keys():
            return  # weights of a model that was not compiled
        saved = json.loads(np.asarray(store[_SIGNATURE]).tobytes())
        states = list(self.by_layer.values())
        for i, own in enumerate(self._signatures()):
            if i < len(saved) and saved[i] == own:
                for j, variable in enumerate(states[i].variables):
                    variable.assign(store[f"{i}_{j}"])


class _Hidden:
    """Holds layers where Keras does not look for them: neither to track nor to save them."""

    def __init__(self) -> None:
        self.states: dict[Stochastic, keras.Layer] = {}
        self.sizes: dict[Stochastic, int] = {}
