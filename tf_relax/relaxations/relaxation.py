"""The questions that every relaxation answers; estimators are written once on top of them."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import tensorflow as tf


class Draw(NamedTuple):
    """One draw from a relaxation: ``b = H(z)`` with ``z = T(a, noise)``.

    Attributes:
        noise: the noise that made `z`. It does not depend on the logits, so the same noise can be
            pushed through other logits when a model is replayed.
        z: relaxed sample, shaped like the logits, differentiable in them.
        b: hard sample, shaped like the logits.
    """

    noise: tf.Tensor
    z: tf.Tensor
    b: tf.Tensor


class Relaxation(abc.ABC):
    """A discrete distribution with a continuous one behind it.

    Everything is a pure function of tensors: there are no variables here and no Keras layers.
    `a` are logits, ``[batch, *event]``; all results keep that shape.
    """

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
