"""A trust region by clipping the ratio of probabilities, as in PPO."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.relaxations import Draw
from tf_relax._src.rl.gradient.slopes import slopes
from tf_relax._src.rl.steps.schedulable import Fixed, Schedulable
from tf_relax._src.rl.steps.trust_region import Proposal, TrustRegion, event_sum
from tf_relax._src.updates import apply


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class Clip(TrustRegion):
    r"""Several steps on the clipped ratio, Schulman et al. (2017), equation 7; `a2c` only.

    $$\min[\rho A, \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon) A]$$

    with $\rho = \pi(a \mid s) / \pi_{\mathrm{old}}(a \mid s)$, the advantage $A$ and $\epsilon$ =
    `epsilon`. Estimators with a surrogate have a pathwise part that no ratio reweights.

    Args:
        epsilon: how far the ratio may go before its gradient is cut.
        epochs: passes over the rollout.
        minibatches: steps of the optimizer per pass, fewer if there are fewer steps in the rollout.
        normalize: whether a minibatch's advantages are brought to mean 0 and deviation 1.

    Raises:
        ValueError: for numbers that are not positive.

    Example:

    >>> Clip(epsilon=0.1).epochs
    10
    """

    papers = ("schulman2017",)
    needs_ratio = True
    epsilon = Schedulable(above=True)
    epochs = Schedulable(low=1, whole=True)
    minibatches = Fixed()
    normalize = Fixed()

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
        size = -(-batch // self.minibatches)
        steps = tf.cast(tf.reduce_sum(proposal.mask), tf.int32)
        old = self._log_prob(proposal, proposal.old, proposal.draw)

        def epoch(k: tf.Tensor) -> tf.Tensor:
            uniform = tf.random.stateless_uniform(
                [batch], tf.cast(self.seeds.next(), tf.int32), alg="philox"
            )
            # Rows that are no steps come last. Dealt out in turn, the steps fill all minibatches.
            order = tf.argsort(uniform - proposal.mask)
            order = tf.pad(order, [[0, size * self.minibatches - batch]])
            places = tf.reshape(tf.range(size * self.minibatches), [size, self.minibatches])

            def minibatch(part: tf.Tensor) -> tf.Tensor:
                chosen = tf.gather(places, part, axis=1)
                mask = tf.cast(chosen < steps, tf.float32)
                self._step(proposal, old, tf.gather(order, chosen), mask)
                return part + 1

            # An optimizer moves on a gradient of 0, too: none for minibatches that are empty.
            count = tf.minimum(steps, self.minibatches)
            tf.while_loop(lambda part: part < count, minibatch, (tf.constant(0),))
            return k + 1

        tf.while_loop(lambda k: k < self.epochs, epoch, (tf.constant(0, tf.int64),))

    def _step(self, proposal: Proposal, old: tf.Tensor, rows: tf.Tensor, mask: tf.Tensor) -> None:
        draw = Draw(*[None if x is None else tf.gather(x, rows) for x in proposal.draw])
        count = tf.reduce_sum(mask)
        advantages = tf.gather(proposal.advantages, rows)
        if self.normalize:
            centred = advantages - tf.reduce_sum(advantages * mask) / count
            variance = tf.reduce_sum(tf.square(centred) * mask) / count
            # A single one has no deviation to be divided by.
            several = centred * tf.math.rsqrt(variance + 1e-8)
            advantages = tf.where(count > 1, several, advantages)
        with tf.GradientTape() as tape:
            new, loss = proposal.evaluate(rows, mask)
            ratio = tf.exp(self._log_prob(proposal, new, draw) - tf.gather(old, rows))
            clipped = tf.clip_by_value(ratio, 1 - self.epsilon, 1 + self.epsilon)
            objective = tf.minimum(ratio * advantages, clipped * advantages)
            entropy = event_sum(proposal.relaxation.entropy(new))
            objective += proposal.entropy_weight * entropy
            loss -= tf.reduce_sum(objective * mask) / count
        apply(proposal.optimizer, slopes(tape, loss, proposal.policy), proposal.policy)

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
