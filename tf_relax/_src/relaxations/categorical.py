"""Categorical choices by the Gumbel-argmax trick, stable in float32 for |a| <= 80."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.capabilities import (
    Antithetic,
    Conditional,
    Enumerable,
    Items,
    MeanOfLogits,
)
from tf_relax._src.relaxations.impossible import only_possible, where_possible
from tf_relax._src.relaxations.law import GUMBEL
from tf_relax._src.relaxations.relaxation import Draw


class Categorical(Items, Antithetic, Conditional, MeanOfLogits, Enumerable):
    r"""One-hot choices $b = \mathrm{argmax} \, z$ with $z = a + G$, $G$ Gumbel, over the last axis.

    With $L = \log \sum_k e^{a_k}$ the conditional sample is, at the choice and elsewhere,

    $$\tilde z_b = L + G_b$$

    $$\tilde z_k = -\log(e^{-\tilde z_b} + E_k e^{-a_k})$$

    with $E$ exponential (Tucker et al. 2017, appendix C; Grathwohl et al. 2018, appendix B, in
    logarithms). $e^{-z}$ are arrival times: the choice arrives after an exponential of rate $e^L$,
    all others an exponential of their own later.

    Example:

    >>> import tensorflow as tf
    >>> draw = Categorical().sample(tf.constant([[80.0, 0.0, -80.0]]), tf.zeros((1, 3)))
    >>> print(draw.b.numpy())
    [[1. 0. 0.]]
    """

    choice_rank = 1
    law = GUMBEL

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] is None or event_shape[-1] < 2:
            raise ValueError(
                "expects logits of shape [batch, ..., categories], with at least 2 categories of "
                f"fixed number on the last axis. Received: [batch, {shown(event_shape)}]"
            )

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray:
        categories, choices = event_shape[-1], math.prod(event_shape[:-1])
        chosen = itertools.product(np.eye(categories), repeat=choices)
        return np.array(list(chosen)).reshape([-1, *event_shape])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int:
        return event_shape[-1] ** math.prod(event_shape[:-1])

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        b = tf.one_hot(tf.argmax(z, axis=-1), z.shape[-1], dtype=z.dtype)
        return Draw(noise=noise, z=z, b=b * only_possible(z))

    def forced(self, a: tf.Tensor, outcome: tf.Tensor) -> Draw:
        # What was asked for, impossible or not, decides on its probability.
        outcome = tf.cast(outcome, a.dtype)
        b = outcome * only_possible(a)
        return Draw(noise=b, z=b, b=b, trace=outcome)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        b = draw.b if draw.trace is None else draw.trace
        return tf.reduce_sum(b * tf.nn.log_softmax(a), axis=-1)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(y * where_possible(a, tf.nn.log_softmax(a)), axis=-1)  # linear in y

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        log_ratio = tf.nn.log_softmax(a) - tf.nn.log_softmax(prior)
        return tf.reduce_sum(self.mean(a) * log_ratio, axis=-1)

    def entropy(self, a: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum(self.mean(a) * tf.nn.log_softmax(a), axis=-1)

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        others = (1 - draw.b) * self.mean(a)
        # b - p, where 1 - p_b is the sum of the others' p: nothing cancels.
        return draw.b * tf.reduce_sum(others, axis=-1, keepdims=True) - others

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return relaxed_gumbel_score(a, draw)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        first = tf.reduce_logsumexp(a, axis=-1, keepdims=True)
        first += tf.reduce_sum(draw.b * noise, axis=-1, keepdims=True)
        others = first - tf.nn.softplus(first - noise - a)  # log E = -noise
        return tf.where(draw.b > 0, first, others)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        r = tf.exp(draw.z - tf.reduce_max(draw.z, axis=-1, keepdims=True)) * only_possible(a)
        rh = r * h
        # dz~/da = diag(1 - r) + r p^T
        return rh - self.mean(a) * tf.reduce_sum(rh, axis=-1, keepdims=True)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(z / temperature) * only_possible(z)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(a) * only_possible(a)

    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return mean * (h - tf.reduce_sum(mean * h, axis=-1, keepdims=True))


def relaxed_gumbel_score(a: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Returns ``d log p(z | a)/da = 1 - exp(a - z)`` of Gumbels, zero at impossible items."""
    return where_possible(a, -tf.math.expm1(-draw.noise))  # z - a, unrounded


def shown(event_shape: tf.TensorShape) -> str:
    """Returns the dimensions of an event for a message."""
    return ", ".join("?" if size is None else str(size) for size in event_shape)
