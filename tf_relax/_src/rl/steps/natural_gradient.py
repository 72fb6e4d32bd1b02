"""A trust region by the natural gradient: a step of a given KL divergence."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.rl.gradient.slopes import flatten, slopes
from tf_relax._src.rl.steps.schedulable import Fixed, Schedulable
from tf_relax._src.rl.steps.trust_region import Proposal, TrustRegion


class _Fisher(tf.linalg.LinearOperator):
    """``J^T M J + damping``, `M` the curvature of the KL divergence in the logits."""

    def __init__(self, proposal: Proposal, damping: Any):
        self.proposal = proposal
        self.damping = damping
        self.size = sum(math.prod(variable.shape) for variable in proposal.policy)
        super().__init__(
            dtype=tf.float32,
            is_non_singular=True,
            is_self_adjoint=True,
            is_positive_definite=True,
            is_square=True,
        )

    def _shape(self) -> tf.TensorShape:
        return tf.TensorShape([self.size, self.size])

    def _shape_tensor(self) -> tf.Tensor:
        return tf.constant([self.size, self.size])

    def _matmul(self, x: tf.Tensor, adjoint: bool = False, adjoint_arg: bool = False) -> tf.Tensor:
        (vector,) = tf.unstack(x, 1, axis=-1)
        policy = self.proposal.policy
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                kl = self.proposal.kl(self.proposal.logits())
            slope = flatten(slopes(inner, kl, policy))
            along = tf.reduce_sum(slope * tf.stop_gradient(vector))
        return (flatten(slopes(outer, along, policy)) + self.damping * vector)[:, tf.newaxis]


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class NaturalGradient(TrustRegion):
    r"""A step along $F^{-1} g$ of a given KL divergence, Schulman et al. (2015), appendix C.

    $F$ is the Fisher information of the policy over the states of the rollout, and the system is
    solved by conjugate gradients. The step has $\mathrm{KL}(\mathrm{old} \parallel \mathrm{new})$
    equal to `max_kl` to second order, and is shortened while the divergence exceeds it. The
    policy's optimizer is not used. Every estimator will do, as its gradient is used once, where it
    was taken.

    Args:
        max_kl: mean KL divergence per step, in nats.
        damping: added to `F`.
        iterations: of conjugate gradients.

    Raises:
        ValueError: for numbers that are not positive.

    Example:

    >>> NaturalGradient(max_kl=0.02).iterations
    10
    """

    papers = ("kakade2001", "schulman2015")
    shares = False
    max_kl = Schedulable(above=True)
    damping = Schedulable(above=True)
    iterations = Fixed()

    def __init__(
        self, max_kl: float = 0.01, damping: float = 0.1, iterations: int = 10, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if max_kl <= 0 or damping <= 0 or iterations < 1:
            raise ValueError(
                "NaturalGradient: `max_kl` and `damping` must be positive and `iterations` at "
                f"least 1. Received: max_kl={max_kl}, damping={damping}, iterations={iterations}"
            )
        self.max_kl, self.damping, self.iterations = max_kl, damping, iterations

    def update(self, proposal: Proposal) -> None:
        fisher = _Fisher(proposal, self.damping)
        direction = -flatten(proposal.gradients)
        # Its length does not matter, and may be small.
        direction /= tf.maximum(tf.norm(direction), 1e-30)
        solution = tf.linalg.experimental.conjugate_gradient(
            fisher, direction, max_iter=self.iterations
        ).x
        # 1/2 size^2 x^T F x = max_kl
        curvature = tf.reduce_sum(solution * tf.linalg.matvec(fisher, solution))
        size = tf.sqrt(2 * self.max_kl / tf.maximum(curvature, 1e-12))
        start = [tf.identity(variable.value) for variable in proposal.policy]
        step = unflatten(size * solution, start)

        def move(fraction: tf.Tensor) -> tf.Tensor:
            for variable, value, change in zip(proposal.policy, start, step, strict=True):
                variable.assign(value + fraction * change)
            return proposal.kl(proposal.logits())

        def shorten(fraction: tf.Tensor, kl: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # KL grows with the square; halving at once would often leave a quarter of it.
            fraction *= tf.maximum(0.5, 0.95 * tf.sqrt(self.max_kl / kl))
            return fraction, move(fraction)

        one = tf.constant(1.0)
        tf.while_loop(
            lambda fraction, kl: kl > self.max_kl * 1.01,
            shorten,
            (one, move(one)),
            maximum_iterations=10,
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            "max_kl": self.max_kl,
            "damping": self.damping,
            "iterations": self.iterations,
        }
        return {**super().get_config(), **config}


def unflatten(vector: tf.Tensor, like: list[tf.Tensor]) -> list[tf.Tensor]:
    """Undoes `flatten`."""
    parts = tf.split(vector, [x.shape.num_elements() for x in like])
    return [tf.reshape(part, x.shape) for part, x in zip(parts, like, strict=True)]
