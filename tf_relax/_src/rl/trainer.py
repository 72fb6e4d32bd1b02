"""What a trainer shows to its checks and its updates."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import tensorflow as tf

from tf_relax._src.critic import Critic
from tf_relax._src.rl.gradient.estimators import PolicyEstimator
from tf_relax._src.rl.gradient.gradient_moments import GradientMoments
from tf_relax._src.rl.gradient.squared_gradient import Policy
from tf_relax._src.rl.gradient.v_trace import VTrace
from tf_relax._src.rl.steps.trust_region import TrustRegion
from tf_relax._src.rl.world.action_space import ActionSpace
from tf_relax._src.rl.world.recurrence import Seen
from tf_relax._src.rl.world.rollout import Rollout
from tf_relax._src.surrogates import Surrogate


class Trainer(Policy, Protocol):
    """A `PolicyGradient`.

    Numbers that callbacks may change are tensors while an update is traced.

    Attributes:
        name: its name.
        estimator: of the policy gradient.
        value: state value, or `None`.
        surrogate: of the critic, or `None`.
        critic: ``c(z, s)``, or `None`.
        action_space: what the policy's output means.
        trust_region: how far an update may go, or `None`.
        reuse: how earlier rollouts are learnt from, or `None`.
        n_episodes: whole episodes per update, or `None`.
        n_steps: steps per environment and update, or `None`.
        whole_episodes: which of the two, once it is settled.
        bootstrap: what follows a time limit.
        gamma: discount per step.
        gae_lambda: of the returns, or `None`.
        entropy_weight: of the policy's entropy.
        value_weight: of the error of a value that shares layers with the policy.
        value_steps: steps of the value's optimizer per update.
        optimizer: of the policy.
        value_optimizer: of the value.
        surrogate_optimizer: of the critic.
        gradient_moments: of the policy's gradient.
        updates: how many there have been.
    """

    name: str
    estimator: PolicyEstimator
    value: keras.Model | None
    surrogate: Surrogate | None
    critic: Critic | None
    action_space: ActionSpace
    trust_region: TrustRegion | None
    reuse: VTrace | None
    n_episodes: Any
    n_steps: int | None
    whole_episodes: bool | None
    bootstrap: str | None
    gamma: Any
    gae_lambda: Any
    entropy_weight: Any
    value_weight: Any
    value_steps: Any
    optimizer: keras.optimizers.Optimizer
    value_optimizer: keras.optimizers.Optimizer
    surrogate_optimizer: keras.optimizers.Optimizer
    gradient_moments: GradientMoments
    updates: int

    @property
    def shared_variables(self) -> list[keras.Variable]: ...

    @property
    def value_variables(self) -> list[keras.Variable]: ...

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the logits of a policy that remembers nothing."""
        ...

    def values(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the state value, `[batch]`, of one that remembers nothing."""
        ...

    def seen(self, rollout: Rollout) -> Seen:
        """Returns what policy and value see of a rollout."""
        ...

    def unrolled_values(
        self, seen: Seen, successors: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the state value at all rows, and that of the observations after them."""
        ...

    def draw_noise(self, shape: Any) -> tf.Tensor:
        """Returns fresh noise of the relaxation."""
        ...
