"""The score-function estimator, REINFORCE."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax.estimators.estimator import Estimate, Estimator, Replay
from tf_relax.relaxations.event import along_event
from tf_relax.sites import Sites

MOVING_AVERAGE = "moving_average"


@keras.saving.register_keras_serializable(package="tf_relax")
class Reinforce(Estimator):
    r"""Score-function estimator, ``g = (f(b) - beta) d log p(b | a) / da``.

    Williams (1992), equation 5. Unbiased for any objective; its variance is high.

    Args:
        baseline: ``beta``: `None` for 0, or `"moving_average"` for the running mean of the
            objective over the steps before this one.
        decay: weight of the past in that running mean, in [0, 1).

    Raises:
        ValueError: for an unknown baseline or a decay outside [0, 1).

    Example:

    >>> Reinforce(baseline="moving_average")
    Reinforce(baseline='moving_average', decay=0.99)
    """

    def __init__(self, baseline: str | None = None, decay: float = 0.99):
        if baseline not in (None, MOVING_AVERAGE):
            raise ValueError(
                f"Reinforce: `baseline` must be None or '{MOVING_AVERAGE}'. Received: {baseline!r}"
            )
        if not 0 <= decay < 1:
            raise ValueError(f"Reinforce: `decay` must lie in [0, 1). Received: {decay}")
        self.baseline = baseline
        self.decay = decay

    def estimate(self, sites: Sites, f: tf.Tensor, replay: Replay) -> Estimate:
        gradients = []
        for site in sites:
            score = site.layer.relaxation.score(site.logits, site.draw)
            beta = 0.0 if self.baseline is None else site.layer.baseline.value
            gradients.append(along_event(f - beta, score) * score)
        updates = []
        if self.baseline is not None:
            # A shared layer has several sites but one baseline: update it once.
            for layer in dict.fromkeys(site.layer for site in sites):
                past, now = layer.baseline.value, tf.reduce_mean(f)
                updates.append((layer.baseline, self.decay * past + (1 - self.decay) * now))
        return Estimate(gradients, updates=updates)

    def get_config(self) -> dict[str, Any]:
        return {"baseline": self.baseline, "decay": self.decay}
