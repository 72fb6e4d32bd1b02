"""The score-function estimator, REINFORCE, and its baselines."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax.estimators.estimator import Estimate, Estimator, Pass, Passes, score, times
from tf_relax.estimators.surrogate_value import check_blind
from tf_relax.sites import Site

MOVING_AVERAGE, LEARNED = "moving_average", "learned"


@keras.saving.register_keras_serializable(package="tf_relax")
class Reinforce(Estimator):
    r"""Score-function estimator, ``g = (f(b) - beta) d log p(b | a) / da``.

    Williams (1992), equation 5. Unbiased for any objective; its variance is high.

    Args:
        baseline: ``beta``: `None` for 0; `"moving_average"` for the running mean of the objective
            over the steps before this one; `"learned"` for a network of the input, ``beta(x)``: the
            layer's surrogate with the sample left out, ``r(0, a, x)``, fitted to f.
        decay: weight of the past in that running mean, in [0, 1).

    Raises:
        ValueError: for an unknown baseline or a decay outside [0, 1).

    Example:

    >>> Reinforce(baseline="moving_average")
    Reinforce(baseline='moving_average', decay=0.99)
    """

    importance_weighted = True

    def __init__(self, baseline: str | None = None, decay: float = 0.99):
        if baseline not in (None, MOVING_AVERAGE, LEARNED):
            raise ValueError(
                f"Reinforce: `baseline` must be None, '{MOVING_AVERAGE}' or '{LEARNED}'. "
                f"Received: {baseline!r}"
            )
        check_decay("Reinforce", decay)
        self.baseline = baseline
        self.decay = decay

    def check(self, layer: Any) -> None:
        pass  # every distribution has a score

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        return layer.surrogate.trainable_variables if self.baseline == LEARNED else []

    def estimate(self, passes: Passes) -> Estimate:
        f, errors = passes.f, []
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        for k, one in enumerate(passes):
            for site in one.sites:
                beta = tf.zeros((), f.dtype)
                if self.baseline == MOVING_AVERAGE:
                    beta = site.layer.baseline.value
                elif self.baseline == LEARNED:
                    beta = learned_baseline(one, site)
                    errors.append(tf.reduce_mean(tf.square(f - beta)))
                gradients[k].append(times(f - tf.stop_gradient(beta), score(site)))
        updates = []
        if self.baseline == MOVING_AVERAGE:
            # A shared layer has several sites but one baseline: update it once.
            for layer in dict.fromkeys(site.layer for site in passes[0].sites):
                past, now = layer.baseline.value, tf.reduce_mean(f)
                updates.append((layer.baseline, self.decay * past + (1 - self.decay) * now))
        return Estimate(gradients, tf.add_n(errors) if errors else None, updates)

    def get_config(self) -> dict[str, Any]:
        return {"baseline": self.baseline, "decay": self.decay}


def learned_baseline(one: Pass, site: Site) -> tf.Tensor:
    """Returns the layer's surrogate with the sample left out, ``r(0, a, x)``."""
    constants = (site.logits, site.context, one.targets)
    logits, context, targets = (None if t is None else tf.stop_gradient(t) for t in constants)
    beta = site.layer.surrogate_value(tf.zeros_like(site.z), logits, context, targets)
    check_blind(site, beta)
    return one.sites.signal(beta)


def check_decay(name: str, decay: float) -> None:
    """Raises a ValueError unless `decay` lies in [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError(f"{name}: `decay` must lie in [0, 1). Received: {decay}")
