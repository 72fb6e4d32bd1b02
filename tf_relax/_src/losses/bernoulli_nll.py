"""Negative log-likelihood of independent Bernoulli observations."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="tf_relax")
class BernoulliNLL(keras.losses.Loss):
    r"""Negative log-likelihood of Bernoulli observations, from logits, in nats per example.

    $$-\log p(y \mid a) = \sum_i \mathrm{softplus}(a_i) - y_i a_i$$

    for logits $a$, summed over all dimensions but the first: with the divergence of a prior, the
    loss of a model is then minus its ELBO.

    Args:
        reduction: how examples are combined: `"sum_over_batch_size"` (mean) or `"sum"`.
        name: name of the loss.

    Call arguments:
        y_true: observations in [0, 1], `[batch, *event]`.
        y_pred: logits, `[batch, *event]`.

    Returns:
        (tensor): nats per example, `[batch]`, before the reduction.

    Example:

    >>> import numpy as np
    >>> loss = BernoulliNLL()
    >>> round(float(loss(np.ones((3, 4)), np.zeros((3, 4)))), 4)  # 4 log 2
    2.7726
    """

    def __init__(
        self,
        reduction: str = "sum_over_batch_size",
        name: str = "bernoulli_nll",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        if len(y_pred.shape) != len(y_true.shape):
            raise ValueError(
                f"BernoulliNLL sums over all dimensions but the first, so y_true and y_pred need "
                f"the same shape. Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        nll = ops.binary_crossentropy(y_true, y_pred, from_logits=True)
        return ops.sum(nll, axis=tuple(range(1, len(nll.shape))))
