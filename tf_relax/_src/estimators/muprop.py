"""MuProp: score function with a first-order Taylor expansion as its control variate."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import (
    Estimate,
    Estimator,
    Passes,
    sampled,
)
from tf_relax._src.relaxations import Discrete, KnownMean, Relaxed


@keras.saving.register_keras_serializable(package="tf_relax")
class MuProp(Estimator):
    r"""MuProp: a first-order expansion of the objective as the control variate; unbiased.

    $$g = [f(b) - f(\mu) - f'(\mu)^T (b - \mu)] \nabla_a \log p(b \mid a)
        + f'(\mu)^T \frac{d\mu}{da}$$

    Gu et al. (2016), equation 6, with $\mu = \mathbb{E}[b]$. The expansion is one mean-field pass;
    with several layers, one per level of layers, whose earlier samples are the hard ones. It needs
    a differentiable objective.

    Example:

    >>> MuProp().unbiased
    True
    """

    papers = ("gu2016",)
    needs = (Discrete, KnownMean, Relaxed)

    needs_differentiable_objective = True

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = {}
        for level in one.sites.levels():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                a = [tf.stop_gradient(site.logits) for site in level]
                tape.watch(a)
                mu = [site.layer.relaxation.mean(x) for site, x in zip(level, a, strict=True)]
                f_mu = one.at_mean(level, mu)
            zero = tf.UnconnectedGradients.ZERO
            derivative, pathwise = tape.gradient(f_mu, [mu, a], unconnected_gradients=zero)
            linear = tf.add_n(
                [
                    rules.first_order(d, site.b, m)
                    for site, d, m in zip(level, derivative, mu, strict=True)
                ]
            )
            signal = one.f - f_mu - one.signal(linear)
            for site, p in zip(level, pathwise, strict=True):
                gradients[site] = rules.score_function(*sampled(site), signal) + p
        return Estimate([[gradients[site] for site in one.sites]])
