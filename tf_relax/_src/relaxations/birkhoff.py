"""Permutations near the Birkhoff polytope: Sinkhorn's normalisation and the assignment problem."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

from tf_relax._src.relaxations.capabilities import Antithetic, Discrete, Items, Relaxed
from tf_relax._src.relaxations.categorical import shown
from tf_relax._src.relaxations.impossible import where_possible
from tf_relax._src.relaxations.law import GUMBEL, NORMAL
from tf_relax._src.relaxations.relaxation import Draw


def sinkhorn(log_x: tf.Tensor, iterations: int = 20) -> tf.Tensor:
    r"""Returns the doubly stochastic matrix that Sinkhorn's iteration makes of `exp(log_x)`.

    Rows and columns are normalised in turn, in logarithms (Mena et al. 2018, section 2.1).

    Args:
        log_x: `[..., n, n]`.
        iterations: how often rows and columns are normalised.

    Returns:
        `[..., n, n]`; columns sum to 1, rows do so nearly.

    Example:

    >>> import tensorflow as tf
    >>> print(sinkhorn(tf.zeros((2, 2))).numpy())
    [[0.5 0.5]
     [0.5 0.5]]
    """
    for _ in range(iterations):
        log_x -= tf.reduce_logsumexp(log_x, axis=-1, keepdims=True)
        log_x -= tf.reduce_logsumexp(log_x, axis=-2, keepdims=True)
    return tf.exp(log_x)


def assignment(x: tf.Tensor) -> tf.Tensor:
    r"""Returns the permutation matrix $P$ of the largest $\langle P, x \rangle$, by SciPy.

    It runs outside of TensorFlow, on the CPU, one matrix after the other, and not under XLA.

    Args:
        x: `[..., n, n]`, finite.

    Returns:
        Permutation matrices shaped like `x`, without a derivative.

    Example:

    >>> import tensorflow as tf
    >>> print(assignment(tf.constant([[1.0, 3.0], [0.0, 1.0]])).numpy())
    [[0. 1.]
     [1. 0.]]
    """
    result = tf.numpy_function(_assign, [tf.stop_gradient(x)], x.dtype, stateful=False)
    result.set_shape(x.shape)
    return result


def _assign(x: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    for matrix, score in zip(_matrices(result), _matrices(x), strict=True):
        if np.isfinite(score).all():
            matrix[linear_sum_assignment(score, maximize=True)] = 1
        else:
            matrix[:] = np.nan  # the solver would refuse all examples for one
    return result


def _matrices(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *x.shape[-2:])


class GumbelMatching(Items, Antithetic, Relaxed, Discrete):
    r"""The best assignment under $z = a + G$, $b = \mathrm{argmax}_P \langle P, z \rangle$.

    Gumbel-Matching, and Gumbel-Sinkhorn as its relaxation,
    $\mathrm{relax}(z, t) = \mathrm{Sinkhorn}(z / t)$ (Mena et al. 2018, sections 3 and 4). Neither
    $p(b)$ nor $z \mid b$ is known: `score` is that of $z$, which is one for every function of $z$,
    and hence for every function of $b$ (Grathwohl et al. 2018, equation 7). `kl` is that of $z$,
    $a - p + e^{p - a} - 1$ for the logits $p$ of the prior, and not less than that of $b$.

    With a `noise_scale` $s$ other than 1, $z = a + s G$, and the score is $(1 - e^{-G}) / s$.
    Without noise ($s = 0$) $z$ has no density, hence no score.

    Args:
        iterations: of Sinkhorn's normalisation.
        noise_scale: s, at least 0.
        name: who is to blame in error messages.
    """

    choice_rank = 2
    supports_jit = False
    initial_temperature = 1.0
    law = GUMBEL

    def __init__(
        self, iterations: int = 20, noise_scale: float = 1.0, name: str = "GumbelMatching"
    ):
        if not 0 <= noise_scale < float("inf"):
            raise ValueError(
                f"{name}: `noise_scale` must be finite and at least 0. Received: {noise_scale}"
            )
        self.iterations = iterations
        self.noise_scale = noise_scale
        self.name = name

    def check_event(self, event_shape: tf.TensorShape) -> None:
        check_square(event_shape, 1)

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + self.noise_scale * noise
        return Draw(noise=noise, z=z, b=assignment(z))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        raise NotImplementedError("The probability of a Gumbel matching is not known.")

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor:
        if self.noise_scale != 1:
            raise ValueError(
                f"{self.name}: the divergence is that of Gumbels of scale 1. Use noise_scale=1. "
                f"Received: {self.noise_scale}"
            )
        divergence = a - prior + tf.math.expm1(where_possible(a, prior - a))
        return where_possible(a, divergence)

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_score(a, draw)

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        if self.noise_scale == 0:
            raise ValueError(
                f"{self.name} has noise_scale=0: without noise there is no density, and no score "
                "to estimate a gradient with. Use 'concrete' or 'gumbel_straight_through', or a "
                "noise_scale above 0."
            )
        return -tf.math.expm1(-draw.noise) / self.noise_scale

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return sinkhorn(z / temperature, self.iterations)


class NearestPermutation(Antithetic, Relaxed, Discrete):
    r"""Normal noise around a doubly stochastic matrix, rounded to the nearest permutation.

    $$z = \mathrm{Sinkhorn}(e^M) + \nu \varepsilon,
        \quad b = \mathrm{argmax}_P \langle P, z \rangle$$

    Linderman et al. (2018), section 3.2. The parameters are $M$ and $\log \nu$ side by side on the
    last axis, `[..., n, 2 n]`. As with `GumbelMatching`, `score` is that of $z$. `pathwise` is the
    paper's own relaxation, $t z + (1 - t) b$; it jumps where $b$ does, and a surrogate must not, so
    `relax` is $z$.

    Args:
        iterations: of Sinkhorn's normalisation.
    """

    supports_jit = False
    law = NORMAL
    initial_temperature = None  # what stands for z in a surrogate is z

    def __init__(self, iterations: int = 20):
        self.iterations = iterations

    def check_event(self, event_shape: tf.TensorShape) -> None:
        check_square(event_shape, 2)

    def relaxed_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        return logits_shape[:-1].concatenate(logits_shape[-2:-1])

    def _z(self, a: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        m, log_nu = tf.split(a, 2, axis=-1)
        return sinkhorn(m, self.iterations) + tf.exp(log_nu) * noise

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = self._z(a, noise)
        return Draw(noise=noise, z=z, b=assignment(z))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        raise NotImplementedError("The probability of a rounded matrix is not known.")

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_score(a, draw)

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        _, log_nu = tf.split(a, 2, axis=-1)
        by_mean, by_log_nu = draw.noise * tf.exp(-log_nu), tf.square(draw.noise) - 1
        return tf.concat([self._mean_vjp(a, by_mean), by_log_nu], axis=-1)

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        _, log_nu = tf.split(a, 2, axis=-1)
        return tf.concat([self._mean_vjp(a, h), h * tf.exp(log_nu) * draw.noise], axis=-1)

    def _mean_vjp(self, a: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        m, _ = tf.split(a, 2, axis=-1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(m)
            mean = sinkhorn(m, self.iterations)
        return tape.gradient(mean, m, output_gradients=h)

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return z

    def pathwise(self, draw: Draw, temperature: tf.Tensor) -> tf.Tensor:
        return temperature * draw.z + (1 - temperature) * tf.stop_gradient(draw.b)

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return assignment(self._z(a, tf.zeros(())))


def check_square(event_shape: tf.TensorShape, blocks: int) -> None:
    """Raises a ValueError unless the event is `blocks` square matrices side by side."""
    square = event_shape.rank >= 2 and None not in event_shape[-2:].as_list()
    if not square or event_shape[-1] != blocks * event_shape[-2]:
        width = "n" if blocks == 1 else f"{blocks} n"
        raise ValueError(
            f"expects logits of shape [batch, ..., n, {width}] with fixed n. "
            f"Received: [batch, {shown(event_shape)}]"
        )
