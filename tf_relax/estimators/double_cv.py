"""Double control variates: leave-one-out plus a linear control variate from the other samples."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax.estimators.estimator import (
    Estimate,
    Passes,
    require_binary,
    score,
    squared_gradient,
    times,
)
from tf_relax.estimators.leave_one_out import IndependentSamples, leave_one_out, mean_of_others
from tf_relax.relaxations.event import sum_event


@keras.saving.register_keras_serializable(package="tf_relax")
class DoubleCV(IndependentSamples):
    r"""Leave-one-out with the objective linearised at the other samples; unbiased.

    Titsias and Shi (2022). With ``v_k = mean_{j != k} f'(b_j)``, ``c_k = alpha v_k^T (b_k - mu)``,

        g = 1/K sum_k {[f_k + c_k - mean_{j != k} (f_j + c_j)] d log p(b_k|a)/da - alpha J v_k},

    where ``J v = mu (1 - mu) v`` is the expectation of ``v^T (b - mu) d log p(b|a)/da``. ``alpha``
    is learned on the variance of g, per layer. K evaluations of the objective and of its
    derivative, for binary units and differentiable objectives.

    Args:
        num_samples: K, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> DoubleCV()
    DoubleCV(num_samples=2)
    """

    needs_differentiable_objective = True

    def check(self, layer: Any) -> None:
        require_binary(self, layer)

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        return [layer.linear_scale]

    def estimate(self, passes: Passes) -> Estimate:
        f, c = [one.f for one in passes], [0.0 for _ in passes]
        derivatives = zip(*[one.derivative() for one in passes], strict=True)
        v = [mean_of_others(site_derivatives) for site_derivatives in derivatives]
        mu = [[site.layer.relaxation.mean(site.logits) for site in one.sites] for one in passes]
        for k, one in enumerate(passes):
            for s, site in enumerate(one.sites):
                linear = sum_event(v[s][k] * (site.b - mu[k][s]))
                c[k] += site.layer.linear_scale * one.sites.signal(linear)
        signals = leave_one_out([f_k + c_k for f_k, c_k in zip(f, c, strict=True)])
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        for k, one in enumerate(passes):
            for s, site in enumerate(one.sites):
                expected = site.layer.relaxation.mean_vjp(mu[k][s], v[s][k])
                g = times(signals[k], score(site)) - site.layer.linear_scale * expected
                gradients[k].append(g / len(passes))
        return Estimate(gradients, surrogate_loss=squared_gradient(gradients))
