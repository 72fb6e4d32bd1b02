"""How far one update may move the policy."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax.relaxations import Draw, Relaxation


class Proposal(NamedTuple):
    """A gradient, and what is needed to go along it with care.

    Attributes:
        policy: the policy's variables.
        optimizer: of the policy.
        logits: evaluates the policy at the states of the rollout, or at some rows of them,
            `[batch, logits]`.
        old: those logits before the update.
        descent: estimate of the gradient in the logits, to be descended: entropy bonus included,
            averaged over trajectories, 0 where a row is no step.
        gradients: the same in the policy's variables.
        relaxation: of the actions.
        draw: the actions that were taken.
        advantages: ``R_t - V(s_t)``.
        entropy_weight: of the entropy bonus.
        mask: 0 where a row is no step, `[batch]`.
        trajectories: how many there are.
    """

    policy: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer
    logits: Callable[..., tf.Tensor]
    old: tf.Tensor
    descent: tf.Tensor
    gradients: list[tf.Tensor]
    relaxation: Relaxation
    draw: Draw
    advantages: tf.Tensor
    entropy_weight: float
    mask: tf.Tensor
    trajectories: int

    def kl(self, new: tf.Tensor) -> tf.Tensor:
        """Returns the mean over steps of ``KL(old || new)``."""
        return self.mean(event_sum(self.relaxation.kl(self.old, new)))

    def mean(self, per_step: tf.Tensor) -> tf.Tensor:
        """Returns the mean over those rows that are steps."""
        return tf.reduce_sum(per_step * self.mask) / tf.reduce_sum(self.mask)


class TrustRegion(keras.layers.Layer, abc.ABC):
    """Limits what an update does to the policy.

    Attributes:
        needs_ratio: whether it reweights log-probabilities, which estimators with a pathwise part
            do not consist of.
    """

    needs_ratio: bool = False

    @abc.abstractmethod
    def update(self, proposal: Proposal) -> None:
        """Moves the policy's variables."""


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class KLPenalty(TrustRegion):
    r"""Several steps on ``<descent, logits> + beta KL(old || new)``, with ``beta`` adapted.

    The gradient stays what it was estimated to be at the old policy, so every estimator will do;
    the penalty keeps the policy where that estimate means something. ``beta`` doubles where the
    KL divergence ends above 1.5 times the target and halves below it divided by 1.5 (Schulman et
    al. 2017, section 4).

    Args:
        target: mean KL divergence per step to aim at, in nats.
        steps: steps of the policy's optimizer per update.
        beta: where the weight of the penalty starts.

    Raises:
        ValueError: for a target that is not positive, or no steps.

    Example:

    >>> KLPenalty(target=0.02).steps
    5
    """

    def __init__(self, target: float = 0.01, steps: int = 5, beta: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        if target <= 0 or steps < 1 or beta <= 0:
            raise ValueError(
                "KLPenalty: `target` and `beta` must be positive and `steps` at least 1. Received: "
                f"target={target}, steps={steps}, beta={beta}"
            )
        self.target, self.steps, self.initial_beta = target, steps, beta
        self.beta = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(beta),
            trainable=False,
            name="beta",
        )

    def update(self, proposal: Proposal) -> None:
        per_trajectory = tf.reduce_sum(proposal.mask) / proposal.trajectories
        for step in range(self.steps):
            gradients = proposal.gradients  # at the old policy the penalty has no slope
            if step:
                with tf.GradientTape() as tape:
                    new = proposal.logits()
                    # In the units of the objective, which is a sum over the steps of a trajectory.
                    penalty = self.beta.value * per_trajectory * proposal.kl(new)
                    loss = tf.reduce_sum(proposal.descent * new) + penalty
                gradients = tape.gradient(loss, proposal.policy)
            proposal.optimizer.apply(gradients, proposal.policy)
        kl = proposal.kl(proposal.logits())
        factor = tf.where(kl > 1.5 * self.target, 2.0, tf.where(kl < self.target / 1.5, 0.5, 1.0))
        self.beta.assign(tf.clip_by_value(self.beta.value * factor, 1e-4, 1e4))

    def get_config(self) -> dict[str, Any]:
        config = {"target": self.target, "steps": self.steps, "beta": self.initial_beta}
        return {**super().get_config(), **config}


class _Fisher(tf.linalg.LinearOperator):
    """``J^T M J + damping``, `M` the curvature of the KL divergence in the logits."""

    def __init__(self, proposal: Proposal, damping: float):
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
            slope = flatten(inner.gradient(kl, policy))
            along = tf.reduce_sum(slope * tf.stop_gradient(vector))
        return (flatten(outer.gradient(along, policy)) + self.damping * vector)[:, tf.newaxis]


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class NaturalGradient(TrustRegion):
    r"""A step along ``F^-1 g`` of a given KL divergence, Schulman et al. (2015), appendix C.

    `F` is the Fisher information of the policy over the states of the rollout, and the system is
    solved by conjugate gradients. The step has ``KL(old || new) = max_kl`` to second order, and is
    shortened while the divergence exceeds it. The policy's optimizer is not used. Every estimator
    will do, as its gradient is used once, where it was taken.

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


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class Clip(TrustRegion):
    r"""Several steps on the clipped ratio, Schulman et al. (2017), equation 7; `a2c` only.

    ``min[rho A, clip(rho, 1 - epsilon, 1 + epsilon) A]`` with ``rho = pi(a | s) / pi_old(a | s)``.
    Estimators with a surrogate have a pathwise part that no ratio reweights.

    Args:
        epsilon: how far the ratio may go before its gradient is cut.
        epochs: passes over the rollout.
        minibatches: steps of the optimizer per pass.
        normalize: whether a minibatch's advantages are brought to mean 0 and deviation 1.

    Raises:
        ValueError: for numbers that are not positive.

    Example:

    >>> Clip(epsilon=0.1).epochs
    10
    """

    needs_ratio = True

    def __init__(
        self,
        epsilon: float = 0.2,
        epochs: int = 10,
        minibatches: int = 4,
        normalize: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if epsilon <= 0 or epochs < 1 or minibatches < 1:
            raise ValueError(
                "Clip: `epsilon` must be positive, `epochs` and `minibatches` at least 1. "
                f"Received: epsilon={epsilon}, epochs={epochs}, minibatches={minibatches}"
            )
        self.epsilon, self.epochs, self.minibatches = epsilon, epochs, minibatches
        self.normalize = normalize
        self.seeds = keras.random.SeedGenerator(seed=0)

    def update(self, proposal: Proposal) -> None:
        batch = proposal.mask.shape[0]
        size = max(batch // self.minibatches, 1)
        old = self._log_prob(proposal, proposal.old, proposal.draw)

        def epoch(k: tf.Tensor) -> tf.Tensor:
            uniform = tf.random.stateless_uniform(
                [batch], tf.cast(self.seeds.next(), tf.int32), alg="philox"
            )
            # Rows that are no steps come last, and fall into minibatches of weight 0.
            order = tf.argsort(uniform - proposal.mask)
            for part in range(batch // size):
                self._step(proposal, old, order[part * size : (part + 1) * size])
            return k + 1

        tf.while_loop(lambda k: k < self.epochs, epoch, (tf.constant(0),))

    def _step(self, proposal: Proposal, old: tf.Tensor, rows: tf.Tensor) -> None:
        draw = Draw(*[None if x is None else tf.gather(x, rows) for x in proposal.draw])
        mask = tf.gather(proposal.mask, rows)
        count = tf.maximum(tf.reduce_sum(mask), 1.0)
        advantages = tf.gather(proposal.advantages, rows)
        if self.normalize:
            advantages -= tf.reduce_sum(advantages * mask) / count
            variance = tf.reduce_sum(tf.square(advantages) * mask) / count
            advantages *= tf.math.rsqrt(variance + 1e-8)
        with tf.GradientTape() as tape:
            new = proposal.logits(rows)
            ratio = tf.exp(self._log_prob(proposal, new, draw) - tf.gather(old, rows))
            clipped = tf.clip_by_value(ratio, 1 - self.epsilon, 1 + self.epsilon)
            objective = tf.minimum(ratio * advantages, clipped * advantages)
            entropy = event_sum(proposal.relaxation.entropy(new))
            objective += proposal.entropy_weight * entropy
            loss = -tf.reduce_sum(objective * mask) / count
        proposal.optimizer.apply(tape.gradient(loss, proposal.policy), proposal.policy)

    def _log_prob(self, proposal: Proposal, logits: tf.Tensor, draw: Draw) -> tf.Tensor:
        return event_sum(proposal.relaxation.log_prob(logits, draw))

    def get_config(self) -> dict[str, Any]:
        config = {
            "epsilon": self.epsilon,
            "epochs": self.epochs,
            "minibatches": self.minibatches,
            "normalize": self.normalize,
        }
        return {**super().get_config(), **config}


def event_sum(x: tf.Tensor) -> tf.Tensor:
    """Sums `[batch, ...]` over what a policy chooses in one step."""
    return tf.reduce_sum(tf.reshape(x, [tf.shape(x)[0], -1]), axis=-1)


def flatten(tensors: list[Any]) -> tf.Tensor:
    """Returns all entries as one vector."""
    return tf.concat([tf.reshape(x, [-1]) for x in tensors], axis=0)


def unflatten(vector: tf.Tensor, like: list[tf.Tensor]) -> list[tf.Tensor]:
    """Undoes `flatten`."""
    parts = tf.split(vector, [x.shape.num_elements() for x in like])
    return [tf.reshape(part, x.shape) for part, x in zip(parts, like, strict=True)]
