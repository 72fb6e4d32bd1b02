"""The score-function estimator, REINFORCE, and its baselines."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules, surrogates
from tf_relax._src.estimators.estimator import Estimate, Estimator, Pass, Passes, sampled
from tf_relax._src.estimators.state import BaselineState
from tf_relax._src.estimators.surrogate_value import check_blind, network_value
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.sites import Site
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.surrogates import Surrogate

MOVING_AVERAGE, LEARNED = "moving_average", "learned"


@keras.saving.register_keras_serializable(package="tf_relax")
class Reinforce(Estimator):
    r"""The score-function estimator, REINFORCE, with or without a baseline.

    $$g = (f(b) - \beta) \nabla_a \log p(b \mid a)$$

    Williams (1992), equation 5. Unbiased for any objective; its variance is high.

    Args:
        baseline: $\beta$: `None` for 0; `"moving_average"` for the running mean of the objective
            over the steps before this one; `"learned"` for a network of the input, $\beta(x)$: a
            surrogate with the sample left out, $r(0, a, x)$, fitted to f.
        decay: weight of the past in that running mean, in [0, 1).
        surrogate: that surrogate, its name or a Keras model.

    Raises:
        ValueError: for an unknown baseline or a decay outside [0, 1).

    Example:

    >>> Reinforce(baseline="moving_average")
    Reinforce(baseline='moving_average')
    """

    papers = ("williams1992",)
    needs = ()

    importance_weighted = True

    def __init__(
        self,
        baseline: str | None = None,
        decay: float = 0.99,
        surrogate: str | Surrogate = "network",
    ):
        if baseline not in (None, MOVING_AVERAGE, LEARNED):
            raise ValueError(
                f"Reinforce: `baseline` must be None, '{MOVING_AVERAGE}' or '{LEARNED}'. "
                f"Received: {baseline!r}"
            )
        check_decay("Reinforce", decay)
        self.baseline = baseline
        self.decay = decay
        self.surrogate = surrogates.checked(surrogate)

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> BaselineState:
        if self.baseline == LEARNED:
            return BaselineState(layer, surrogates.for_layer(self.surrogate, layer))
        return BaselineState(layer, moments=int(self.baseline == MOVING_AVERAGE))

    def estimate(self, passes: Passes) -> Estimate:
        f, errors = passes.f, []
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        for k, one in enumerate(passes):
            for site in one.sites:
                beta = tf.zeros((), f.dtype)
                if self.baseline == MOVING_AVERAGE:
                    beta = site.state.mean.value
                elif self.baseline == LEARNED:
                    beta = learned_baseline(one, site)
                    errors.append(tf.reduce_mean(tf.square(f - beta)))
                signal = f - tf.stop_gradient(beta)
                gradients[k].append(rules.score_function(*sampled(site), signal))
        updates = []
        if self.baseline == MOVING_AVERAGE:
            # A shared layer has several sites but one baseline: update it once.
            for state in dict.fromkeys(site.state for site in passes[0].sites):
                past, now = state.mean.value, tf.reduce_mean(f)
                updates.append((state.mean, self.decay * past + (1 - self.decay) * now))
        return Estimate(gradients, tf.add_n(errors) if errors else None, updates)

    def get_config(self) -> dict[str, Any]:
        return {
            "baseline": self.baseline,
            "decay": self.decay,
            "surrogate": surrogates.serialize(self.surrogate),
        }


def learned_baseline(one: Pass, site: Site) -> tf.Tensor:
    """Returns a surrogate with the sample left out, ``r(0, a, x)``."""
    constants = (site.logits, site.context, one.targets)
    logits, context, targets = (None if t is None else tf.stop_gradient(t) for t in constants)
    constant = dataclasses.replace(site, logits=logits, context=context)
    beta = network_value(constant, tf.zeros_like(site.z), targets)
    check_blind(site, beta)
    return one.sites.signal(beta)


def check_decay(name: str, decay: float) -> None:
    """Raises a ValueError unless `decay` lies in [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError(f"{name}: `decay` must lie in [0, 1). Received: {decay}")
