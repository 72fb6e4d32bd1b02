"""How noisy the policy gradient is while it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl.gradient.slopes import flatten


class GradientMoments(keras.layers.Layer):
    r"""Log-variance of the gradient of one update, from averages over the latest updates.

    With ``m`` and ``s`` averages of ``g`` and ``|g|^2`` whose weights sum to 1 and the squares of
    whose weights sum to ``w``, ``|m|^2`` holds the share ``w`` of the variance of one gradient, so
    ``tr Cov g = (s - |m|^2) / (1 - w)``, unbiased while nothing changes.

    Args:
        policy: variables that the gradient belongs to.
        decay: ``d``; 0.98 averages over some fifty updates.
    """

    def __init__(self, policy: Sequence[keras.Variable], decay: float = 0.98):
        super().__init__(name="gradient_moments")
        self.decay = decay
        size = sum(int(tf.size(variable)) for variable in policy)
        options = {"initializer": "zeros", "trainable": False}
        self.mean = self.add_weight(shape=(size,), name="mean", **options)
        self.square = self.add_weight(shape=(), name="square", **options)
        self.weight = self.add_weight(shape=(), name="weight", **options)
        self.square_weight = self.add_weight(shape=(), name="square_weight", **options)

    def fits(self, policy: Sequence[keras.Variable]) -> bool:
        """Returns whether these are as many numbers as it was made for."""
        return self.mean.shape[0] == sum(int(tf.size(variable)) for variable in policy)

    def update(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        """Takes in a gradient; returns the logarithm of the total variance, in nats."""
        g, keep = flatten(list(gradients)), self.decay
        new = 1 - keep
        self.weight.assign(keep * self.weight.value + new)
        self.square_weight.assign(keep**2 * self.square_weight.value + new**2)
        self.mean.assign(keep * self.mean.value + new * g)
        self.square.assign(keep * self.square.value + new * tf.reduce_sum(tf.square(g)))
        # The weights so far sum to less than 1.
        total = self.weight.value
        spread = self.square.value / total - tf.reduce_sum(tf.square(self.mean.value / total))
        share = self.square_weight.value / tf.square(total)
        # The first gradient alone has no spread: not a number.
        return tf.where(share > 1 - 1e-6, np.nan, tf.math.log(tf.maximum(spread, 0) / (1 - share)))
