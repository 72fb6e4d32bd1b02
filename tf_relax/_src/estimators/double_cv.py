"""Double control variates: leave-one-out plus a linear control variate from the other samples."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import (
    Estimate,
    Passes,
    sampled,
)
from tf_relax._src.estimators.leave_one_out import IndependentSamples
from tf_relax._src.estimators.state import State
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations import BinaryUnits
from tf_relax._src.sites.layer import StochasticLayer


class LinearState(State):
    """The factor ``alpha`` of the linear control variate, which starts at zero."""

    def build(self, input_shape: Any = None) -> None:
        self.alpha = self.learned("alpha", 0.0)


@keras.saving.register_keras_serializable(package="tf_relax")
class DoubleCV(IndependentSamples):
    r"""Leave-one-out with the objective linearised at the other samples; unbiased.

    $$g = \frac{1}{K} \sum_k \{[f_k + c_k - \frac{1}{K - 1} \sum_{j \ne k} (f_j + c_j)]
        \nabla_a \log p(b_k \mid a) - \alpha J v_k\}$$

    Titsias and Shi (2022). Here $c_k = \alpha v_k^T (b_k - \mu)$ with the mean $\mu$ of $b$ and
    $v_k = \frac{1}{K - 1} \sum_{j \ne k} f'(b_j)$, and $J v = \mu (1 - \mu) v$ is the expectation
    of $v^T (b - \mu) \nabla_a \log p(b \mid a)$. $\alpha$ is learned on the variance of $g$, per
    layer. $K$ evaluations of the objective and of its derivative, for binary units and
    differentiable objectives.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> DoubleCV()
    DoubleCV()
    """

    papers = ("titsias2022",)
    needs = (BinaryUnits,)

    needs_differentiable_objective = True

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> LinearState:
        return LinearState(layer)

    def estimate(self, passes: Passes) -> Estimate:
        f, c = [one.f for one in passes], [0.0 for _ in passes]
        derivatives = zip(*[one.derivative() for one in passes], strict=True)
        v = [rules.mean_of_others(site_derivatives) for site_derivatives in derivatives]
        mu = [[site.layer.relaxation.mean(site.logits) for site in one.sites] for one in passes]
        for k, one in enumerate(passes):
            for s, site in enumerate(one.sites):
                linear = rules.first_order(v[s][k], site.b, mu[k][s])
                c[k] += site.state.alpha * one.sites.signal(linear)
        signals = rules.leave_one_out([f_k + c_k for f_k, c_k in zip(f, c, strict=True)])
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        for k, one in enumerate(passes):
            for s, site in enumerate(one.sites):
                expected = site.layer.relaxation.mean_vjp(mu[k][s], v[s][k])
                g = rules.score_function(*sampled(site), signals[k]) - site.state.alpha * expected
                gradients[k].append(g / len(passes))
        return Estimate(gradients, surrogate_loss=rules.squared_gradient(gradients))
