"""The questions that every relaxation answers; estimators are written once on top of them."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Draw(NamedTuple):
    r"""One draw from a relaxation: $b = H(z)$ with $z = T(a, \mathrm{noise})$.

    Attributes:
        noise: the noise that made `z`. It does not depend on the logits, so the same noise can be
            pushed through other logits when a model is replayed.
        z: relaxed sample, differentiable in the logits.
        b: hard sample, in the space that the rest of the model sees.
        trace: what the draw is scored by and $\tilde z$ is conditioned on, where that is more than
            `b`: the order in which a set was drawn, say. `None` where `b` says it all.
    """

    noise: tf.Tensor
    z: tf.Tensor
    b: tf.Tensor
    trace: Any = None


class Relaxation(abc.ABC):
    """A distribution and the continuous one behind it.

    Everything is a pure function of tensors: there are no variables here and no Keras layers. `a`
    are logits, `[batch, *event]`; scores and products with Jacobians keep that shape. So do `z`,
    its noise and `b`, unless `relaxed_shape`, `noise_shape` and `sample_shape` say otherwise.

    What not every distribution can answer is asked of the classes in `capabilities`.

    Attributes:
        choice_rank: how many axes of the logits, the last ones, belong to one choice; 0 for units,
            which have a logit of their own.
        supports_jit: whether XLA can compile it.
    """

    choice_rank: int = 0
    supports_jit: bool = True

    def for_shape(self, logits_shape: tf.TensorShape, dtype: Any = tf.float32) -> Relaxation:
        """Returns the relaxation of logits of a shape: this one, unless that depends on it."""
        return self

    def check_event(self, event_shape: tf.TensorShape) -> None:  # noqa: B027
        """Raises a ValueError that says which event shape of the logits is expected."""

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        """Returns logits that all other methods can take, from those that a model computed.

        Items that cannot be drawn, whose logits are -inf or as good as that, get the logit
        `IMPOSSIBLE`; where nothing can be drawn, nothing is: `b` is zero there.
        """
        return a

    def shown(self, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns `x`, logits or z, as a network should see them: 0 where nothing is random."""
        return x

    def relaxed_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of `z` for logits of a shape."""
        return logits_shape

    def noise_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        r"""Returns the shape of the noise of `z`, and of that of $\tilde z$."""
        return self.relaxed_shape(logits_shape)

    def sample_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        """Returns the shape of `b`."""
        return self.relaxed_shape(logits_shape)

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
        r"""Returns $z = T(a, \mathrm{noise})$ and $b = H(z)$."""

    @abc.abstractmethod
    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Returns the log-probability of the outcome of a draw; its sum over the event counts."""

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Returns a differentiable function of `y` that stands in for `log_prob` at `relax(z, t)`.

        Where it is linear in `y` it is exact at hard samples. What is impossible or certain has no
        part in it, so that its derivative is a number of ordinary size.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `relaxed_log_prob`.")

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor | None:
        r"""Returns $\mathrm{KL}(q \parallel p)$ per event element; `None` if it is unknown.

        Both distributions are of this kind.
        """
        return None

    def entropy(self, a: tf.Tensor) -> tf.Tensor | None:
        """Returns the entropy per event element; `None` if it is unknown."""
        return None

    def uniform_logits(self, event_shape: tf.TensorShape) -> np.ndarray:
        """Returns the logits that favour no choice over another."""
        return np.zeros(event_shape)

    @abc.abstractmethod
    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        r"""Returns $\nabla_a \log p(b \mid a)$."""

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        """Returns the most probable `b`, or what a draw without noise gives."""
        return self.sample(a, tf.zeros_like(a)).b

    def index(self, draw: Draw) -> tf.Tensor:
        """Returns `b` as indices into its last axis, int32; -1 where nothing was chosen."""
        index = tf.argmax(draw.b, axis=-1, output_type=tf.int32)
        return tf.where(tf.reduce_any(draw.b > 0, axis=-1), index, -1)
