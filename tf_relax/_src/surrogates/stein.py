"""The surrogate of the Stein-operator estimator."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_relax")
class Stein(keras.layers.Layer):
    r"""The objective near $y$ as another sample sees it.

    $$H(f(b_j), f'(b_j)^T (y - b_j))$$

    Shi et al. (2022): one small network, shared by all samples, units and examples, with two
    outputs $h$ and $g$, each with a factor that starts at zero.

    Args:
        units: size of the hidden layer.
    """

    def __init__(self, units: int = 100, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self._from_value = keras.layers.Dense(units, dtype=self.dtype_policy)
        self._from_slope = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy)
        self._outputs = keras.layers.Dense(2, dtype=self.dtype_policy)

    def build(self, value_shape: Any = None, slope_shape: Any = None) -> None:
        self.inner_scale = self.add_weight(shape=(), initializer="zeros", name="inner_scale")
        self.outer_scale = self.add_weight(shape=(), initializer="zeros", name="outer_scale")
        self._from_value.build((None, 1))
        self._from_slope.build((None, 1))
        self._outputs.build((None, self.units))

    def call(self, value: tf.Tensor, slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns h and g, shaped like `slope`, which `value` broadcasts against."""
        features = self._from_value(value[..., tf.newaxis])
        features += self._from_slope(slope[..., tf.newaxis])
        outputs = self._outputs(tf.nn.leaky_relu(features, 0.3))
        return outputs[..., 0], outputs[..., 1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
