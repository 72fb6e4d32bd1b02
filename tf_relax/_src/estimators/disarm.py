"""DisARM: two antithetic samples, with their order integrated out."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.relaxations import BinaryUnits
from tf_relax._src.sites.layer import StochasticLayer


@keras.saving.register_keras_serializable(package="tf_relax")
class Disarm(Estimator):
    r"""DisARM: two antithetic samples of every binary unit; unbiased.

    $$g = \frac{1}{2} (f(b) - f(b')) (b - b') \sigma(\lvert a \rvert)$$

    Dong, Mnih and Tucker (2020), equation 9, and Yin et al. (2020), U2G.
    $b = \mathbf{1}[a + l > 0]$, and $b' = \mathbf{1}[a - l > 0]$ is made of the negative of its
    noise. Two evaluations of the objective; with several layers one more per level of layers, in
    each of which only that level's samples change sides.

    Example:

    >>> Disarm().unbiased
    True
    """

    papers = ("dong2020", "yin2020")
    needs = (BinaryUnits,)

    num_noises = 2

    def couple(
        self, layer: StochasticLayer, noises: list[tf.Tensor], logits: tf.Tensor
    ) -> list[tf.Tensor]:
        return [noises[0], -noises[0]]

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = {}
        for level in one.sites.levels():
            objective = one.resampled(level, 1)
            f_difference = one.f - one.signal(objective)
            for site in level:
                a, relaxation = site.logits, site.layer.relaxation
                b_antithetic = relaxation.sample(a, site.noises[1]).b
                weight = (site.b - b_antithetic) * tf.sigmoid(tf.abs(a))
                gradients[site] = rules.times(f_difference, weight) / 2
        # Below the last level both samples are samples of the model: all else may average them.
        objectives = [(0.5, one.objective), (0.5, objective)]
        return Estimate([[gradients[site] for site in one.sites]], objectives=objectives)
