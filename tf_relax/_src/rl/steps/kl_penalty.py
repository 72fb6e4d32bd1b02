"""A trust region by a penalty on the KL divergence, whose weight adapts."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.rl.gradient.slopes import slopes
from tf_relax._src.rl.steps.schedulable import Schedulable
from tf_relax._src.rl.steps.trust_region import Proposal, TrustRegion
from tf_relax._src.updates import apply


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class KLPenalty(TrustRegion):
    r"""Several steps along the gradient with a penalty on the KL divergence, whose weight adapts.

    $$\langle d, a \rangle + \beta \mathrm{KL}(\pi_{\mathrm{old}} \parallel \pi)$$

    with the logits $a$ of the policy $\pi$ and the estimated gradient $d$ in them, to be descended.
    The gradient stays what it was estimated to be at the old policy, so every estimator will do;
    the penalty keeps the policy where that estimate means something. $\beta$ doubles where the KL
    divergence ends above 1.5 times the target and halves below it divided by 1.5 (Schulman et al.
    2017, section 4).

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

    papers = ("schulman2017",)
    target = Schedulable(above=True)
    steps = Schedulable(low=1, whole=True)

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
        # In the units of the objective, which is a sum over steps divided by a constant.
        steps = tf.reduce_sum(proposal.mask) / proposal.divisor
        # At the old policy the penalty has no slope.
        apply(proposal.optimizer, proposal.gradients, proposal.policy)

        def again(k: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                new, loss = proposal.evaluate()
                loss += tf.reduce_sum(proposal.descent * new)
                loss += self.beta.value * steps * proposal.kl(new)
            apply(proposal.optimizer, slopes(tape, loss, proposal.policy), proposal.policy)
            return k + 1

        one = tf.constant(1, tf.int64)
        tf.while_loop(lambda k: k < self.steps, again, (one,))
        kl = proposal.kl(proposal.logits())
        factor = tf.where(kl > 1.5 * self.target, 2.0, tf.where(kl < self.target / 1.5, 0.5, 1.0))
        self.beta.assign(tf.clip_by_value(self.beta.value * factor, 1e-4, 1e4))

    def get_config(self) -> dict[str, Any]:
        config = {"target": self.target, "steps": self.steps, "beta": self.initial_beta}
        return {**super().get_config(), **config}
