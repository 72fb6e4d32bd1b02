"""CARMS by stick-breaking: ARMS for categories, whose sticks are coupled by a Dirichlet copula."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.estimators.leave_one_out import check_samples
from tf_relax._src.relaxations import Categorical, Draw
from tf_relax._src.sites import Site


@keras.saving.register_keras_serializable(package="tf_relax")
class SbCarms(Estimator):
    r"""CARMS by stick-breaking: ARMS for categories; unbiased.

    $$g = \frac{1}{K (K - 1)} \sum_{i < j, b_i \ne b_j} W_m (f_i - f_j) (b_i - b_j)$$

    Dimitriev and Zhou (2021), section 4; for $K = 2$ it is DisARM-IW (Dong et al. 2021). The
    categories of every choice are sorted by their probability, the rarest first,
    $s_i = p_i / \sum_{j \ge i} p_j$ are sticks of at most 1/2, and the $K$ samples of a stick are
    coupled as in ARMS: a pair takes stick $i$ together with probability
    $\Phi_i = \max(0, 2 s_i^{1 / (K - 1)} - 1)^{K - 1}$. Sample $k$ is the first category with
    $u_k < s$. What the coupling does to the frequency of a pair, of which the rarer comes $m$-th,

    $$W_m = \frac{s_m (1 - s_m)}{s_m - \Phi_m}
        \prod_{i < m} \frac{(1 - s_i)^2}{1 - 2 s_i + \Phi_i}$$

    undoes. $K$ evaluations of the objective; with $L$ levels of layers $1 + (K - 1) L$.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> SbCarms(num_samples=3)
    SbCarms(num_samples=3)
    """

    papers = ("dimitriev2021carms",)
    needs = (Categorical,)

    def __init__(self, num_samples: int = 4):
        self.num_samples = check_samples("SbCarms", num_samples)
        # Of the sample, of its sticks given what it is, and of the sticks of all others.
        self.num_noises = self.num_samples + 1

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        count, gradients = self.num_samples, {}
        for level in one.sites.levels():
            samples = [_coupled(site, count) for site in level]
            more = [
                one.replaced(level, [of_site.draws[k] for of_site in samples])
                for k in range(1, count)
            ]
            f = [one.f, *(one.signal(f_k) for f_k in more)]
            for site, of_site in zip(level, samples, strict=True):
                pairs = [
                    rules.times(f[i] - f[j], of_site.difference(i, j))
                    for i, j in itertools.combinations(range(count), 2)
                ]
                gradients[site] = tf.add_n(pairs) / (count * (count - 1))
        # Below the last level all samples are samples of the model: all else may average them.
        objectives = [(1 / count, objective) for objective in [one.objective, *more]]
        return Estimate([[gradients[site] for site in one.sites]], objectives=objectives)

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}


class _Coupled(NamedTuple):
    """The K samples of a site.

    Attributes:
        draws: of which the first was recorded.
        ranks: of their categories, the rarest being 0, `[batch, ...]`.
        weights: W by rank, `[batch, ..., C - 1]`.
    """

    draws: list[Draw]
    ranks: list[tf.Tensor]
    weights: tf.Tensor

    def difference(self, i: int, j: int) -> tf.Tensor:
        """Returns ``W_m (b_i - b_j)``, zero where both are one category."""
        # The most probable one is never the rarer of two.
        rarer = tf.minimum(tf.minimum(self.ranks[i], self.ranks[j]), self.weights.shape[-1] - 1)
        weight = tf.gather(self.weights, rarer, batch_dims=rarer.shape.rank)
        return weight[..., tf.newaxis] * (self.draws[i].b - self.draws[j].b)


def _coupled(site: Site, count: int) -> _Coupled:
    """Returns the recorded sample of a site and others that are coupled with it."""
    relaxation, a = site.layer.relaxation, site.logits
    log_p = tf.nn.log_softmax(a)
    order = tf.argsort(log_p, axis=-1)
    batch_dims = order.shape.rank - 1
    sorted_log_p = tf.gather(log_p, order, batch_dims=batch_dims)
    log_s = sorted_log_p - tf.math.cumulative_logsumexp(sorted_log_p, axis=-1, reverse=True)
    b = tf.gather(site.b, order, batch_dims=batch_dims)
    log_v, *log_e = [-tf.exp(-noise) for noise in site.noises[1:]]  # logarithms of uniforms
    draws = [site.draw]
    ranks = [tf.argmax(b, axis=-1, output_type=tf.int32)]
    for log_u in _others(_given_choice(log_s, b, log_v), [-x for x in log_e]):
        # The last stick is certain.
        taken = tf.concat([log_u < log_s, tf.ones_like(b[..., :1], tf.bool)], axis=-1)
        rank = tf.argmax(taken, axis=-1, output_type=tf.int32)
        category = tf.gather(order, tf.minimum(rank, order.shape[-1] - 1), batch_dims=batch_dims)
        draws.append(relaxation.forced(a, tf.one_hot(category, a.shape[-1], dtype=a.dtype)))
        ranks.append(rank)
    return _Coupled(draws, ranks, _weights(log_s[..., :-1], count))


def _given_choice(log_s: tf.Tensor, b: tf.Tensor, log_v: tf.Tensor) -> tf.Tensor:
    """Returns ``log u`` of the sticks of a sample: below s at its own, above at those before it."""
    after = tf.cumsum(b, axis=-1, exclusive=True)
    # u = s + (1 - s) v, by what is missing from 1.
    above = tf.math.log1p(tf.math.expm1(log_s) * -tf.math.expm1(log_v))
    return tf.where(b > 0, log_s + log_v, tf.where(after > 0, log_v, above))


def _others(log_u: tf.Tensor, exponentials: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the ``log u_k`` that the Dirichlet copula couples with one of them.

    With ``d_1 = 1 - u^(1/(K-1))`` the others share ``1 - d_1`` as independent exponentials do.
    """
    power = len(exponentials)
    log_rest = log_u / power
    total = tf.add_n(exponentials)
    coupled = []
    for k in range(power):
        # 1 - d_k, added up of d_1 and the parts of all others: nothing cancels.
        others = tf.add_n([tf.zeros_like(total), *exponentials[:k], *exponentials[k + 1 :]])
        share = tf.exp(log_rest) * others / total
        coupled.append(power * tf.math.log(share - tf.math.expm1(log_rest)))
    return coupled


def _weights(log_s: tf.Tensor, count: int) -> tf.Tensor:
    """Returns W for every rank but the last, from its sticks."""
    s, power = tf.exp(log_s), count - 1
    phi = tf.maximum(2 * tf.exp(log_s / power) - 1, 0) ** power
    # Of a pair that comes to the last stick, 1/2 at most, nobody has to pass it.
    before, together = s[..., :-1], phi[..., :-1]
    passed = 2 * tf.math.log1p(-before) - tf.math.log(1 - 2 * before + together)
    passed = tf.concat([tf.zeros_like(s[..., :1]), tf.cumsum(passed, axis=-1)], axis=-1)
    # s_m (1 - s_m) / (s_m - Phi_m), where s may be too small to be a number.
    taken = tf.math.log1p(-s) - tf.math.log1p(-tf.math.divide_no_nan(phi, s))
    return tf.exp(passed + taken)
