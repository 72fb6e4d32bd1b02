"""Reparameterisation of samplers that accept and reject."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.estimators.score_function import check_decay
from tf_relax._src.estimators.state import BaselineState
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations import Rejection
from tf_relax._src.sites import Site
from tf_relax._src.sites.layer import StochasticLayer


@keras.saving.register_keras_serializable(package="tf_relax")
class RejectionReparameterization(Estimator):
    r"""Reparameterisation of gamma variables, which are made by acceptance and rejection; unbiased.

    $$g = \frac{df}{db} \frac{dh(\varepsilon, a)}{da}
        + (f(b) - \beta) \nabla_a \log \pi(\varepsilon; a)$$

    Naesseth et al. (2017), equations 5 to 8: $b = h(\varepsilon, a)$ as a function of the accepted
    proposal $\varepsilon$, whose density
    $\pi(\varepsilon; a) = q(h(\varepsilon, a); a) \lvert dh/d\varepsilon \rvert$ depends on $a$ as
    well. The second term is a score, so a baseline $\beta$ made from other steps changes nothing in
    expectation: here the running mean of the objective. It is for
    `RelaxSample(..., sampler="rejection")`.

    Args:
        decay: weight of the past in the running mean, in [0, 1).

    Raises:
        ValueError: for a decay outside [0, 1).

    Example:

    >>> RejectionReparameterization().unbiased
    True
    """

    papers = ("naesseth2017",)
    needs = (Rejection,)

    needs_differentiable_objective = True

    def __init__(self, decay: float = 0.99):
        check_decay("RejectionReparameterization", decay)
        self.decay = decay

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> BaselineState:
        return BaselineState(layer, moments=1)

    def output(self, site: Site) -> tf.Tensor:
        # With its derivative at fixed eps: backpropagation adds the first term.
        return site.layer.as_output(site.draw)

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients, updates = [], []
        for site in one.sites:
            beta = site.state.mean.value
            correction = site.layer.relaxation.correction(site.logits, site.draw)
            gradients.append(rules.times(passes.f - beta, correction))
        for state in dict.fromkeys(site.state for site in one.sites):
            past, now = state.mean.value, tf.reduce_mean(passes.f)
            updates.append((state.mean, self.decay * past + (1 - self.decay) * now))
        return Estimate([gradients], updates=updates)

    def get_config(self) -> dict[str, Any]:
        return {"decay": self.decay}
