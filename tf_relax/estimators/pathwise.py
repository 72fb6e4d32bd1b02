"""Biased estimators that differentiate through a stand-in for the sample."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax.estimators.estimator import Estimate, Estimator, Replay
from tf_relax.sites import Site, Sites


@keras.saving.register_keras_serializable(package="tf_relax")
class Concrete(Estimator):
    r"""Relaxed training, ``g = d f(relax(z, t)) / da``; biased.

    Maddison et al. (2016), equation 15, and Jang et al. (2016). The whole model, decoder included,
    trains on relaxed samples; the loss that `fit` shows is the relaxed one. The temperature is the
    layer's and stays where it is: the default of the layers, 0.1, suits surrogates, and 0.5 to 1 is
    usual here.

    Example:

    >>> Concrete().unbiased
    False
    """

    unbiased = False
    needs_differentiable_objective = True
    relaxes_samples = True

    def output(self, site: Site) -> tf.Tensor:
        # Through a constant: the temperature must not learn to flatter the relaxed objective.
        t = tf.stop_gradient(site.layer.temperature)
        return tf.cast(site.layer.relaxation.relax(site.z, t), site.layer.compute_dtype)

    def estimate(self, sites: Sites, f: tf.Tensor, replay: Replay) -> Estimate:
        return Estimate(gradients=None)


@keras.saving.register_keras_serializable(package="tf_relax")
class StraightThrough(Estimator):
    r"""Hard samples forward, the derivative of a stand-in backward; biased.

    Bengio et al. (2013), section 3.3: ``g = (df/db) d y(a) / da`` with

    - `"mean"`: ``y = E[b]``, for Bernoulli units ``sigmoid(a)``;
    - `"identity"`: ``y = a``;
    - `"relaxed"`: ``y = relax(z, t)`` (straight-through Gumbel-softmax, Jang et al. 2016).

    Args:
        backward: which stand-in to differentiate.

    Raises:
        ValueError: for an unknown stand-in.

    Example:

    >>> StraightThrough(backward="identity")
    StraightThrough(backward='identity')
    """

    unbiased = False
    needs_differentiable_objective = True

    def __init__(self, backward: str = "mean"):
        if backward not in ("mean", "identity", "relaxed"):
            raise ValueError(
                "StraightThrough: `backward` must be 'mean', 'identity' or 'relaxed'. "
                f"Received: {backward!r}"
            )
        self.backward = backward

    def output(self, site: Site) -> tf.Tensor:
        relaxation = site.layer.relaxation
        if self.backward == "mean":
            y = relaxation.mean(site.logits)
        elif self.backward == "identity":
            y = site.logits
        else:
            y = relaxation.relax(site.z, tf.stop_gradient(site.layer.temperature))
        # b first: (b - y) + y would round b away from 0 and 1.
        return tf.cast(site.b + (y - tf.stop_gradient(y)), site.layer.compute_dtype)

    def estimate(self, sites: Sites, f: tf.Tensor, replay: Replay) -> Estimate:
        return Estimate(gradients=None)

    def get_config(self) -> dict[str, Any]:
        return {"backward": self.backward}
