"""DisARM-Tree: categories by two antithetic walks through a tree of binary choices."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.relaxations import Sticks
from tf_relax._src.relaxations.sticks import consulted
from tf_relax._src.sites.layer import StochasticLayer


@keras.saving.register_keras_serializable(package="tf_relax")
class DisarmTree(Estimator):
    r"""DisARM for categories, at every node of a tree whose binary choices lead to one; unbiased.

    $$g = \frac{f - f'}{2} [I J (u - u') \sigma(\lvert a \rvert)
        + I (1 - J) (u - \sigma(a)) - J (1 - I) (u' - \sigma(a))]$$

    Dong, Mnih and Tucker (2021), section 4. $u = \mathbf{1}[a + l > 0]$ and
    $u' = \mathbf{1}[a - l > 0]$ are the choices of two walks that share their noise, mirrored; $I$
    and $J$ say whether each walk has come to the node, and $\sigma$ is the logistic function. Where
    both have, their order is integrated out; where one has, what is left is its score. The tree is
    that of `RelaxCategorical(method="stick_breaking")`, each of whose nodes splits one category
    off; the logits of a softmax become those of its nodes by `tf_relax.relaxations.stick_logits`.
    Two evaluations of the objective; with several layers one more per level.

    Example:

    >>> DisarmTree().unbiased
    True
    """

    papers = ("dong2021",)
    needs = (Sticks,)
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
                a, draw = site.logits, site.draw
                mirrored = site.layer.relaxation.sample(a, site.noises[1])
                u, u_mirrored = (tf.cast(d.z > 0, a.dtype) for d in (draw, mirrored))
                i, j = consulted(draw.b), consulted(mirrored.b)
                weight = i * j * (u - u_mirrored) * tf.sigmoid(tf.abs(a))
                weight += i * (1 - j) * (u - tf.sigmoid(a))
                weight -= j * (1 - i) * (u_mirrored - tf.sigmoid(a))
                gradients[site] = rules.times(f_difference, weight) / 2
        # Below the last level both samples are samples of the model: all else may average them.
        objectives = [(0.5, one.objective), (0.5, objective)]
        return Estimate([[gradients[site] for site in one.sites]], objectives=objectives)
