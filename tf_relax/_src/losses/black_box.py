"""An objective that is only ever evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.sites.handler import current_handler


@keras.saving.register_keras_serializable(package="tf_relax")
class BlackBox(keras.losses.Loss):
    """A NumPy function of (y_true, y_pred) as a loss: one cost per example, never differentiated.

    The function sees hard samples only. The replays that feed a surrogate leave it out, so
    `estimator="relax"` learns its control variate from the surrogate network alone, and estimators
    that need a differentiable objective refuse it. It runs as Python code on the host: XLA cannot
    compile it.

    Args:
        fn: `fn(y_true, y_pred) -> costs`, NumPy arrays in, `[batch]` out.
        reduction: how examples are combined: `"sum_over_batch_size"` (mean) or `"sum"`.
        name: name of the loss.

    Raises:
        TypeError: if `fn` is not callable.
        ValueError: (from the step) if `fn` does not return one finite-shaped cost per example.

    Example:

    >>> loss = BlackBox(lambda y_true, y_pred: np.abs(y_true - y_pred).sum(axis=1))
    >>> float(loss(np.ones((2, 3)), np.zeros((2, 3))))
    3.0
    """

    def __init__(
        self,
        fn: Callable[[np.ndarray, np.ndarray], np.ndarray],
        reduction: str = "sum_over_batch_size",
        name: str = "black_box",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not callable(fn):
            raise TypeError(f"BlackBox needs a function of (y_true, y_pred). Received: {fn!r}")
        self.fn = fn

    def _costs(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        costs = np.asarray(self.fn(y_true, y_pred))
        if costs.shape != y_pred.shape[:1]:
            raise ValueError(
                f"BlackBox '{self.name}' needs one cost per example, shape {y_pred.shape[:1]}. Its "
                f"function returned shape {costs.shape}: sum or average over the other dimensions."
            )
        return costs.astype(self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        handler = current_handler()
        if handler is not None and handler.relaxed:
            return tf.zeros(tf.shape(y_pred)[:1], self.dtype)
        costs = tf.numpy_function(self._costs, [y_true, y_pred], self.dtype)
        return tf.ensure_shape(costs, y_pred.shape[:1])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "fn": keras.saving.serialize_keras_object(self.fn)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BlackBox:
        fn = keras.saving.deserialize_keras_object(config["fn"])
        return cls(**{**config, "fn": fn})
