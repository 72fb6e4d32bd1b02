"""Normal units as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.layers.prior import WithPrior
from tf_relax._src.layers.stochastic import ANALYTIC
from tf_relax._src.relaxations import Draw, Normal


@keras.saving.register_keras_serializable(package="tf_relax")
class RelaxNormal(WithPrior):
    r"""Stochastic normal units, for `lax`, `reparameterization` and the score-function estimators.

    Returns $b = \mu + e^s \varepsilon$, $\varepsilon$ standard normal, for parameters $[\mu, s]$:
    the means on the first half of the last axis, the logarithms of the standard deviations on the
    second. Continuous samples have a derivative: outside a `tf_relax.RelaxModel` the layer is
    reparameterised (Kingma and Welling 2014); inside, the estimator decides, and with LAX
    (Grathwohl et al. 2018, equation 6) the objective may be a black box.

    Args:
        prior: `None` (no divergence), `"standard"` for $\mathcal{N}(0, 1)$, `"learned"` (a
            trainable mean and log standard deviation per unit) or such parameters, broadcast over
            the event. With a prior the layer adds its divergence, per example, to the objective.
        kl: `"analytic"` for $\mathrm{KL}(q \parallel p)$, `"sampled"` for $\log q(b) - \log p(b)$.
        kl_weight: factor of the divergence, in the variable `kl_weight`, as for `RelaxBernoulli`.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise.
        check_numerics: whether parameters with NaN or infinity raise an error that names the layer.
        **kwargs: name, dtype, trainable, as for any Keras layer.

    Call arguments:
        logits: the parameters, floating point, `[batch, ..., 2 * units]`.
        context: optional, `[batch, ...]`: what the surrogate may look at besides z and the logits.
        mask: optional, booleans that start as the logits do, `[batch, ...]`: steps that take
            part; others have no divergence.
        training: whether to train (always samples) or to infer (see `inference`).

    Returns:
        (tensor): samples `[batch, ..., units]` in the compute dtype of the layer.

    Raises:
        ValueError: if the last axis of the parameters is not even, or for unknown options.

    Example:

    >>> import keras, tf_relax
    >>> parameters = keras.layers.Dense(2 * 20)(keras.Input((784,)))
    >>> tf_relax.layers.RelaxNormal(prior="standard")(parameters).shape
    (None, 20)
    """

    relaxation = Normal()

    flat_prior = "standard"

    def __init__(
        self,
        prior: Any = None,
        kl: str = ANALYTIC,
        kl_weight: float = 1.0,
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            prior=prior,
            kl=kl,
            kl_weight=kl_weight,
            inference=inference,
            seed=seed,
            check_numerics=check_numerics,
            **kwargs,
        )

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        if not logits_shape or logits_shape[-1] is None or logits_shape[-1] % 2:
            raise ValueError(
                f"{self._label()} needs means and log standard deviations, an even number of "
                f"parameters on the last axis. Received shape {tuple(logits_shape)}: for n units "
                "use Dense(2 * n) before the layer."
            )
        super().build(logits_shape, context_shape)

    def as_output(self, draw: Draw) -> tf.Tensor:
        """Returns the sample, which has a derivative."""
        return tf.cast(draw.b, self.compute_dtype)

    def hard_output(self, logits: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns the output as it is."""
        return output
