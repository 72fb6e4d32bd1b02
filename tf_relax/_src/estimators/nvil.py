"""NVIL: a standardised, input-dependent baseline."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules, surrogates
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes, sampled
from tf_relax._src.estimators.score_function import check_decay, learned_baseline
from tf_relax._src.estimators.state import BaselineState
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.surrogates import Surrogate


@keras.saving.register_keras_serializable(package="tf_relax")
class Nvil(Estimator):
    r"""NVIL: the score function with a network of the input for a baseline.

    $$g = (f(b) - m - v C(x)) \nabla_a \log p(b \mid a)$$

    Mnih and Gregor (2014), section 2.3. $m$ and $v$ are the running mean and standard deviation of
    the objective over the steps before this one, and the network $C(x)$ (a surrogate with the
    sample left out, $r(0, a, x)$) is fitted to the standardised objective $(f - m) / v$. Unbiased.

    Args:
        decay: weight of the past in the running mean and variance, in [0, 1).
        normalize: whether to divide the signal $f - m - v C(x)$ by $\max(1, v)$ as the paper does.
            That rescales the gradient of the logits alone, not the derivatives of f that need no
            estimate (a divergence, the decoder), so their sum is biased.
        surrogate: what $C(x)$ is: a `tf_relax.surrogates.Surrogate`, its name or a Keras model.

    Raises:
        ValueError: for a decay outside [0, 1).

    Example:

    >>> Nvil()
    Nvil()
    """

    papers = ("mnih2014",)
    needs = ()

    def __init__(
        self,
        decay: float = 0.99,
        normalize: bool = False,
        surrogate: str | Surrogate = "network",
    ):
        check_decay("Nvil", decay)
        self.decay = decay
        self.normalize = normalize
        self.unbiased = not normalize
        self.surrogate = surrogates.checked(surrogate)

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> BaselineState:
        return BaselineState(layer, surrogates.for_layer(self.surrogate, layer), moments=2)

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        f, gradients, errors, updates = passes.f, [], [], []
        for site in one.sites:
            m, v = site.state.mean.value, tf.sqrt(site.state.variance.value)
            c = learned_baseline(one, site)
            signal = f - m - v * tf.stop_gradient(c)
            if self.normalize:
                signal /= tf.maximum(1.0, v)
            gradients.append(rules.score_function(*sampled(site), signal))
            errors.append(tf.reduce_mean(tf.square((f - m) / v - c)))
        for state in dict.fromkeys(site.state for site in one.sites):
            m, variance, past = state.mean.value, state.variance.value, self.decay
            squares = tf.reduce_mean(tf.square(f - m))
            updates.append((state.mean, past * m + (1 - past) * tf.reduce_mean(f)))
            # A constant objective has no variance; the standardised one stays finite.
            kept = tf.maximum(past * variance + (1 - past) * squares, 1e-6)
            updates.append((state.variance, kept))
        return Estimate([gradients], tf.add_n(errors), updates)

    def get_config(self) -> dict[str, Any]:
        return {
            "decay": self.decay,
            "normalize": self.normalize,
            "surrogate": surrogates.serialize(self.surrogate),
        }
