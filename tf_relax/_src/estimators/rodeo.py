"""RODEO: leave-one-out with control variates made by a discrete Stein operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import (
    Estimate,
    Passes,
    sampled,
    score,
)
from tf_relax._src.estimators.leave_one_out import IndependentSamples
from tf_relax._src.losses.relaxable import Relaxable
from tf_relax._src.relaxations import BinaryUnits
from tf_relax._src.sites import Site
from tf_relax._src.sites.layer import StochasticLayer
from tf_relax._src.surrogates import Stein


@keras.saving.register_keras_serializable(package="tf_relax")
class Rodeo(IndependentSamples):
    r"""Leave-one-out with Stein control variates inside the baseline and outside; unbiased.

    $$g = \frac{1}{K} \sum_k \{[f_k - \frac{1}{K - 1} \sum_{j \ne k} (f_j + \alpha (A h_j)(b_j))]
        (b_k - \mu) + \beta (A G_k)(b_k)\}$$

    Shi et al. (2022), with $\mu = \mathbb{E}[b]$ and $G_k(y) = g_k(y) (y - \mu)$. The Gibbs
    operator

    $$(A h)(b) = \frac{1}{D} \sum_i w_i [h(b^{(i)}) - h(b)]$$

    where $b^{(i)}$ is $b$ with unit $i$ flipped and $w_i$ the probability of that unit's other
    value, has expectation zero for every $h$. $h_k$ and $g_k$ are built from the other samples
    alone,

    $$(h_k, g_k)(y) = \frac{1}{K - 1} \sum_{j \ne k} H(f_j, f'(b_j)^T (y - b_j))$$

    where $H$ is a small network; $H$, $\alpha$ and $\beta$ are learned on the variance of $g$, per
    layer. No evaluation of the objective at the flipped samples is needed: $K$ evaluations of it
    and of its derivative. For binary units and differentiable objectives.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> Rodeo(num_samples=3)
    Rodeo(num_samples=3)
    """

    papers = ("shi2022",)
    needs = (BinaryUnits,)

    needs_differentiable_objective = True

    def build(self, layer: StochasticLayer, relaxable: Relaxable) -> Stein:
        return Stein(name=layer.name, dtype=layer.noise_dtype)

    def estimate(self, passes: Passes) -> Estimate:
        f = [one.f for one in passes]
        derivatives = list(zip(*[one.derivative() for one in passes], strict=True))
        gradients: list[list[tf.Tensor]] = [[] for _ in passes]
        for s, sites in enumerate(zip(*[one.sites for one in passes], strict=True)):
            stein = sites[0].state
            views = [_neighbourhood(k, f, sites, derivatives[s]) for k in range(len(passes))]
            inner = [
                f_k + stein.inner_scale * _gibbs(site, view.h, view.h_flipped)
                for f_k, site, view in zip(f, sites, views, strict=True)
            ]
            baselines = rules.mean_of_others(inner)
            for k, (site, view) in enumerate(zip(sites, views, strict=True)):
                g = rules.score_function(*sampled(site), f[k] - baselines[k])
                g += stein.outer_scale * _gibbs_of_scores(site, view.g, view.g_flipped)
                gradients[k].append(g / len(passes))
        return Estimate(gradients, surrogate_loss=rules.squared_gradient(gradients))


class _Neighbourhood(NamedTuple):
    """h and g of one sample, `[batch]`, and at its D neighbours, `[batch, D]`."""

    h: tf.Tensor
    h_flipped: tf.Tensor
    g: tf.Tensor
    g_flipped: tf.Tensor


def _flat(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], -1])


def _neighbourhood(
    k: int,
    f: Sequence[tf.Tensor],
    sites: Sequence[Site],
    derivatives: Sequence[tf.Tensor],
) -> _Neighbourhood:
    """Evaluates ``(h_k, g_k)`` at sample k and its neighbours, as the other samples see them."""
    b = _flat(sites[k].b)
    seen = []
    for j, site in enumerate(sites):
        if j != k:
            derivative = _flat(derivatives[j])
            slope = tf.reduce_sum(derivative * (b - _flat(site.b)), axis=1, keepdims=True)
            # Flipping unit i moves b_i by 1 - 2 b_i.
            slopes = tf.concat([slope, slope + (1 - 2 * b) * derivative], axis=1)
            seen.append(site.state(f[j][:, tf.newaxis], slopes))
    h, g = (tf.add_n(list(each)) / len(seen) for each in zip(*seen, strict=True))
    return _Neighbourhood(h[:, 0], h[:, 1:], g[:, 0], g[:, 1:])


def _gibbs(site: Site, h: tf.Tensor, h_flipped: tf.Tensor) -> tf.Tensor:
    """Returns ``(A h)(b) = mean_i w_i [h(b^(i)) - h(b)]``, `[batch]`."""
    w = _flat(tf.abs(score(site)))  # of a binary unit: the probability of its other value
    return tf.reduce_mean(w * (h_flipped - h[:, tf.newaxis]), axis=1)


def _gibbs_of_scores(site: Site, g: tf.Tensor, g_flipped: tf.Tensor) -> tf.Tensor:
    """Returns ``A`` applied to ``g(b) (b - mu)``, shaped like the logits.

    In neighbour i only factor i of ``b - mu`` changes, by ``1 - 2 b_i``.
    """
    s, b = _flat(score(site)), _flat(site.b)
    w, size = tf.abs(s), tf.cast(tf.shape(s)[1], s.dtype)
    own = w * (1 - 2 * b) * g_flipped / size
    return tf.reshape(s * _gibbs(site, g, g_flipped)[:, tf.newaxis] + own, tf.shape(site.logits))
