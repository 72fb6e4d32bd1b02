"""What some distributions offer and others do not; estimators say which of it they need."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.impossible import bounded_choices, where_possible
from tf_relax._src.relaxations.law import Law
from tf_relax._src.relaxations.relaxation import Draw, Relaxation


class Discrete(Relaxation):
    """`b` has no derivative."""


class Continuous(Relaxation):
    """`b` is a real number with a density, and its own relaxation, $b = z$."""


class Relaxed(Relaxation):
    """There is a `z` with a density and a derivative in the logits.

    Attributes:
        initial_temperature: of `relax` in surrogates, which go on to learn it; `None` where `relax`
            has no use for one.
    """

    initial_temperature: float | None = 0.1

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        r"""Returns $\nabla_a \log p(z \mid a)$ at fixed `z`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `relaxed_score`.")

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        r"""Returns $(dz/da)^T h$ at fixed noise; by default $z = a + \mathrm{noise}$."""
        return h

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns the point near the hard samples that stands for `z`; continuous in `z`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `relax`.")

    def pathwise(self, draw: Draw, temperature: tf.Tensor) -> tf.Tensor:
        """Returns what relaxed training runs on; unlike `relax` it may jump with `b`."""
        return self.relax(draw.z, temperature)


class Conditional(Relaxed):
    r"""$p(b \mid a)$ is known, and $z \mid b$ can be drawn."""

    @abc.abstractmethod
    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        r"""Returns $\tilde z \sim p(z \mid b, a)$ made from fresh noise."""

    def conditional_vjp(
        self, a: tf.Tensor, draw: Draw, z_tilde: tf.Tensor, h: tf.Tensor
    ) -> tf.Tensor:
        r"""Returns $(d\tilde z/da)^T h$ at fixed `b` and fixed noise of $\tilde z$."""
        # z and z~ differ in nothing but what their derivatives hold fixed: at z = z~,
        # dz~/da = dz/da - (dz/da - dz~/da).
        at_z_tilde = draw._replace(z=z_tilde)
        return self.vjp(a, at_z_tilde, h) - self.delta_vjp(a, at_z_tilde, h)

    @abc.abstractmethod
    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        r"""Returns $(dz/da - d\tilde z/da)^T h$ for the coupled $\tilde z$, whose value is `z`."""


class Antithetic(Relaxation):
    """The noise consists of independent numbers of one law, so that samples can repel each other.

    Attributes:
        law: of each of them.
    """

    law: Law

    def noise(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        return self.law.draw(shape, dtype, seed)


class KnownMean(Relaxation):
    r"""$\mathbb{E}[b]$ is known."""

    @abc.abstractmethod
    def mean(self, a: tf.Tensor) -> tf.Tensor:
        r"""Returns $\mathbb{E}[b]$."""


class MeanOfLogits(KnownMean):
    r"""$d\mathbb{E}[b]/da$ is a function of $\mathbb{E}[b]$ alone."""

    @abc.abstractmethod
    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        r"""Returns $(d\mathbb{E}[b]/da)^T h$ where $\mathbb{E}[b]$ has a given value."""


class BinaryUnits(Discrete):
    """`b` consists of independent units in {0, 1}, one per logit."""

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return where_possible(-tf.abs(a), x)


class Items(Relaxation):
    """Every logit belongs to an item that can be ruled out by itself."""

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        return bounded_choices(a)

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return where_possible(-tf.abs(a), x)


class Enumerable(Discrete):
    """All that can be drawn can be listed."""

    @abc.abstractmethod
    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        """Returns all that can be drawn, `[outcomes, ...]`; `None` for several choices."""

    @abc.abstractmethod
    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        """Returns the number of outcomes without listing them."""


def num_outcomes(relaxation: Relaxation, event_shape: tf.TensorShape) -> int | None:
    """Returns how many outcomes there are, `None` where they cannot be listed."""
    if not isinstance(relaxation, Enumerable) or not event_shape.is_fully_defined():
        return None
    return relaxation.num_outcomes(event_shape)


__all__ = [
    "Antithetic",
    "BinaryUnits",
    "Conditional",
    "Continuous",
    "Discrete",
    "Enumerable",
    "Items",
    "KnownMean",
    "MeanOfLogits",
    "Relaxed",
    "num_outcomes",
]
