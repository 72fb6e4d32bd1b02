"""Permutations by breaking sticks, entry by entry of the matrix."""

from __future__ import annotations

import itertools
import math

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.bernoulli import Bernoulli
from tf_relax._src.relaxations.capabilities import Antithetic, Conditional, Enumerable
from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import where_possible
from tf_relax._src.relaxations.law import LOGISTIC
from tf_relax._src.relaxations.relaxation import Draw

_bernoulli = Bernoulli()


class StickBreakingPermutation(Antithetic, Conditional, Enumerable):
    r"""Entries of a doubly stochastic matrix, broken off one after the other.

    $$x_{mn} = l + \beta_{mn} (u - l)$$

    Linderman et al. (2018), section 3.1: $u$ is the least of what row $m$ and column $n$ have left,
    and $l$ what the columns after $n$ cannot take of it. The relaxed $\beta = \sigma(z / t)$, $z$
    a logit plus logistic noise, gives points inside the Birkhoff polytope. At
    $\beta = \mathbf{1}[z > 0]$ the same map gives a permutation, always; a stick with $u = l$ has
    nothing to decide, and the others are Bernoulli units. So

    $$\log p(b) = \sum_{u > l} \log \sigma(s a), \quad s = 2 \beta - 1$$

    exactly, and RELAX applies, which the paper does not use.

    Logits are those of the $(n - 1) \times (n - 1)$ sticks; the map takes $(n - 1)^2$ steps.

    Example:

    >>> import tensorflow as tf
    >>> draw = StickBreakingPermutation().sample(tf.constant([[[-9.0]]]), tf.zeros((1, 1, 1)))
    >>> print(draw.b.numpy())
    [[[0. 1.]
      [1. 0.]]]
    """

    choice_rank = 2
    law = LOGISTIC

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return _bernoulli.bounded(a)

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return _bernoulli.shown(a, x)

    def check_event(self, event_shape: tf.TensorShape) -> None:
        square = event_shape.rank >= 2 and event_shape[-1] == event_shape[-2]
        if not square or event_shape[-1] is None or event_shape[-1] < 1:
            raise ValueError(
                "expects logits of shape [batch, ..., n - 1, n - 1] for permutations of n items, "
                f"one per stick. Received: [batch, {shown(event_shape)}]"
            )

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        size = logits_shape[-1]
        n = None if size is None else size + 1
        return logits_shape[:-2].concatenate([n, n])

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        if event_shape.rank > 2:
            return None
        return permutation_matrices(event_shape[-1] + 1)

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        return math.factorial(event_shape[-1] + 1) if event_shape.rank == 2 else None

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        return Draw(noise=noise, z=z, b=break_sticks(tf.cast(tf.stop_gradient(z) > 0, z.dtype)))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return consulted(draw.b) * _bernoulli.log_prob(a, _bits(draw))

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        # (u - l) log Bernoulli(beta; a) with beta = (y - l) / (u - l): exact at hard samples.
        lower, upper = _bounds(y)
        free = (upper - lower)[..., :-1, :-1]
        uncertain = where_possible(-tf.abs(a), a)
        log_p = (y - lower)[..., :-1, :-1] * uncertain - free * tf.nn.softplus(uncertain)
        return where_possible(-tf.abs(a), log_p)

    def uniform_logits(self, event_shape: tf.TensorShape) -> np.ndarray:
        # Consulted sticks of a row lie among the columns that are left, which depends on the rows
        # before it: no logits make all permutations equally likely. These make them so in the first
        # row.
        logits = -np.log(np.arange(event_shape[-1], 0, -1.0))
        return np.broadcast_to(logits, event_shape).copy()

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return consulted(draw.b) * _bernoulli.score(a, _bits(draw))

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return _bernoulli.relaxed_score(a, draw)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        given_sign = _bernoulli.conditional(a, _bits(draw), noise)
        return tf.where(consulted(draw.b) > 0, given_sign, a + noise)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        return consulted(draw.b) * _bernoulli.delta_vjp(a, _bits(draw), h)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return break_sticks(tf.sigmoid(z / temperature))


def permutation_matrices(n: int) -> np.ndarray:
    """Returns all permutation matrices, `[n!, n, n]`."""
    return np.array([np.eye(n)[list(order)] for order in itertools.permutations(range(n))])


def break_sticks(beta: tf.Tensor) -> tf.Tensor:
    """Maps `[..., n - 1, n - 1]` numbers in [0, 1] to a doubly stochastic matrix, `[..., n, n]`."""
    n = beta.shape[-1] + 1
    column_rest = [tf.ones_like(beta[..., 0, 0]) for _ in range(n)]
    rows = []
    for m in range(n - 1):
        row, row_rest = [], tf.ones_like(beta[..., 0, 0])
        for k in range(n - 1):
            upper = tf.minimum(row_rest, column_rest[k])
            lower = tf.maximum(row_rest - tf.add_n(column_rest[k + 1 :]), 0)
            x = lower + beta[..., m, k] * (upper - lower)
            row.append(x)
            row_rest -= x
            column_rest[k] -= x
        row.append(row_rest)
        column_rest[-1] -= row_rest
        rows.append(tf.stack(row, axis=-1))
    rows.append(tf.stack(column_rest, axis=-1))
    return tf.stack(rows, axis=-2)


def consulted(b: tf.Tensor) -> tf.Tensor:
    """Returns 1 for sticks that had something to decide, ``u > l``, `[..., n - 1, n - 1]`."""
    lower, upper = _bounds(b)
    # At hard samples all of these are whole numbers.
    return tf.stop_gradient(tf.cast(upper - lower > 0.5, b.dtype))[..., :-1, :-1]


def _bounds(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the least and the most that entries could be, given those before them."""
    row_rest = 1 - tf.cumsum(x, axis=-1, exclusive=True)
    column_rest = 1 - tf.cumsum(x, axis=-2, exclusive=True)
    columns_after = tf.cumsum(column_rest, axis=-1, exclusive=True, reverse=True)
    return tf.maximum(row_rest - columns_after, 0), tf.minimum(row_rest, column_rest)


def _bits(draw: Draw) -> Draw:
    """Returns the draw as Bernoulli units: a stick that was consulted is its entry."""
    return draw._replace(b=draw.b[..., :-1, :-1])
