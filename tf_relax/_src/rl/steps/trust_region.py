"""How far one update may move the policy."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src.estimators.citations import Cited
from tf_relax._src.relaxations import Draw, Relaxation


class Proposal(NamedTuple):
    """A gradient, and what is needed to go along it with care.

    Attributes:
        policy: the policy's variables.
        optimizer: of the policy.
        evaluate: returns the policy's logits at the states of the rollout, `[batch, logits]`, and
            what else is minimised: regularizers of the policy, and the error of a value that shares
            layers with it. Given rows and their mask, of these alone; the error is then a mean.
        old: those logits before the update.
        descent: estimate of the gradient in the logits, to be descended: entropy bonus included,
            divided by `divisor`, 0 where a row is no step.
        gradients: the same in the policy's variables, with what else is minimised.
        relaxation: of the actions.
        draw: the actions that were taken.
        advantages: ``R_t - V(s_t)``.
        entropy_weight: of the entropy bonus.
        mask: 0 where a row is no step, `[batch]`.
        divisor: what sums over steps are divided by: the number of episodes, or that of the rows
            where their number is fixed.
    """

    policy: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer
    evaluate: Callable[..., tuple[tf.Tensor, Any]]
    old: tf.Tensor
    descent: tf.Tensor
    gradients: list[tf.Tensor]
    relaxation: Relaxation
    draw: Draw
    advantages: tf.Tensor
    entropy_weight: Any
    mask: tf.Tensor
    divisor: int

    def logits(self) -> tf.Tensor:
        """Returns the policy's logits as it is now, at the states of the rollout."""
        return self.evaluate()[0]

    def kl(self, new: tf.Tensor) -> tf.Tensor:
        """Returns the mean over steps of ``KL(old || new)``."""
        return self.mean(event_sum(self.relaxation.kl(self.old, new)))

    def mean(self, per_step: tf.Tensor) -> tf.Tensor:
        """Returns the mean over those rows that are steps."""
        return tf.reduce_sum(per_step * self.mask) / tf.reduce_sum(self.mask)


class TrustRegion(keras.layers.Layer, Cited, abc.ABC):
    """Limits what an update does to the policy.

    Attributes:
        needs_ratio: whether it reweights log-probabilities, which estimators with a pathwise part
            do not consist of.
        shares: whether the policy may share layers with the value.
    """

    needs_ratio: bool = False
    shares: bool = True

    @abc.abstractmethod
    def update(self, proposal: Proposal) -> None:
        """Moves the policy's variables."""


def event_sum(x: tf.Tensor) -> tf.Tensor:
    """Sums `[batch, ...]` over what a policy chooses in one step."""
    return tf.reduce_sum(tf.reshape(x, [tf.shape(x)[0], -1]), axis=-1)
