"""The objective at relaxed inputs as a surrogate."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.surrogates.surrogate import Surrogate


@keras.saving.register_keras_serializable(package="tf_relax")
class Objective(Surrogate):
    r"""The objective at relaxed inputs plus a free intercept.

    $$c(z) = \eta f(\mathrm{relax}(z, t)) + \beta$$

    REBAR's surrogate (Tucker et al. 2017, section 3), $\eta$ being the estimator's `scale`, plus
    $\beta$: on objectives that are symmetric in the two values of a unit, the constant alone
    removes most of the variance.

    Example:

    >>> import tf_relax
    >>> estimator = tf_relax.estimators.Relax(surrogate=Objective())
    """

    uses_objective = True
    needs_objective = True
    looks_at = ()

    def build(
        self,
        z_shape: Any,
        logits_shape: Any = None,
        context_shape: Any = None,
        targets_shape: Any = None,
    ) -> None:
        self.intercept = self.add_weight(shape=(), initializer="zeros", name="intercept")

    def call(
        self,
        z: tf.Tensor,
        logits: tf.Tensor | None = None,
        context: tf.Tensor | None = None,
        targets: tf.Tensor | None = None,
    ) -> tf.Tensor:
        return tf.fill(tf.shape(z)[:1], self.intercept.value)
