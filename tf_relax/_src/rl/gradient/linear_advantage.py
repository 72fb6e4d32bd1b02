"""A surrogate of actions that is linear in them."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.surrogates import Surrogate


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class LinearAdvantage(Surrogate):
    r"""A surrogate that is linear in the action, with a dense network of the state.

    $$r(y, s) = \langle w(s), y \rangle + v(s)$$

    For one-hot actions that is every function of the action. Its mean over actions is known, which
    `PolicyRelax(trajectory_wise=True)` makes use of. Starts at zero.

    Args:
        units: sizes of the hidden layers.
        activation: their activation.

    Example:

    >>> import tensorflow as tf
    >>> advantage = LinearAdvantage(units=(10,))
    >>> advantage(tf.ones((4, 2)), context=tf.ones((4, 3))).shape
    TensorShape([4])
    """

    looks_at = ("context",)

    def __init__(
        self,
        units: Any = (64, 64),
        activation: Any = "tanh",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.units = tuple(units)
        self.activation = keras.activations.get(activation)
        self._hidden = [
            keras.layers.Dense(size, self.activation, dtype=self.dtype_policy) for size in units
        ]

    def build(
        self,
        z_shape: Any,
        logits_shape: Any = None,
        context_shape: Any = None,
        targets_shape: Any = None,
    ) -> None:
        size = 1
        for dimension in context_shape[1:]:
            size *= dimension
        for layer in self._hidden:
            layer.build((None, size))
            size = layer.units
        self._output = keras.layers.Dense(
            z_shape[-1] + 1, kernel_initializer="zeros", dtype=self.dtype_policy
        )
        self._output.build((None, size))

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        features = tf.reshape(context, [tf.shape(context)[0], -1])
        features = tf.ensure_shape(features, [None, self._hidden[0].kernel.shape[0]])
        for layer in self._hidden:
            features = layer(features)
        output = self._output(features)
        return tf.reduce_sum(output[:, :-1] * z, axis=-1) + output[:, -1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": keras.activations.serialize(self.activation),
        }
