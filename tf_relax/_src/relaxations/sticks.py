"""Categorical choices by breaking a stick: a chain of yes-or-no decisions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.bernoulli import Bernoulli
from tf_relax._src.relaxations.capabilities import Antithetic, Conditional, Enumerable, KnownMean
from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import where_possible
from tf_relax._src.relaxations.law import LOGISTIC
from tf_relax._src.relaxations.relaxation import Draw

_bernoulli = Bernoulli()


class Sticks(Antithetic, Conditional, KnownMean, Enumerable):
    r"""$K - 1$ logistic sticks $z = a + l$; the choice is the first $k$ with $z_k > 0$, or $K$.

    $$p(b = k) = \sigma(a_k) \prod_{j<k} \sigma(-a_j)$$

    is the stick-breaking construction of Linderman et al. (2017). Sticks up to the choice are
    consulted, and behave as Bernoulli units; those after it say nothing about $b$, so given $b$
    they are as free as before. `stick_logits` turns the logits of a softmax into those of its
    sticks.

    Example:

    >>> import tensorflow as tf
    >>> draw = Sticks().sample(tf.constant([[-80.0, 80.0]]), tf.zeros((1, 2)))
    >>> print(draw.b.numpy())
    [[0. 1. 0.]]
    """

    choice_rank = 1
    law = LOGISTIC

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return _bernoulli.bounded(a)

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return _bernoulli.shown(a, x)

    def check_event(self, event_shape: tf.TensorShape) -> None:
        if event_shape.rank < 1 or event_shape[-1] is None or event_shape[-1] < 1:
            raise ValueError(
                "expects logits of shape [batch, ..., categories - 1], one per stick. "
                f"Received: [batch, {shown(event_shape)}]"
            )

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        size = logits_shape[-1]
        return logits_shape[:-1].concatenate([None if size is None else size + 1])

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray:
        categories, choices = event_shape[-1] + 1, math.prod(event_shape[:-1])
        chosen = itertools.product(np.eye(categories), repeat=choices)
        return np.array(list(chosen)).reshape([-1, *event_shape[:-1], categories])

    def num_outcomes(self, event_shape: tf.TensorShape) -> int:
        return (event_shape[-1] + 1) ** math.prod(event_shape[:-1])

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        return Draw(noise=noise, z=z, b=break_stick(tf.cast(z > 0, z.dtype)))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return tf.reduce_sum(draw.b * log_probabilities(a), axis=-1)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        log_p = log_probabilities(a)
        return tf.reduce_sum(y * where_possible(log_p, log_p), axis=-1)  # linear in y

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        log_q, log_p = log_probabilities(a), log_probabilities(prior)
        return tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=-1)

    def entropy(self, a: tf.Tensor) -> tf.Tensor:
        log_q = log_probabilities(a)
        return -tf.reduce_sum(tf.exp(log_q) * log_q, axis=-1)

    def uniform_logits(self, event_shape: tf.TensorShape) -> np.ndarray:
        # Behind stick k (from 0) lie K - 1 - k categories.
        logits = -np.log(np.arange(event_shape[-1], 0, -1.0))
        return np.broadcast_to(logits, event_shape).copy()

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return consulted(draw.b) * _bernoulli.score(a, signs(draw))

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return _bernoulli.relaxed_score(a, draw)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        given_sign = _bernoulli.conditional(a, signs(draw), noise)
        return tf.where(consulted(draw.b) > 0, given_sign, a + noise)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        return consulted(draw.b) * _bernoulli.delta_vjp(a, signs(draw), h)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return break_stick(tf.sigmoid(z / temperature), tf.sigmoid(-z / temperature))

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.exp(log_probabilities(a))

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        log_p = log_probabilities(a)
        return tf.one_hot(tf.argmax(log_p, axis=-1), log_p.shape[-1], dtype=a.dtype)


def break_stick(first: tf.Tensor, rest: tf.Tensor | None = None) -> tf.Tensor:
    """Returns ``y_k = first_k prod_{j<k} rest_j``, and what is left in the end, `[..., K]`."""
    rest = 1 - first if rest is None else rest
    one = tf.ones_like(first[..., :1])
    left = tf.concat([one, tf.math.cumprod(rest, axis=-1)], axis=-1)
    return left * tf.concat([first, one], axis=-1)


def consulted(b: tf.Tensor) -> tf.Tensor:
    """Returns 1 for sticks up to the choice, 0 for those after it, `[..., K - 1]`."""
    return 1 - tf.cumsum(b, axis=-1, exclusive=True)[..., :-1]


def signs(draw: Draw) -> Draw:
    """Returns the draw as Bernoulli units, one per stick."""
    return draw._replace(b=draw.b[..., :-1])


def log_probabilities(a: tf.Tensor) -> tf.Tensor:
    """Returns ``log p(b = k)`` of sticks, `[..., K]`."""
    zero = tf.zeros_like(a[..., :1])
    left = tf.cumsum(tf.math.log_sigmoid(-a), axis=-1)
    return tf.concat([zero, left], axis=-1) + tf.concat([tf.math.log_sigmoid(a), zero], axis=-1)


def stick_logits(logits: tf.Tensor) -> tf.Tensor:
    r"""Returns the sticks of a softmax.

    $$a_k = x_k - \log \sum_{j>k} e^{x_j}$$

    for logits $x$.

    Args:
        logits: `[..., K]`.

    Returns:
        Logits of the sticks, `[..., K - 1]`.

    Example:

    >>> import tensorflow as tf
    >>> print(stick_logits(tf.constant([0.0, 0.0])).numpy())
    [0.]
    """
    after = tf.math.cumulative_logsumexp(logits, axis=-1, reverse=True)
    return logits[..., :-1] - after[..., 1:]
