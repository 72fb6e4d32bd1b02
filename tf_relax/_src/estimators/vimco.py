"""VIMCO: the importance-weighted bound, each sample's baseline made of the others."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes, sampled


@keras.saving.register_keras_serializable(package="tf_relax")
class Vimco(Estimator):
    r"""VIMCO: each sample of the importance-weighted objective has a baseline made of the others.

    $$g = -\sum_k (L - L_{-k}) \nabla_a \log p(b_k \mid a)$$

    Mnih and Rezende (2016), equations 8 to 10. $L = \log \frac{1}{K} \sum_k e^{l_k}$ is the bound
    with the log-weights $l_k$ of $K$ samples, and $L_{-k}$ the same with $l_k$ replaced by the mean
    of the others. Unbiased. $K$ is the model's: `compile(importance_samples=K, estimator="vimco")`.

    Example:

    >>> Vimco().unbiased
    True
    """

    papers = ("mnih2016vimco",)
    needs = ()

    importance_weighted = True
    works_on_all_layers = True

    def check_objective(self, importance_samples: int | None) -> None:
        if importance_samples is None or importance_samples < 2:
            raise ValueError(
                "Vimco estimates the gradient of the importance-weighted bound with K >= 2 "
                "samples. Compile the model with `importance_samples=K`. "
                f"Received: importance_samples={importance_samples}"
            )
        super().check_objective(importance_samples)

    def estimate(self, passes: Passes) -> Estimate:
        log_w = [-tf.stop_gradient(one.objective) for one in passes]
        bound = _log_mean_exp(log_w)
        gradients = []
        for k, (one, mean) in enumerate(zip(passes, rules.mean_of_others(log_w), strict=True)):
            without = _log_mean_exp([*log_w[:k], mean, *log_w[k + 1 :]])
            signal = one.sites.signal(tf.cast(without - bound, one.f.dtype))
            gradients.append([rules.score_function(*sampled(s), signal) for s in one.sites])
        return Estimate(gradients)


def _log_mean_exp(log_w: list[tf.Tensor]) -> tf.Tensor:
    return tf.reduce_logsumexp(tf.stack(log_w), axis=0) - math.log(len(log_w))
