"""A trust region by clipping the ratio of probabilities, as in PPO."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax.relaxations import Draw
from tf_relax.rl.trust_region import Proposal, TrustRegion, event_sum


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
