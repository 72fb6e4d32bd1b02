"""The questions that every relaxation answers; estimators are written once on top of them."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_relax.relaxations.impossible import bounded_choices, where_possible


class Draw(NamedTuple):
    """One draw from a relaxation: ``b = H(z)`` with ``z = T(a, noise)``.

    Attributes:
        noise: the noise that made `z`. It does not depend on the logits, so the same noise can be
            pushed through other logits when a model is replayed.
        z: relaxed sample, differentiable in the logits.
        b: hard sample, in the space that the rest of the model sees.
        trace: what the draw is scored by and `z~` is conditioned on, where that is more than `b`:
            the order in which a set was drawn, say. `None` where `b` says it all.
    """

    noise: tf.Tensor
    z: tf.Tensor
    b: tf.Tensor
    trace: Any = None


class Relaxation(abc.ABC):
    """A distribution and the continuous one behind it.

    Everything is a pure function of tensors: there are no variables here and no Keras layers.
    `a` are logits, ``[batch, *event]``; scores and products with Jacobians keep that shape. So do
    `z`, its noise and `b`, unless `relaxed_shape`, `noise_shape` and `sample_shape` say otherwise.

    Attributes:
        discrete: whether `b` is discrete, hence without a derivative. Otherwise ``b = z``.
        binary: whether `b` consists of independent units in {0, 1}, one per logit.
        has_relaxation: whether there is a `z` with a density and a derivative in the logits.
        has_conditional: whether ``p(b | a)`` is known and ``z | b`` can be drawn.
        has_mean: whether ``E[b]`` is known.
        choice_rank: how many axes of the logits, the last ones, belong to one choice; 0 for units,
            which have a logit of their own.
        has_items: whether every logit belongs to an item that can be ruled out by itself.
        supports_jit: whether XLA can compile it.
    """

    discrete: bool = True
    binary: bool = False
    has_relaxation: bool = True
    has_conditional: bool = True
    has_mean: bool = False
    choice_rank: int = 0
    has_items: bool = False
    supports_jit: bool = True

    def check_event(self, event_shape: tf.TensorShape) -> None:  # noqa: B027
        """Raises a ValueError that says which event shape of the logits is expected."""

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        """Returns logits that all other methods can take, from those that a model computed.

        Items that cannot be drawn, whose logits are -inf or as good as that, get the logit
        `IMPOSSIBLE`; where nothing can be drawn, nothing is: `b` is zero there.
        """
        return bounded_choices(a) if self.has_items else a

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns `x`, logits or z, as a network should see them: 0 where nothing is random."""
        if self.has_items or self.binary:
            return where_possible(-tf.abs(a), x)
        return x

    def relaxed_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of `z` for logits of a shape."""
        return logits_shape

    def noise_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of the noise of `z`, and of that of `z~`."""
        return self.relaxed_shape(logits_shape)

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of `b`."""
        return self.relaxed_shape(logits_shape)

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        """Returns all that can be drawn, ``[outcomes, ...]``; `None` where that is not finite."""
        return None

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        """Returns the number of outcomes without listing them."""
        return None

    def outcome(self, draw: Draw) -> tf.Tensor:
        """Returns which of the `outcomes` was drawn, `[batch, ...]`."""
        return draw.b

    def forced(self, a: tf.Tensor, outcome: tf.Tensor) -> Draw:
        """Returns the draw that had this outcome, `[batch, ...]`, without its noise."""
        b = tf.cast(outcome, a.dtype)
        return Draw(noise=b, z=b, b=b)

    @abc.abstractmethod
    def noise(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        """Draws noise whose distribution does not depend on the logits."""

    @abc.abstractmethod
    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        """Returns ``z = T(a, noise)`` and ``b = H(z)``."""

    @abc.abstractmethod
    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns the log-probability of the outcome of a draw; its sum over the event counts."""

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns a differentiable function of `y` that stands in for `log_prob` at ``relax(z)``.

        Where it is linear in `y` it is exact at hard samples. What is impossible or certain has no
        part in it, so that its derivative is a number of ordinary size.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `relaxed_log_prob`.")

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor | None:
        """Returns ``KL(q || p)`` per event element, both of this kind; `None` if it is unknown."""
        return None

    def entropy(self, a: tf.Tensor) -> tf.Tensor | None:
        """Returns the entropy per event element; `None` if it is unknown."""
        return None

    def uniform_logits(self, event_shape: tf.TensorShape) -> np.ndarray:
        """Returns the logits that favour no choice over another."""
        return np.zeros(event_shape)

    @abc.abstractmethod
    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns ``d log p(b | a) / da``."""

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns ``d log p(z | a) / da`` at fixed `z`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `relaxed_score`.")

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dz/da)^T h`` at fixed noise; by default ``z = a + noise``."""
        return h

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        """Returns ``z~ ~ p(z | b, a)`` made from fresh noise."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `conditional`.")

    def conditional_vjp(
        self, a: tf.Tensor, draw: Draw, z_tilde: tf.Tensor, h: tf.Tensor
    ) -> tf.Tensor:
        """Returns ``(dz~/da)^T h`` at fixed `b` and fixed noise of ``z~``."""
        # z and z~ differ in nothing but what their derivatives hold fixed: at z = z~,
        # dz~/da = dz/da - (dz/da - dz~/da).
        at_z_tilde = draw._replace(z=z_tilde)
        return self.vjp(a, at_z_tilde, h) - self.delta_vjp(a, at_z_tilde, h)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dz/da - dz~/da)^T h`` for the coupled ``z~``, whose value is `z`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `delta_vjp`.")

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns the point near the hard samples that stands for `z`; continuous in `z`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `relax`.")

    def pathwise(self, draw: Draw, temperature: tf.Tensor) -> tf.Tensor:
        """Returns what relaxed training runs on; unlike `relax` it may jump with `b`."""
        return self.relax(draw.z, temperature)

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        """Returns ``E[b]``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `mean`.")

    def mean_vjp(self, mean: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        """Returns ``(dE[b]/da)^T h`` where ``E[b]`` has a given value."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `mean_vjp`.")

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        """Returns the most probable `b`, or what a draw without noise gives."""
        return self.sample(a, tf.zeros_like(a)).b

    def index(self, draw: Draw) -> tf.Tensor:
        """Returns `b` as indices into its last axis, int32; -1 where nothing was chosen."""
        index = tf.argmax(draw.b, axis=-1, output_type=tf.int32)
        return tf.where(tf.reduce_any(draw.b > 0, axis=-1), index, -1)
