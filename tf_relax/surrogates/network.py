"""A dense network as a surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax.surrogates.surrogate import Surrogate


@keras.saving.register_keras_serializable(package="tf_relax")
class Network(Surrogate):
    r"""A dense network of z, the logits and the context, ``c(z) = r_rho(z, a, x)``.

    ``r_rho`` of Grathwohl et al. (2018), section 3.2. It never looks at the objective, so it serves
    black-box objectives. Its last layer starts at zero: before training it changes nothing.

    Args:
        units: sizes of the hidden layers.
        activation: their activation; any Keras activation with a useful derivative.

    Example:

    >>> import tensorflow as tf
    >>> network = Network(units=(10,))
    >>> network(tf.ones((4, 3)), tf.ones((4, 3))).shape
    TensorShape([4])
    """

    def __init__(
        self,
        units: Sequence[int] = (200, 200),
        activation: Any = "relu",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.units = tuple(units)
        self.activation = keras.activations.get(activation)
        self._hidden = [
            keras.layers.Dense(size, activation=self.activation, dtype=self.dtype_policy)
            for size in self.units
        ]
        # The bias of this layer is the free intercept.
        self._output = keras.layers.Dense(1, kernel_initializer="zeros", dtype=self.dtype_policy)

    def build(self, z_shape, logits_shape=None, context_shape=None):
        shapes = [shape for shape in (z_shape, logits_shape, context_shape) if shape is not None]
        features = sum(_size(shape) for shape in shapes)
        for layer in [*self._hidden, self._output]:
            layer.build((None, features))
            features = layer.units

    def call(self, z: tf.Tensor, logits: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        inputs = [z, logits] if context is None else [z, logits, context]
        features = tf.concat([_flatten(x) for x in inputs], axis=-1)
        for layer in self._hidden:
            features = layer(features)
        return self._output(features)[:, 0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
        }


def _size(shape: Any) -> int:
    size = 1
    for dimension in shape[1:]:
        if dimension is None:
            raise ValueError(
                "A surrogate network needs logits and a context of fixed size. Received shape "
                f"{tuple(shape)}: fix the size, or use `surrogate='objective'`."
            )
        size *= dimension
    return size


def _flatten(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], _size(x.shape)])
