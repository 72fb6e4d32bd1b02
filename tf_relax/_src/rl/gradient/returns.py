"""What follows a step: discounted sums along trajectories, and returns that bootstrap."""

from __future__ import annotations

import tensorflow as tf


def discounted_sums(x: tf.Tensor, factors: tf.Tensor, last: tf.Tensor | float = 0.0) -> tf.Tensor:
    r"""Sums backwards, ``y_t = x_t + factor_t y_{t+1}``, with ``y_T = last``.

    Args:
        x: `[steps, trajectories]`.
        factors: of the same shape; 0 where an episode ends.
        last: `[trajectories]`, what follows the last step.

    Returns:
        `[steps, trajectories]`.

    Example:

    >>> import tensorflow as tf
    >>> y = discounted_sums(tf.ones((3, 1)), tf.constant([[0.5], [0.0], [0.5]]), last=10.0)
    >>> print(y.numpy().ravel())
    [1.5 1.  6. ]
    """
    last = tf.broadcast_to(tf.cast(last, x.dtype), tf.shape(x)[1:])
    return tf.scan(lambda y, row: row[0] + row[1] * y, (x, factors), initializer=last, reverse=True)


def lambda_returns(
    rewards: tf.Tensor,
    next_values: tf.Tensor,
    done: tf.Tensor,
    gamma: float,
    gae_lambda: float | None,
) -> tf.Tensor:
    r"""Estimates of what follows every step, which generalised advantages are made of.

    ``R_t = r_t + gamma [(1 - lambda) V(s_{t+1}) + lambda R_{t+1}]``; ``R_t - V(s_t)`` is the
    generalised advantage of Schulman et al. (2016), equation 16. Where an episode or the recording
    stops, ``R_{t+1}`` is ``V(s_{t+1})``.

    ``lambda = 1`` sums the rewards that were received: with recordings of whole episodes it is
    unbiased. Below 1 the value function takes the place of later rewards, which is quieter, and
    biased as far as it is wrong. No control variate mends that.

    Args:
        rewards: `[steps, trajectories]`.
        next_values: ``V(s_{t+1})``, of the same shape; 0 after a terminal state.
        done: 1.0 where an episode ends after the step, 0.0 elsewhere.
        gamma: discount per step.
        gae_lambda: ``lambda``; `None` is 1.

    Returns:
        `[steps, trajectories]`.

    Example:

    >>> import tensorflow as tf
    >>> column = lambda *x: tf.constant(x)[:, tf.newaxis]
    >>> R = lambda_returns(column(1.0, 2.0), column(7.0, 4.0), column(0.0, 0.0), gamma=0.5,
    ...                    gae_lambda=None)
    >>> print(R.numpy().ravel())  # 2 + 4 / 2, then 1 + 4 / 2
    [3. 4.]
    """
    lam = (1.0 if gae_lambda is None else gae_lambda) * (1 - done)
    # After the last row nothing was recorded: the value is all there is.
    lam = tf.concat([lam[:-1], tf.zeros_like(lam[-1:])], axis=0)
    return discounted_sums(rewards + gamma * (1 - lam) * next_values, gamma * lam)
