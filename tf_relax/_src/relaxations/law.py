"""The law of every number of the noise, and samples of it that repel each other."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.noise import gumbel, open_uniform, seed_pair


class Law(abc.ABC):
    """A continuous distribution on the real line."""

    @abc.abstractmethod
    def draw(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        """Draws independent numbers; the arguments are those of `open_uniform`."""

    @abc.abstractmethod
    def reflected(self, noise: tf.Tensor) -> tf.Tensor:
        """Returns the quantile of $1 - u$ for noise that is the quantile of $u$."""

    @abc.abstractmethod
    def repelled(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns as many numbers of this law that lie far from each other, as three or more can.

        Made of the first by rotation, $u + k/K$ modulo 1 (Fishman and Huang 1983), where that can
        be computed: of any K of them one lies in every Kth of the distribution.
        """

    def antithetic(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns dependent numbers of this law in the place of independent ones.

        Two are a number and its reflection, $u$ and $1 - u$; more are `repelled`.
        """
        if len(noises) == 2:
            return [noises[0], self.reflected(noises[0])]
        return self.repelled(noises) if len(noises) > 2 else list(noises)


class Logistic(Law):
    """The logistic distribution, ``l = log u - log(1 - u)``."""

    def draw(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        u = open_uniform(shape, dtype, seed)
        return tf.math.log(u) - tf.math.log1p(-u)

    def reflected(self, noise: tf.Tensor) -> tf.Tensor:
        return -noise

    def repelled(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        others = rotated(tf.sigmoid(noises[0]), len(noises))
        return [noises[0], *(tf.math.log(u) - tf.math.log1p(-u) for u in others)]

    def exchangeable(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns as many numbers of which all pairs depend alike, by the Dirichlet copula.

        Two are a number and its reflection.
        """
        if len(noises) == 2:
            return self.antithetic(noises)
        coupled = dirichlet_copula([-tf.nn.softplus(-noise) for noise in noises])
        return [log_u - tf.math.log(-tf.math.expm1(log_u)) for log_u in coupled]


class Gumbel(Law):
    """The Gumbel distribution, ``G = -log(-log u)``; ``exp(-G)`` is exponential with rate 1."""

    def draw(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        return gumbel(shape, dtype, seed)

    def reflected(self, noise: tf.Tensor) -> tf.Tensor:
        # log(1 - u), u = exp(-exp(-G)), with all its digits in both tails.
        return -tf.math.log(-tfp.math.log1mexp(tf.exp(-noise)))

    def repelled(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        others = rotated(tf.exp(-tf.exp(-noises[0])), len(noises))
        return [noises[0], *(-tf.math.log(-tf.math.log(u)) for u in others)]


class Normal(Law):
    """The standard normal distribution."""

    def draw(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        return tf.random.stateless_normal(shape, seed_pair(seed), dtype=dtype, alg="philox")

    def reflected(self, noise: tf.Tensor) -> tf.Tensor:
        return -noise

    def repelled(self, noises: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Jointly normal, with the lowest correlation that so many can have, -1 / (K - 1).
        mean, count = tf.add_n(list(noises)) / len(noises), len(noises)
        return [(noise - mean) * (count / (count - 1)) ** 0.5 for noise in noises]


def rotated(u: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Returns ``u + k/count`` modulo 1 for k = 1 .. count - 1, within the open interval (0, 1).

    Args:
        u: uniforms.
        count: K.
    """
    step = 2.0**-53 if u.dtype == tf.float64 else 2.0**-24
    shifted = [u + k / count for k in range(1, count)]
    return [tf.clip_by_value(tf.where(v < 1, v, v - 1), step, 1 - step) for v in shifted]


def dirichlet_copula(log_u: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    r"""Returns logarithms of K dependent uniforms, ``u_k = (1 - d_k)^(K-1)``.

    ``d ~ Dirichlet(1, ..., 1)`` is made of the exponentials ``-log u``. Of all their tails the
    lower ones exclude each other best: where every ``u_k`` has to be small, none can be (Dimitriev
    and Zhou 2021, section 4).

    Args:
        log_u: logarithms of K independent uniforms.
    """
    exponentials = [-x for x in log_u]
    total, power = tf.add_n(exponentials), len(exponentials) - 1
    coupled = []
    for k, exponential in enumerate(exponentials):
        others = tf.add_n([e for j, e in enumerate(exponentials) if j != k])
        d = exponential / total
        # Whichever of d and 1 - d is small is the one that has all its digits.
        coupled.append(power * tf.where(d < 0.5, tf.math.log1p(-d), tf.math.log(others / total)))
    return coupled


LOGISTIC = Logistic()
"""The law of the noise behind binary units and sticks."""

GUMBEL = Gumbel()
"""The law of the noise behind choices among items."""

NORMAL = Normal()
"""The law of the noise of normal units."""
