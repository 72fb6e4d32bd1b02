"""A dense network as a surrogate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.surrogates.surrogate import Surrogate, check_sources


@keras.saving.register_keras_serializable(package="tf_relax")
class Network(Surrogate):
    r"""A dense network of $z$ and whatever it may look at, $c(z) = r_\rho(z, a, x)$.

    $r_\rho$ of Grathwohl et al. (2018), section 3.2. It never looks at the objective, so it serves
    black-box objectives. Its last layer starts at zero: before training it changes nothing.

    Args:
        units: sizes of the hidden layers.
        activation: their activation; any Keras activation with a useful derivative.
        looks_at: what the network is given besides z: any of `"logits"`, `"context"` (where the
            stochastic layer is called with one) and `"targets"`.
        targets_shape: shape of one example's targets, needed to look at them.

    Raises:
        ValueError: for other names in `looks_at`, and for `"targets"` without a shape.

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
        looks_at: Sequence[str] = ("logits", "context"),
        targets_shape: Sequence[int] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.units = tuple(units)
        self.activation = keras.activations.get(activation)
        self.looks_at = check_sources(f"Network '{self.name}'", looks_at)
        self.targets_shape = None if targets_shape is None else tuple(targets_shape)
        if "targets" in self.looks_at and targets_shape is None:
            raise ValueError(
                f"Network '{self.name}' looks at the targets, whose size it cannot know before "
                "training: pass `targets_shape`, for example targets_shape=(10,)."
            )
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

    def build(
        self,
        z_shape: Any,
        logits_shape: Any = None,
        context_shape: Any = None,
        targets_shape: Any = None,
    ) -> None:
        shapes = {"logits": logits_shape, "context": context_shape}
        if self.targets_shape is not None:
            shapes["targets"] = (None, *self.targets_shape)
        # Only layers that are called with a context have one.
        others = [shapes[name] for name in self.looks_at if shapes[name] is not None]
        z_size, others_size = _size(z_shape), sum(_size(shape) for shape in others)
        if self._layers_above:
            # Both maps start as the two parts of one Glorot-uniform kernel would.
            limit = math.sqrt(6 / (z_size + others_size + self._from_z.units))
            for layer in (self._from_z, self._from_others):
                layer.kernel_initializer = keras.initializers.RandomUniform(-limit, limit)
        self._from_z.build((None, z_size))
        if others:
            self._from_others.build((None, others_size))
        size = self._from_z.units
        for layer in self._layers_above:
            layer.build((None, size))
            size = layer.units

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        given = {"logits": logits, "context": context, "targets": targets}
        others = [_flatten(given[name]) for name in self.looks_at if given[name] is not None]
        if targets is not None and tuple(targets.shape[1:]) != self.targets_shape:
            raise ValueError(
                f"Network '{self.name}' was made for targets_shape={self.targets_shape}. Received "
                f"targets of shape {tuple(targets.shape[1:])} per example."
            )
        features = self._from_z(_flatten(z))
        if others:
            features += self._from_others(tf.concat(others, axis=-1))
        for layer in self._layers_above:
            features = layer(self.activation(features))
        return features[:, 0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": keras.activations.serialize(self.activation),
            "looks_at": list(self.looks_at),
            "targets_shape": self.targets_shape,
        }


def _size(shape: Any) -> int:
    size = 1
    for dimension in shape[1:]:
        if dimension is None:
            raise ValueError(
                "A surrogate network needs logits and a context of fixed size. Received shape "
                f"{tuple(shape)}: fix the size, or use Relax(surrogate='objective')."
            )
        size *= dimension
    return size


def _flatten(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], _size(x.shape)])
