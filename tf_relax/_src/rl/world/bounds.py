"""How real samples of a policy become actions within the bounds of a `Box`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

KINDS = ("clip", "squash", None)


class Bounds:
    r"""Maps ``b``, of any size, to the action ``a`` of a `Box`, component by component.

    | kind       | action                                     | where a bound is infinite |
    |------------|--------------------------------------------|---------------------------|
    | `"clip"`   | ``m + w clip(b, -1, 1)``                   | ``a = b``                 |
    | `"squash"` | ``m + w tanh(b)``                          | ``a = b``                 |
    | `None`     | ``clip(b, low, high)``, in its own units   | ``a = b``                 |

    with ``m`` the middle and ``w`` half the width. The map has no parameters: the score of ``b`` is
    that of ``a``, and no gradient needs its Jacobian. What `log_prob` returns has it.

    Args:
        space: a `gymnasium.spaces.Box`.
        kind: which map.

    Example:

    >>> import gymnasium
    >>> bounds = Bounds(gymnasium.spaces.Box(0.0, 10.0, (1,)), "clip")
    >>> bounds.action(np.array([[-3.0], [0.0], [0.5]])).ravel().tolist()
    [0.0, 5.0, 7.5]
    """

    def __init__(self, space: Any, kind: str | None):
        self.kind = kind
        self.low, self.high = np.float64(space.low), np.float64(space.high)
        self.dtype = space.dtype
        finite = np.isfinite(self.low) & np.isfinite(self.high)
        self._scaled = finite & (kind is not None)
        low, high = np.where(self._scaled, (self.low, self.high), ([-1.0], [1.0]))
        self.middle, self.half_width = (low + high) / 2, (high - low) / 2

    def action(self, b: np.ndarray) -> np.ndarray:
        """Returns actions for samples, `[..., d]`."""
        inner = np.tanh(b) if self.kind == "squash" else b
        scaled = self.middle + self.half_width * np.where(self._scaled, inner, b)
        return np.clip(scaled, self.low, self.high).astype(self.dtype)

    def always_clipped(self, b: np.ndarray) -> np.ndarray:
        """Returns which components of samples `[n, d]` are all beyond the same bound."""
        if self.kind == "squash":
            return np.zeros(b.shape[-1], bool)
        a = self.middle + self.half_width * b
        return (a < self.low).all(axis=0) | (a > self.high).all(axis=0)

    def log_prob(self, means: tf.Tensor, log_scales: tf.Tensor, actions: Any) -> tf.Tensor:
        """Returns the log-density of actions `[batch, d]`, summed over their components.

        A clipped action at a bound has a probability instead, that of all samples beyond.
        """
        a = tf.cast(actions, tf.float32)
        normal = tfp.distributions.Normal(means, tf.exp(log_scales))
        inner = (a - tf.cast(self.middle, tf.float32)) / tf.cast(self.half_width, tf.float32)
        width = tf.math.log(tf.cast(self.half_width, tf.float32))
        if self.kind == "squash":
            # Rounding takes large samples to the bounds, where there is no density.
            edge = 1 - 2.0**-23
            y = tf.where(self._scaled, tf.clip_by_value(inner, -edge, edge), 0.0)
            b = tf.where(self._scaled, tf.atanh(y), inner)
            each = normal.log_prob(b) - width - tf.math.log1p(-tf.square(y))
        else:
            low, high = tf.cast(self.low, tf.float32), tf.cast(self.high, tf.float32)
            each = normal.log_prob(inner) - width
            each = tf.where(a <= low, normal.log_cdf(inner), each)
            each = tf.where(a >= high, normal.log_survival_function(inner), each)
        return tf.reduce_sum(each, axis=-1)
