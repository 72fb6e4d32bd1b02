"""Small policies and values, for those who have none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
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
    last = actions_layer(environments, log_scale)
    policy = _dense(environments.observation_shape, units, activation, last, "policy")
    environments.close()
    return policy


def actions_layer(environments: Environments, log_scale: float) -> keras.Layer:
    """Returns the last layer of a policy."""
    space = environments.action_space
    if not space.discrete:
        return NormalParameters(space.logits_size // 2, log_scale)
    small = keras.initializers.Orthogonal(0.01)  # starts near the uniform policy
    return keras.layers.Dense(space.logits_size, kernel_initializer=small)


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


def convolutional_torso(
    observation_shape: Sequence[int],
    filters: Sequence[tuple[int, int, int]] = ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    units: Sequence[int] = (512,),
    scale: float = 1 / 255,
) -> keras.Sequential:
    """Returns a convolutional network from images to features, that of Mnih et al. (2015).

    Args:
        observation_shape: height, width and channels of one image.
        filters: of every convolution their number, their width and the stride.
        units: sizes of the dense layers after them.
        scale: that pixels are multiplied by.

    Raises:
        ValueError: for observations that are no images.

    Example:

    >>> convolutional_torso((84, 84, 4)).output_shape
    (None, 512)
    """
    shape = tuple(observation_shape)
    if len(shape) != 3:
        raise ValueError(
            "A convolutional torso takes images, [height, width, channels]. Observations have "
            f"shape {shape}: use dense layers, or gymnasium.wrappers.ReshapeObservation."
        )
    layers: list[keras.Layer] = [keras.Input(shape), keras.layers.Rescaling(scale)]
    for number, width, stride in filters:
        # Padded, so that images smaller than those of Atari games go through as well.
        layers.append(keras.layers.Conv2D(number, width, stride, "same", activation="relu"))
    layers.append(keras.layers.Flatten())
    layers += [keras.layers.Dense(size, "relu") for size in units]
    return keras.Sequential(layers, name="torso")


def actor_critic(
    env: Any, torso: keras.Model | None = None, log_scale: float = 0.0
) -> tuple[keras.Model, keras.Model]:
    """Returns a policy and a value that share all but their last layers.

    The shared layers move with the policy's optimizer, which descends `value_weight` times the
    error of the value as well.

    Args:
        env: as `PolicyGradient` takes it.
        torso: from observations to features; `None` is `convolutional_torso` for images of integers
            and two dense layers of 64 units for all else.
        log_scale: of continuous actions, where the log standard deviation starts.

    Example:

    >>> policy, value = actor_critic("CartPole-v1")
    >>> policy.output_shape, value.output_shape
    ((None, 2), (None, 1))
    """
    environments = Environments(env, 1)
    shape = environments.observation_shape
    if torso is None:
        pixels = environments.vector.single_observation_space.dtype == np.uint8
        if pixels and len(shape) == 3:
            torso = convolutional_torso(shape)
        else:
            flat = [] if len(shape) == 1 else [keras.layers.Flatten()]
            hidden = [keras.layers.Dense(64, "tanh") for _ in range(2)]
            torso = keras.Sequential([keras.Input(shape), *flat, *hidden], name="torso")
    observations = keras.Input(shape)
    features = torso(observations)
    last = keras.layers.Dense(1, kernel_initializer="zeros")
    policy = keras.Model(
        observations, actions_layer(environments, log_scale)(features), name="policy"
    )
    value = keras.Model(observations, last(features), name="value")
    environments.close()
    return policy, value
