"""What every surrogate answers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Surrogate(keras.layers.Layer):
    r"""A control variate ``c_phi`` of a stochastic site.

    The value that an estimator uses is ``c(z) = [uses_objective] scale f(relax(z, t)) + r(z)``: the
    objective at relaxed inputs, which needs the whole model and is therefore added by the
    estimator, and ``r``, which this layer computes. ``r`` may look at `z`, the logits and the
    `context` that the stochastic layer was called with, all of which exist before the sample does.

    Attributes:
        uses_objective: whether the objective at relaxed inputs is part of the control variate.
        needs_objective: whether it is useless without it (a black-box objective has none).
    """

    uses_objective: bool = False
    needs_objective: bool = False

    def call(self, z: tf.Tensor, logits: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Returns ``r(z)``, one value per example, `[batch]`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `call`.")

    def get_config(self) -> dict[str, Any]:
        # Overridden so that Keras does not record the arguments of the constructor by itself.
        return super().get_config()
