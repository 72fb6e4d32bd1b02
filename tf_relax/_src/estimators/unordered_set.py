"""The unordered set estimator: several categories of one choice, drawn without replacement."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes
from tf_relax._src.estimators.leave_one_out import check_samples
from tf_relax._src.relaxations import Categorical, Draw
from tf_relax._src.sites import Site

# Nodes and weights of integrals over the arrival time e^y of an exponential race.
_Y = np.arange(-40.0, 4.25, 0.25)
_WEIGHTS = 0.25 * np.exp(_Y - np.exp(_Y))
# What is left of the probability is nothing beside that of a set.
_NOTHING_LEFT = -28.0


@keras.saving.register_keras_serializable(package="tf_relax")
class UnorderedSet(Estimator):
    r"""The unordered set estimator: $k$ categories of a choice, without replacement; unbiased.

    $$g = \sum_{s \in S} p_s R_s (f_s - \beta_s) \nabla_a \log p(s \mid a)$$

    Kool, van Hoof and Welling (2020), equations 10 and 15. $S$ are the $k$ categories with the
    largest perturbed logits, $k$ samples without replacement, and $f$ is evaluated at each. With
    $P_s$ the probability of $S \setminus s$ where the categories are $D \setminus s$, and $P_{st}$
    that of $S \setminus \{s, t\}$ where they are $D \setminus \{s, t\}$,

    $$R_s = \frac{P_s}{p(S)}$$

    are the leave-one-out ratios of the probabilities of the set, and the baselines are

    $$\beta_s = \sum_{t \in S} p_t \frac{P_{st}}{P_s} f_t$$

    For one choice per example, whose distribution has a few likely categories (attention, routing,
    actions); where $S$ holds them all, it is exact. $k$ evaluations of the objective; with several
    layers $1 + (k - 1)$ for every call of one.

    Args:
        num_samples: $k$, at least 2.

    Raises:
        ValueError: for fewer than two samples; (from the step) for layers of several choices, and
            if batch statistics of samples couple the examples.

    Example:

    >>> UnorderedSet(num_samples=3)
    UnorderedSet(num_samples=3)
    """

    papers = ("kool2020",)
    needs = (Categorical,)
    needs_separate_examples = True

    def __init__(self, num_samples: int = 4):
        self.num_samples = check_samples("UnorderedSet", num_samples)

    def estimate(self, passes: Passes) -> Estimate:
        (one,) = passes
        gradients = []
        for site in one.sites:
            a, draws = site.logits, self._draws(site)
            more = [one.replaced([site], [draw]) for draw in draws[1:]]
            f = tf.stack([one.f, *(one.signal(f_k) for f_k in more)], axis=-1)
            log_p = tf.stack([site.layer.relaxation.log_prob(a, draw) for draw in draws], axis=-1)
            weights, baseline_weights = set_weights(log_p, _log_left(a, draws))
            baseline = tf.einsum("bst,bt->bs", baseline_weights, f)
            signals = tf.unstack(weights * (f - baseline), axis=-1)
            terms = [
                rules.score_function(site.layer.relaxation, a, draw, signal)
                for draw, signal in zip(draws, signals, strict=True)
            ]
            gradients.append(tf.add_n(terms))
        # What lies below the last layer descends the mean over its categories.
        objectives = list(zip(tf.unstack(weights, axis=-1), [one.objective, *more], strict=True))
        return Estimate([gradients], objectives=objectives)

    def _draws(self, site: Site) -> list[Draw]:
        """Returns the categories that a set holds, of which the first was recorded."""
        if site.logits.shape.rank != 2:
            raise ValueError(
                f"{self} is for one choice per example, and {type(site.layer).__name__} "
                f"'{site.name}' makes several, with logits of shape {site.logits.shape}. Use "
                "'relax', 'sb_carms' or 'leave_one_out'."
            )
        categories = site.logits.shape[-1]
        _, first = tf.math.top_k(site.z, min(self.num_samples, categories))
        others = [
            tf.one_hot(category, categories, dtype=site.logits.dtype)
            for category in tf.unstack(first, axis=-1)[1:]
        ]
        forced = [site.layer.relaxation.forced(site.logits, other) for other in others]
        return [site.draw, *forced]

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}


def _log_left(a: tf.Tensor, draws: list[Draw]) -> tf.Tensor:
    """Returns the logarithm of the probability of all categories that are not in the set."""
    drawn = tf.add_n([draw.b if draw.trace is None else draw.trace for draw in draws])
    log_p = tf.nn.log_softmax(a)
    return tf.reduce_logsumexp(tf.where(drawn > 0, tf.constant(a.dtype.min, a.dtype), log_p), -1)


def set_weights(log_p: tf.Tensor, log_left: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Returns the weights of the elements of a set, and those of their baselines.

    By the race of exponentials, ``p(S) = integral of exp(-t) prod_s (1 - exp(-lambda_s t)) dt``
    with ``lambda_s = p_s / p(not S)``: all of S arrive before any other. The same without s, or
    without s and t, gives what the weights need (Kool et al. 2020, appendix B).

    Args:
        log_p: of the elements of the set, `[batch, k]`.
        log_left: of all others, `[batch]`.

    Returns:
        ``p_s R_s``, `[batch, k]`, and ``p_t p(S \ {s, t}) / p(S \ s)``, `[batch, k, k]`.
    """
    y, w = (tf.constant(x, log_p.dtype) for x in (_Y, _WEIGHTS))
    whole = log_left < _NOTHING_LEFT
    left = tf.where(whole, tf.zeros_like(log_left), log_left)
    log_lambda = log_p - left[:, tf.newaxis]
    # log(1 - exp(-lambda e^y)), `[batch, k, nodes]`.
    log_x = log_1mexp(tf.minimum(log_lambda[..., tf.newaxis] + y, 80.0))
    total = tf.reduce_sum(log_x, axis=1)
    without = total[:, tf.newaxis] - log_x
    log_w = tf.math.log(w)
    log_set = tf.reduce_logsumexp(log_w + total, axis=-1)
    log_without = tf.reduce_logsumexp(log_w + without, axis=-1)
    both = without[:, :, tf.newaxis] - log_x[:, tf.newaxis]
    log_both = tf.reduce_logsumexp(log_w + both, axis=-1)
    same = tf.eye(log_p.shape[-1], dtype=tf.bool)
    log_both = tf.where(same, log_without[:, :, tf.newaxis], log_both)
    ratio = log_without - log_set[:, tf.newaxis]
    ratios = log_both - log_without[:, :, tf.newaxis]
    # A set of all there is has one probability, 1.
    ratio = tf.where(whole[:, tf.newaxis], tf.zeros_like(ratio), ratio)
    ratios = tf.where(whole[:, tf.newaxis, tf.newaxis], tf.zeros_like(ratios), ratios)
    weights = tf.exp(log_p + ratio), tf.exp(log_p[:, tf.newaxis] + ratios)
    return tf.stop_gradient(weights[0]), tf.stop_gradient(weights[1])


def log_1mexp(log_x: tf.Tensor) -> tf.Tensor:
    """Returns ``log(1 - exp(-x))`` for a logarithm of x, however small x is."""
    x = tf.exp(log_x)
    return tf.where(log_x < -7, log_x - x / 2, tf.math.log(-tf.math.expm1(-x)))
