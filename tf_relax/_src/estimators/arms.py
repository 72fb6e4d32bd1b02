"""ARMS: any number of mutually antithetic samples."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.estimators.leave_one_out import check_samples
from tf_relax._src.relaxations import LOGISTIC, BinaryUnits
from tf_relax._src.sites.layer import StochasticLayer


@keras.saving.register_keras_serializable(package="tf_relax")
class Arms(Estimator):
    r"""ARMS: $K$ samples of every binary unit, each antithetic to all others; unbiased.

    $$g = \frac{1}{K - 1} \sum_{k=1}^K (f_k - \bar f) \frac{\nabla_a \log p(b_k \mid a)}{1 - \rho}$$

    Dimitriev and Zhou (2021), section 4, with $\bar f = \frac{1}{K} \sum_j f_j$. The $K$ samples of
    a binary unit are coupled by a Dirichlet copula, which makes their correlation $\rho$ negative;
    $\rho$ is known in closed form. For $K = 2$ it is DisARM. $K$ evaluations of the objective; with
    $L$ levels of layers $1 + (K - 1) L$.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> Arms()
    Arms()
    """

    papers = ("dimitriev2021arms",)
    needs = (BinaryUnits,)

    def __init__(self, num_samples: int = 4):
        self.num_samples = self.num_noises = check_samples("Arms", num_samples)

    def couple(
        self, layer: StochasticLayer, noises: list[tf.Tensor], logits: tf.Tensor
    ) -> list[tf.Tensor]:
        # b = 1[u < p] below p = 1/2 and its mirror image above: rho is lowest that way.
        return [tf.where(logits < 0, -noise, noise) for noise in LOGISTIC.exchangeable(noises)]

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = {}
        for level in one.sites.levels():
            more = [one.resampled(level, k) for k in range(1, self.num_samples)]
            f = [one.f, *(one.signal(f_k) for f_k in more)]
            f_mean = tf.add_n(f) / len(f)
            for site in level:
                a, relaxation = site.logits, site.layer.relaxation
                draws = [site.draw, *(relaxation.sample(a, noise) for noise in site.noises[1:])]
                terms = [
                    rules.score_function(relaxation, a, draw, f_k - f_mean)
                    for f_k, draw in zip(f, draws, strict=True)
                ]
                gradients[site] = tf.add_n(terms) / (len(f) - 1) / self._decorrelation(a)
        # Below the last level all samples are samples of the model: all else may average them.
        objectives = [(1 / self.num_samples, objective) for objective in [one.objective, *more]]
        return Estimate([[gradients[site] for site in one.sites]], objectives=objectives)

    def _decorrelation(self, a: tf.Tensor) -> tf.Tensor:
        """Returns ``1 - rho``, where ``rho`` is the correlation of two samples of a unit.

        With ``q = min(p, 1 - p)`` and ``r = q^(1/(K-1))`` two samples are both on the rarer side
        with probability ``max(0, 2r - 1)^(K-1)``.
        """
        log_q, power = -tf.nn.softplus(tf.abs(a)), self.num_samples - 1
        both_given_one = tf.maximum(2 - tf.exp(-log_q / power), 0) ** power
        return (1 - both_given_one) / tf.sigmoid(tf.abs(a))

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}
