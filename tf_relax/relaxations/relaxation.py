"""The questions that every relaxation answers; estimators are written once on top of them."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Draw(NamedTuple):
    """One draw from a relaxation: ``b = H(z)`` with ``z = T(a, noise)``.

    Attributes:
        noise: the noise that made `z`. It does not depend on the logits, so the same noise can be
            pushed through other logits when a model is replayed.
        z: relaxed sample, shaped like `b`, differentiable in the logits.
        b: hard sample.
    """

    noise: tf.Tensor
    z: tf.Tensor
    b: tf.Tensor


class Relaxation(abc.ABC):
    """A distribution and the continuous one behind it.

    Everything is a pure function of tensors: there are no variables here and no Keras layers.
    `a` are logits, ``[batch, *event]``; scores and products with Jacobians keep that shape, and
    so do samples unless `sample_shape` says otherwise.

    Attributes:
        discrete: whether `b` is discrete, hence without a derivative. Otherwise ``b = z``.
        binary: whether `b` consists of independent units in {0, 1}, one per logit.
    """

    discrete: bool = True
    binary: bool = False

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of `z` and `b` for logits of a shape."""
        return logits_shape

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        """Returns all values of `b`, ``[outcomes, *event]``; `None` where they are not finite."""
        return None

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        """Returns the number of values of `b` without listing them."""
        return None

    @abc.abstractmethod
    def noise(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        """Draws noise whose distribution does not depend on the logits."""

    @abc.abstractmethod
    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        """Returns ``z = T(a, noise)`` and ``b = H(z)``."""

    @abc.abstractmethod
    def log_prob(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Returns ``log p(b | a)`` per event element."""

    @abc.abstractmethod
    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns ``d log p(b | a) / da``."""

    @abc.abstractmethod
    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns ``d log p(z | a) / da`` at fixed `z`."""

    @abc.abstractmethod
    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dz/da)^T h`` at fixed noise."""

    @abc.abstractmethod
    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        """Returns ``z~ ~ p(z | b, a)`` made from fresh noise."""

    @abc.abstractmethod
    def conditional_vjp(
        self, a: tf.Tensor, draw: Draw, z_tilde: tf.Tensor, h: tf.Tensor
    ) -> tf.Tensor:
        """Returns ``(dz~/da)^T h`` at fixed `b` and fixed noise of ``z~``."""

    @abc.abstractmethod
    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dz/da - dz~/da)^T h`` for the coupled ``z~``, whose value is `z`."""

    @abc.abstractmethod
    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns the point of the convex hull of the hard samples that stands for `z`."""

    @abc.abstractmethod
    def mean(self, a: tf.Tensor) -> tf.Tensor:
        """Returns ``E[b]``."""

    @abc.abstractmethod
    def mode(self, a: tf.Tensor) -> tf.Tensor:
        """Returns the most probable `b`."""

    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dE[b]/da)^T h`` where ``E[b]`` has a given value."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `mean_vjp`.")
