"""Small policies and values, for those who have none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.rl.world.environments import Environments


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class NormalParameters(keras.layers.Layer):
    """Means from the features, and standard deviations that are the same in every state.

    Args:
        units: number of action dimensions.
        log_scale: where the logarithms of the standard deviations start.

    Example:

    >>> import tensorflow as tf
    >>> NormalParameters(2)(tf.ones((4, 10))).shape
    TensorShape([4, 4])
    """

    def __init__(self, units: int, log_scale: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.initial_log_scale = units, log_scale
        self.mean = keras.layers.Dense(
            units,
            # Small: the first actions are of the size that `log_scale` says, in every state.
            kernel_initializer=keras.initializers.Orthogonal(0.01),
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        self.mean.build(input_shape)
        self.log_scale = self.add_weight(
            shape=(self.units,),
            initializer=keras.initializers.Constant(self.initial_log_scale),
            name="log_scale",
        )

    def call(self, features: tf.Tensor) -> tf.Tensor:
        mean = self.mean(features)
        log_scale = tf.cast(self.log_scale, mean.dtype)
        return tf.concat([mean, tf.broadcast_to(log_scale, tf.shape(mean))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 2 * self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "log_scale": self.initial_log_scale,
        }


def dense_policy(
    env: Any, units: Sequence[int] = (64, 64), activation: Any = "tanh", log_scale: float = 0.0
) -> keras.Sequential:
    """Returns a dense policy whose output fits the environment.

    Args:
        env: as `PolicyGradient` takes it.
        units: sizes of the hidden layers.
        activation: their activation.
        log_scale: of continuous actions, where the log standard deviation starts.

    Example:

    >>> policy = dense_policy("CartPole-v1", units=(10, 10), activation="relu")
    >>> policy.output_shape
    (None, 2)
    """
    environments = Environments(env, 1)
    space = environments.action_space
    if space.discrete:
        small = keras.initializers.Orthogonal(0.01)  # starts near the uniform policy
        last: Any = keras.layers.Dense(space.logits_size, kernel_initializer=small)
    else:
        last = NormalParameters(space.logits_size // 2, log_scale)
    policy = _dense(environments.observation_shape, units, activation, last, "policy")
    environments.close()
    return policy


def dense_value(
    observation_shape: Sequence[int], units: Sequence[int] = (64, 64), activation: Any = "tanh"
) -> keras.Sequential:
    """Returns a dense network from observations to one number, which starts at zero.

    Args:
        observation_shape: of one observation.
        units: sizes of the hidden layers.
        activation: their activation.

    Example:

    >>> dense_value((4,), units=(10, 10), activation="relu").output_shape
    (None, 1)
    """
    last = keras.layers.Dense(1, kernel_initializer="zeros")
    return _dense(observation_shape, units, activation, last, "value")


def _dense(
    shape: Sequence[int], units: Sequence[int], activation: Any, last: Any, name: str
) -> keras.Sequential:
    flat = [] if len(shape) == 1 else [keras.layers.Flatten()]
    hidden = [keras.layers.Dense(size, activation) for size in units]
    return keras.Sequential([keras.Input(tuple(shape)), *flat, *hidden, last], name=name)
