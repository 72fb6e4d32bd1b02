"""Measure-valued derivatives of counts: two samples that differ in one unit."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.relaxations import Counts
from tf_relax._src.relaxations.noise import open_uniform


@keras.saving.register_keras_serializable(package="tf_relax")
class MeasureValued(Estimator):
    r"""Measure-valued derivatives: a count is compared with a larger one; unbiased.

    $$g = \sum_j \lvert w_j \rvert \mathrm{sign}(w_i) [f(b + m e_i) - f(b)] e_i$$

    with unit $i$ drawn in proportion to $\lvert w \rvert$. Mohamed et al. (2020), section 6: the
    derivative of a count's distribution is a weight $w$ times the difference of two distributions,
    here that of the count and $m$ more and that of the count. Samples of the two share all that
    they have in common. For Poisson units $w$ is the rate and $m = 1$; for geometric ones
    $w = q - 1$ and $m$ is 1 and another draw. One unit per example and layer is compared: one
    evaluation of the objective and one more per layer.

    Example:

    >>> MeasureValued().unbiased
    True
    """

    papers = ("mohamed2020",)
    needs = (Counts,)
    needs_separate_examples = True
    num_noises = 3

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = []
        for site in one.sites:
            a, relaxation = site.logits, site.layer.relaxation
            w = relaxation.weak_weight(a)
            chosen = _one_in_proportion(tf.abs(w), site.noises[1])
            b = site.b + chosen * relaxation.more(a, site.noises[2])
            objective = one.replaced([site], [site.draw._replace(z=b, b=b)])
            f_difference = one.signal(objective) - one.f
            total = tf.reduce_sum(tf.reshape(tf.abs(w), [tf.shape(w)[0], -1]), axis=1)
            gradients.append(rules.times(total * f_difference, chosen * tf.sign(w)))
        return Estimate([gradients])


def _one_in_proportion(weights: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Returns 1 for one unit of every example, drawn in proportion to `weights`, 0 for others."""
    flat = tf.reshape(weights, [tf.shape(weights)[0], -1])
    until = tf.cumsum(flat, axis=1)
    u = open_uniform(tf.shape(until[:, :1]), until.dtype, noise)
    chosen = tf.reduce_sum(tf.cast(until < u * until[:, -1:], tf.int32), axis=1)
    one_hot = tf.one_hot(chosen, tf.shape(flat)[1], dtype=weights.dtype)
    return tf.reshape(one_hot, tf.shape(weights))
