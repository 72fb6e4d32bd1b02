"""Earlier rollouts, reweighted to what the policy is now."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src.estimators.citations import Cited
from tf_relax._src.rl.gradient.returns import discounted_sums


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class VTrace(Cited):
    r"""Learns from earlier rollouts as well, by V-trace (Espeholt et al. 2018, section 4); biased.

    With the ratio $w = \pi(a \mid s) / \mu(a \mid s)$, $\mu$ the policy that acted, clipped to
    $\rho = \min(w, \bar \rho)$ and $c = \lambda \min(w, \bar c)$, $\bar \rho$ being `max_rho` and
    $\bar c$ `max_c`, the value is regressed on

    $$v_t = V(s_t) + \sum_{k \ge t} \gamma^{k - t} (\prod_{t \le i < k} c_i) \rho_k \delta_k$$

    with $\delta_k = r_k + \gamma V(s_{k+1}) - V(s_k)$, and the policy follows

    $$\rho_t [r_t + \gamma v_{t+1} - V(s_t)] \nabla \log \pi(a_t \mid s_t)$$

    With $\lambda < 1$, of which the paper knows nothing there,
    $V(s_{t+1}) + \lambda [v_{t+1} - V(s_{t+1})]$ takes the place of $v_{t+1}$, which makes it the
    generalised advantage where the policies are the same.

    After every update each remembered rollout makes one more, the latest first. Their gradient is
    biased: states are those that earlier policies came to, and clipped weights favour what they
    did. `a2c` only. What is remembered is not saved with a trainer.

    Args:
        rollouts: how many are remembered.
        max_rho: where the weights of steps are clipped.
        max_c: where the weights of what follows are clipped.

    Raises:
        ValueError: for numbers that are not positive.

    Example:

    >>> VTrace(rollouts=2).max_rho
    1.0
    """

    papers = ("espeholt2018",)

    def __init__(self, rollouts: int = 3, max_rho: float = 1.0, max_c: float = 1.0):
        if rollouts < 1 or max_rho <= 0 or max_c <= 0:
            raise ValueError(
                "VTrace: `rollouts` must be at least 1, `max_rho` and `max_c` positive. Received: "
                f"rollouts={rollouts}, max_rho={max_rho}, max_c={max_c}"
            )
        self.rollouts, self.max_rho, self.max_c = rollouts, max_rho, max_c

    def get_config(self) -> dict[str, Any]:
        return {"rollouts": self.rollouts, "max_rho": self.max_rho, "max_c": self.max_c}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VTrace:
        return cls(**config)

    def __repr__(self) -> str:
        config = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"VTrace({config})"

    def __call__(
        self,
        ratio: tf.Tensor,
        rewards: tf.Tensor,
        values: tf.Tensor,
        next_values: tf.Tensor,
        done: tf.Tensor,
        gamma: Any,
        gae_lambda: Any,
    ) -> Reweighted:
        r"""Returns targets and advantages; all arguments are `[steps, trajectories]`.

        Args:
            ratio: $\pi(a \mid s) / \mu(a \mid s)$.
            rewards: received after the action.
            values: $V(s_t)$.
            next_values: $V(s_{t+1})$; 0 after a terminal state.
            done: 1.0 where an episode ends after the step.
            gamma: discount per step.
            gae_lambda: $\lambda$; `None` is 1.
        """
        rho = tf.minimum(ratio, self.max_rho)
        lam = (1.0 if gae_lambda is None else gae_lambda) * (1 - done)
        # After the last row nothing was recorded.
        goes_on = tf.concat([lam[:-1], tf.zeros_like(lam[-1:])], axis=0)
        surprise = rho * (rewards + gamma * next_values - values)
        sums = discounted_sums(surprise, gamma * goes_on * tf.minimum(ratio, self.max_c))
        later = tf.concat([sums[1:], tf.zeros_like(sums[:1])], axis=0) * goes_on
        advantages = rho * (rewards + gamma * (next_values + later) - values)
        return Reweighted(values + sums, advantages)


class Reweighted(NamedTuple):
    """What V-trace makes of a rollout, `[steps, trajectories]`.

    Attributes:
        targets: ``v_t`` of the value.
        advantages: ``rho_t [r_t + gamma v_{t+1} - V(s_t)]``.
    """

    targets: tf.Tensor
    advantages: tf.Tensor
