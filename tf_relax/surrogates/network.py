"""A dense network as a surrogate."""

from __future__ import annotations

import math
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
        # Two maps instead of one of the concatenation: the derivative in z, and its derivative in
        # the weights, then pass through the first of them alone.
        first, *rest = (*self.units, 1)
        self._from_z = self._dense(first, last=not rest)
        self._from_others = self._dense(first, last=not rest, use_bias=False)
        self._layers_above = [
            self._dense(size, last=k == len(rest) - 1) for k, size in enumerate(rest)
        ]

    def _dense(self, size: int, last: bool, **options: Any) -> keras.layers.Dense:
        # The bias of the last layer is the free intercept.
        kernel = "zeros" if last else "glorot_uniform"
        return keras.layers.Dense(
            size, kernel_initializer=kernel, dtype=self.dtype_policy, **options
        )

    def build(self, z_shape, logits_shape=None, context_shape=None):
        others = [shape for shape in (logits_shape, context_shape) if shape is not None]
        z_size, others_size = _size(z_shape), sum(_size(shape) for shape in others)
        if self._layers_above:
            # Both maps start as the two parts of one Glorot-uniform kernel would.
            limit = math.sqrt(6 / (z_size + others_size + self._from_z.units))
            for layer in (self._from_z, self._from_others):
                layer.kernel_initializer = keras.initializers.RandomUniform(-limit, limit)
        self._from_z.build((None, z_size))
        self._from_others.build((None, others_size))
        size = self._from_z.units
        for layer in self._layers_above:
            layer.build((None, size))
            size = layer.units

    def call(self, z: tf.Tensor, logits: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        others = [logits] if context is None else [logits, context]
        others = tf.concat([_flatten(x) for x in others], axis=-1)
        features = self._from_z(_flatten(z)) + self._from_others(others)
        for layer in self._layers_above:
            features = layer(self.activation(features))
        return features[:, 0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
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
